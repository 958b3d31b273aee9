//! Rights while the vault runs: a policy's types, purposes and tenants at every way to a record, changes that the next
//! call sees, files that are refused; and `lethed policy`.

mod command;
mod load;
mod tail;

use std::time::Duration;

use lethe::authz::{BUILT_IN_POLICY, Policy};
use lethe::client::Client;
use lethe::proto::{admin, v1};
use tonic::{Code, Status, Streaming};

use crate::live::{Live, create, customer, get, new_customer, shown, text, texts};
use crate::peer::in_time;

const DENIED: &str = "the identity has no right to this";

/// A daemon with the tenant `shop` and its types `customer` and `note`, whose configuration names `policy.cedar`.
struct Scene {
    live: Live,
    /// The configuration as it was made.
    config: String,
}

impl Scene {
    async fn start() -> Self {
        let live = Live::start().await;
        live.furnish("shop").await;
        let request = v1::CreateSchemaRequest {
            parent: "tenants/shop".into(),
            schema_id: "note".into(),
            schema: Some(customer()),
        };
        live.client("operator").await.schemas().create_schema(request).await.unwrap();
        let config = std::fs::read_to_string(live.dir.path().join("v/lethed.toml")).unwrap();
        let scene = Self { live, config };
        scene.put("policy.cedar", BUILT_IN_POLICY);
        scene.configure("");
        assert!(scene.reloads().await, "{:?}", scene.warnings().await);
        scene
    }

    /// As writers should: the whole file takes its place at once.
    fn put(&self, name: &str, text: &str) {
        let dir = self.live.dir.path().join("v");
        std::fs::write(dir.join("fresh"), text).unwrap();
        std::fs::rename(dir.join("fresh"), dir.join(name)).unwrap();
    }

    /// The policy that comes with the vault, and more.
    fn add(&self, more: &str) {
        self.put("policy.cedar", &format!("{BUILT_IN_POLICY}\n{more}\n"));
    }

    fn configure(&self, more: &str) {
        let policy = "\n[policy]\nfile = \"policy.cedar\"\n";
        self.put("lethed.toml", &format!("{}{policy}{more}", self.config));
    }

    async fn status(&self) -> admin::GetStatusResponse {
        let auditor = self.live.client("auditor").await;
        auditor.vault().get_status(admin::GetStatusRequest {}).await.unwrap().into_inner()
    }

    async fn warnings(&self) -> Vec<String> {
        self.status().await.warnings
    }

    async fn counts(&self) -> (u64, u64) {
        let counters = self.status().await.counters;
        (counters["policy_reloads"], counters["policy_reloads_refused"])
    }

    /// Asks for the files to be taken, and waits for the verdict: whether they were.
    async fn reloads(&self) -> bool {
        let before = self.counts().await;
        self.live.reload.notify_one();
        self.verdict_after(before).await
    }

    async fn verdict_after(&self, before: (u64, u64)) -> bool {
        in_time(async {
            loop {
                let now = self.counts().await;
                if now != before {
                    return now.0 > before.0;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// A record of each type, with names.
    async fn fill(&self) -> (String, String) {
        let application = self.live.client("application").await;
        let kept = create(&application, "shop", &[("email", "c@example.org"), ("city", "Rome")]);
        let kept = kept.await.name;
        let made = application.records().create_record(new_note("n@example.org")).await;
        (kept, made.unwrap().into_inner().record.unwrap().name)
    }
}

fn new_note(email: &str) -> v1::CreateRecordRequest {
    let mut request = new_customer("shop", &[("email", email), ("city", "Rome")]);
    request.record.as_mut().unwrap().schema = "tenants/shop/schemas/note".into();
    request
}

fn denied<T>(outcome: Result<T, Status>) -> Status {
    let status = outcome.err().expect("it was allowed");
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, DENIED));
    assert!(status.details().is_empty(), "{status:?}");
    status
}

fn update(name: &str) -> v1::UpdateRecordRequest {
    let record =
        v1::Record { name: name.into(), fields: texts(&[("city", "Oslo")]), ..Default::default() };
    v1::UpdateRecordRequest { record: Some(record), ..Default::default() }
}

fn find(rtype: &str) -> v1::FindRecordsRequest {
    v1::FindRecordsRequest {
        schema: format!("tenants/shop/schemas/{rtype}"),
        field: "city".into(),
        value: Some(text("Rome")),
        ..Default::default()
    }
}

fn list(schema: &str) -> v1::ListRecordsRequest {
    let (parent, schema) = ("tenants/shop".to_owned(), schema.to_owned());
    v1::ListRecordsRequest { parent, schema, ..Default::default() }
}

async fn exported(client: &Client) -> Vec<String> {
    let request = v1::ExportRecordsRequest { parent: "tenants/shop".into(), ..Default::default() };
    let mut stream = client.records().export_records(request).await.unwrap().into_inner();
    let mut names = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        names.extend(part.records.into_iter().map(|r| r.name));
    }
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_that_a_policy_forbids_is_out_of_reach_on_every_way_to_it() {
    let scene = Scene::start().await;
    let (kept, note) = scene.fill().await;
    let application = scene.live.client("application").await;
    let erased = application.records().create_record(new_note("e@example.org")).await.unwrap();
    let erased = erased.into_inner().record.unwrap().name;
    let erase = |name: &str| v1::EraseRecordRequest { name: name.into(), ..Default::default() };
    application.records().erase_record(erase(&erased)).await.unwrap();
    let repeated = v1::CreateRecordRequest {
        request_id: lethe::client::request_id(),
        ..new_note("again@example.org")
    };
    application.records().create_record(repeated.clone()).await.unwrap();
    scene.add("forbid (principal, action, resource in RecordType::\"note\");");
    assert!(scene.reloads().await);

    let mut records = application.records();
    denied(get(&application, &note).await);
    denied(get(&application, &erased).await);
    let names = |names: &[&String]| names.iter().map(|n| (*n).clone()).collect::<Vec<_>>();
    let batch = |all: &[&String]| v1::BatchGetRecordsRequest {
        parent: "tenants/shop".into(),
        names: names(all),
        ..Default::default()
    };
    denied(records.batch_get_records(batch(&[&kept, &note])).await);
    denied(records.list_records(list("tenants/shop/schemas/note")).await);
    denied(records.list_records(list("tenants/shop/schemas/note")).await);
    denied(records.find_records(find("note")).await);
    denied(records.create_record(new_note("x@example.org")).await);
    denied(records.create_record(repeated).await);
    denied(records.update_record(update(&note)).await);
    denied(records.erase_record(erase(&note)).await);
    denied(records.erase_record(erase(&erased)).await);
    let both = v1::BatchEraseRecordsRequest {
        parent: "tenants/shop".into(),
        names: names(&[&kept, &note]),
        reason: 0,
    };
    denied(records.batch_erase_records(both).await);
    let several = v1::BatchCreateRecordsRequest {
        parent: "tenants/shop".into(),
        requests: vec![
            new_customer("shop", &[("email", "y@example.org")]),
            new_note("z@example.org"),
        ],
    };
    denied(records.batch_create_records(several).await);
    let bucket = admin::EraseBucketRequest {
        schema: "tenants/shop/schemas/note".into(),
        expire_date: "2999-01-01".into(),
        reason: 0,
    };
    denied(scene.live.client("operator").await.vault().erase_bucket(bucket).await);
    let request = v1::ExportRecordsRequest {
        parent: "tenants/shop".into(),
        schema: "tenants/shop/schemas/note".into(),
        ..Default::default()
    };
    let refused = match records.export_records(request).await {
        Ok(stream) => stream.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    denied(refused);

    // What is not named is left out.
    let listed = records.list_records(list("")).await.unwrap().into_inner();
    let listed: Vec<_> = listed.records.into_iter().map(|r| r.name).collect();
    assert_eq!(listed, [kept.as_str()]);
    assert_eq!(exported(&application).await, [kept.as_str()]);
    // And the other type is as it was, the record that a batch named beside it too.
    let found = records.find_records(find("customer")).await.unwrap().into_inner();
    assert_eq!(found.records.len(), 1);
    records.batch_get_records(batch(&[&kept])).await.unwrap();
    records.update_record(update(&kept)).await.unwrap();

    // A subject goes with all that is about it, by the right to erase subjects.
    scene.add("");
    assert!(scene.reloads().await);
    let subject = get(&application, &note).await.unwrap().subject;
    scene.add("forbid (principal, action, resource in RecordType::\"note\");");
    assert!(scene.reloads().await);
    let request = v1::EraseSubjectRequest { name: subject, reason: 0 };
    let gone = application.subjects().erase_subject(request).await.unwrap().into_inner();
    assert_eq!(gone.record_receipts[0].name, note);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_tells_of_the_records_that_are_out_of_reach_and_takes_the_others() {
    let scene = Scene::start().await;
    scene.add("forbid (principal, action == Action::\"CreateRecord\", resource == Records::\"shop/note\");");
    assert!(scene.reloads().await);
    let application = scene.live.client("application").await;
    use v1::import_records_request::Message;
    let start =
        v1::ImportStart { parent: "tenants/shop".into(), import_id: lethe::client::request_id() };
    let records = [new_customer("shop", &[("email", "i@example.org")]), new_note("j@example.org")];
    let records = records.map(|r| r.record.unwrap()).to_vec();
    let chunk = v1::ImportChunk { first_index: 0, records };
    let messages = [Message::Start(start), Message::Chunk(chunk)];
    let messages = messages.map(|m| v1::ImportRecordsRequest { message: Some(m) });
    let answer = application.records().import_records(tokio_stream::iter(messages)).await;
    let mut answer = answer.unwrap().into_inner();
    answer.message().await.unwrap().unwrap();
    let done = answer.message().await.unwrap().unwrap();
    assert!(!done.names[0].is_empty() && done.names[1].is_empty());
    let [failure] = done.failures.try_into().unwrap();
    assert_eq!((failure.index, failure.code), (1, i32::from(Code::PermissionDenied)));
    assert_eq!(failure.violations[0].description, DENIED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clear_rights_go_by_type_call_purpose_and_tenant() {
    let scene = Scene::start().await;
    let (kept, note) = scene.fill().await;
    let application = scene.live.client("application").await;
    scene.add(
        r#"
forbid (principal, action == Action::"SeeClear", resource in RecordType::"note")
unless { context has purpose && context.purpose == Purpose::"treatment" };
forbid (principal, action == Action::"SeeClear", resource in Tenant::"shop")
when { context.call == Call::"UpdateRecord" && context.class == Class::"SENSITIVE" };
"#,
    );
    assert!(scene.reloads().await);
    let seen = async |name: &str, purpose: &str| {
        let (name, purpose) = (name.to_owned(), purpose.to_owned());
        let request = v1::GetRecordRequest { name, purpose, ..Default::default() };
        let got = application.records().get_record(request).await.unwrap().into_inner();
        shown(&got.record.unwrap(), "email").map(str::to_owned)
    };
    assert_eq!(seen(&kept, "").await.as_deref(), Some("c@example.org"));
    assert_ne!(seen(&note, "").await.as_deref(), Some("n@example.org"));
    assert_ne!(seen(&note, "other").await.as_deref(), Some("n@example.org"));
    assert_eq!(seen(&note, "treatment").await.as_deref(), Some("n@example.org"));
    let updated = application.records().update_record(update(&kept)).await.unwrap().into_inner();
    let updated = updated.record.unwrap();
    assert_ne!(shown(&updated, "email"), Some("c@example.org"));
    assert_eq!(shown(&updated, "city"), Some("Oslo"));
    let mut query = find("note");
    denied(application.records().find_records(query.clone()).await);
    query.purpose = "treatment".into();
    let found = application.records().find_records(query).await.unwrap().into_inner();
    assert_eq!(found.records.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_call_sees_a_change_and_a_file_with_an_error_changes_nothing() {
    let scene = Scene::start().await;
    let (kept, _) = scene.fill().await;
    let application = scene.live.client("application").await;
    let no_reads = "forbid (principal, action == Action::\"ReadRecord\", resource);";
    let before = scene.status().await;
    scene.add(no_reads);
    assert!(scene.reloads().await);
    denied(get(&application, &kept).await);
    let taken = scene.status().await;
    let own = Policy::parse(&format!("{BUILT_IN_POLICY}\n{no_reads}\n")).unwrap();
    assert_eq!(
        (taken.policy_epoch, &taken.policy_sha256),
        (before.policy_epoch + 1, &own.sha256())
    );
    assert_ne!(taken.policy_sha256, before.policy_sha256);

    let bad: [(&str, &str); 6] = [
        ("", "policy.file: holds no policy"),
        (
            "permit (principal in Role::\"application\"",
            "policy.file: line 1: no policy can be read here",
        ),
        ("permit (principal, action, resource);", "policy.file: line 1: permits it to everybody"),
        (
            "permit (principal in Role::\"boss\", action in [Action::\"Read\"], resource);",
            "policy.file: line 1: entity `Role::\"boss\"` is of an enumerated entity type",
        ),
        (
            "permit (principal in Role::\"application\", action in [Action::\"Red\"], resource);",
            "policy.file: line 1: unrecognized action `Action::\"Red\"`",
        ),
        (
            "\npermit (principal in Role::\"application\", action in [Action::\"Read\"], resource)\n\
             when { \"a\" like \"*\" };",
            "policy.file: line 2: uses `like`",
        ),
    ];
    for (text, problem) in bad {
        scene.put("policy.cedar", text);
        assert!(!scene.reloads().await, "{text}");
        let warnings = scene.warnings().await;
        let told = warnings.iter().find(|w| w.starts_with(problem));
        assert!(
            told.is_some_and(|w| w.ends_with("; the old rights stay in force")),
            "{warnings:?}"
        );
        denied(get(&application, &kept).await);
    }
    let still = scene.status().await;
    assert_eq!(still.policy_epoch, taken.policy_epoch);
    assert_eq!(still.policy_sha256, taken.policy_sha256);
    // Sound again, but forbidding still.
    scene.add(no_reads);
    assert!(scene.reloads().await);
    assert!(!scene.warnings().await.iter().any(|w| w.contains("policy.file")));
    denied(get(&application, &kept).await);

    // Nobody asks: the look of every second has to see it.
    let before = scene.counts().await;
    scene.add("");
    assert!(scene.verdict_after(before).await);
    get(&application, &kept).await.unwrap();

    // A configuration with an error, or that names a file which is not there, changes nothing either.
    for (more, problem) in [
        ("[[identity]]\nuri = \"x\"\n", "the configuration: "),
        (
            "[[identity]]\nuri = \"spiffe://dev.lethe/x\"\nrole = \"boss\"\ntenants = [\"*\"]\n",
            "the configuration: ",
        ),
        (
            "[[identity]]\nuri = \"spiffe://dev.lethe/auditor\"\nrole = \"auditor\"\ntenants = [\"*\"]\n",
            "identities: identity 4 names a uri that an earlier one has",
        ),
    ] {
        scene.configure(more);
        assert!(!scene.reloads().await, "{more}");
        let warnings = scene.warnings().await;
        assert!(warnings.iter().any(|w| w.starts_with(problem)), "{problem}: {warnings:?}");
        get(&application, &kept).await.unwrap();
    }
    scene.put("lethed.toml", &format!("{}\n[policy]\nfile = \"absent.cedar\"\n", scene.config));
    assert!(!scene.reloads().await);
    // The file that the refused configuration names is looked at as well.
    let before = scene.counts().await;
    scene.put("absent.cedar", &format!("{BUILT_IN_POLICY}{no_reads}"));
    assert!(scene.verdict_after(before).await);
    denied(get(&application, &kept).await);
    // Without the key the roles are in force that come with the vault.
    scene.put("lethed.toml", &scene.config);
    assert!(scene.reloads().await);
    get(&application, &kept).await.unwrap();
}

/// A watch that has begun.
async fn watch(client: &Client) -> Streaming<v1::WatchRecordsResponse> {
    let request = v1::WatchRecordsRequest { parent: "tenants/shop".into() };
    let mut stream = client.records().watch_records(request).await.unwrap().into_inner();
    in_time(stream.message()).await.unwrap().unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_that_is_taken_out_ends_on_live_connections_and_streams() {
    let scene = Scene::start().await;
    let (kept, _) = scene.fill().await;
    let (application, support) =
        (scene.live.client("application").await, scene.live.client("support").await);
    denied(get(&support, &kept).await);
    let identity = |name: &str, role: &str| {
        format!(
            "[[identity]]\nuri = \"spiffe://dev.lethe/{name}\"\nrole = \"{role}\"\ntenants = [\"shop\"]\n"
        )
    };
    scene.configure(&identity("support", "support"));
    assert!(scene.reloads().await);
    let masked = get(&support, &kept).await.unwrap();
    assert_ne!(shown(&masked, "email"), Some("c@example.org"));
    assert_eq!(shown(&masked, "city"), Some("Rome"));

    let mut stream = watch(&application).await;
    scene.add(
        "forbid (principal, action == Action::\"WatchRecords\", resource in RecordType::\"note\");",
    );
    assert!(scene.reloads().await);
    application.records().create_record(new_note("w@example.org")).await.unwrap();
    let seen = create(&application, "shop", &[("email", "w@example.org")]).await.name;
    let change = in_time(stream.message()).await.unwrap().unwrap();
    assert_eq!(change.name, seen, "the change of a note is left out");

    // `application` becomes a support identity; another application makes changes.
    let mut stream = watch(&application).await;
    let changed = scene.config.replace("role = \"application\"", "role = \"support\"");
    assert_ne!(changed, scene.config);
    let policy = "[policy]\nfile = \"policy.cedar\"\n";
    let other = identity("clerk", "application");
    scene.put("lethed.toml", &format!("{changed}\n{policy}{other}"));
    assert!(scene.reloads().await);
    let clerk = scene.live.client("clerk").await;
    create(&clerk, "shop", &[("email", "v@example.org")]).await;
    denied(in_time(stream.message()).await);
    denied(application.records().update_record(update(&kept)).await);
    denied(get(&support, &kept).await);

    // And one that is gone altogether.
    scene.put("lethed.toml", &format!("{changed}\n{policy}"));
    assert!(scene.reloads().await);
    denied(get(&clerk, &kept).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_asks_for_its_right_anew_at_each_part() {
    let scene = Scene::start().await;
    let application = scene.live.client("application").await;
    let mut schema = customer();
    schema.fields.iter_mut().filter(|f| f.name == "photo").for_each(|f| f.max_bytes = 1 << 20);
    let request = v1::CreateSchemaRequest {
        parent: "tenants/shop".into(),
        schema_id: "scan".into(),
        schema: Some(schema),
    };
    scene.live.client("operator").await.schemas().create_schema(request).await.unwrap();
    // Each part holds two or three; what the connection buffers is less than two parts.
    for n in 0..16 {
        let mut request = new_customer("shop", &[("email", &format!("p{n}@example.org"))]);
        request.record.as_mut().unwrap().schema = "tenants/shop/schemas/scan".into();
        let photo = v1::value::Kind::BytesValue(vec![7; 1 << 20]);
        let photo = v1::Value { kind: Some(photo) };
        request.record.as_mut().unwrap().fields.insert("photo".into(), photo);
        application.records().create_record(request).await.unwrap();
    }
    let request = v1::ExportRecordsRequest { parent: "tenants/shop".into(), ..Default::default() };
    let mut stream = application.records().export_records(request).await.unwrap().into_inner();
    let mut got = stream.message().await.unwrap().unwrap().records.len();
    scene.add("forbid (principal, action == Action::\"ExportRecords\", resource);");
    assert!(scene.reloads().await);
    let end = loop {
        match in_time(stream.message()).await {
            Ok(Some(part)) => got += part.records.len(),
            Ok(None) => panic!("all {got} records were exported"),
            Err(status) => break status,
        }
    };
    denied::<()>(Err(end));
    assert!(got < 16, "{got}");
}

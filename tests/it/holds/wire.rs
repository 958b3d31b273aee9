//! Legal holds over the wire: rights, bad input, and what people see.

use std::time::Duration;

use lethe::client::{Client, request_id};
use lethe::proto::v1;
use lethe::proto::v1::hold::Scope;
use serde_json::Value as Json;
use tonic::{Code, Status};

use crate::live::{self, Live, reason, violated as fields};

const TENANT: &str = "tenants/a";
const TYPE: &str = "tenants/a/schemas/customer";

async fn furnish(live: &Live) {
    let operator = live.client("operator").await;
    for id in ["a", "b"] {
        let request = v1::CreateTenantRequest { tenant_id: id.into(), tenant: None };
        operator.tenants().create_tenant(request).await.unwrap();
    }
    let field = |name: &str, class: v1::Classification| v1::Field {
        name: name.into(),
        kind: v1::FieldKind::Text.into(),
        classification: class.into(),
        ..Default::default()
    };
    let schema = v1::Schema {
        fields: vec![
            field("city", v1::Classification::General),
            field("card", v1::Classification::Sensitive),
        ],
        retention: Some(v1::schema::Retention::RetainFor("P1Y".into())),
        ..Default::default()
    };
    let request = v1::CreateSchemaRequest {
        parent: TENANT.into(),
        schema_id: "customer".into(),
        schema: Some(schema),
    };
    operator.schemas().create_schema(request).await.unwrap();
}

async fn put(client: &Client, city: &str) -> v1::Record {
    let fields = live::texts(&[("city", city), ("card", "4000-1234")]);
    let record = v1::Record { schema: TYPE.into(), fields, ..Default::default() };
    let (parent, request_id) = (TENANT.into(), String::new());
    let request = v1::CreateRecordRequest { parent, record: Some(record), request_id };
    client.records().create_record(request).await.unwrap().into_inner().record.unwrap()
}

fn hold(scope: Scope) -> v1::Hold {
    v1::Hold { scope: Some(scope), reason: "litigation".into(), ..Default::default() }
}

async fn place(client: &Client, hold: v1::Hold) -> Result<v1::Hold, Status> {
    let (parent, hold) = (TENANT.into(), Some(hold));
    let request = v1::PlaceHoldRequest { parent, hold, request_id: String::new() };
    Ok(client.holds().place_hold(request).await?.into_inner().hold.unwrap())
}

async fn erase(client: &Client, name: &str) -> v1::EraseRecordResponse {
    let request = v1::EraseRecordRequest { name: name.into(), ..Default::default() };
    client.records().erase_record(request).await.unwrap().into_inner()
}

async fn read(client: &Client, name: &str) -> Result<(), Status> {
    let request = v1::GetRecordRequest { name: name.into(), ..Default::default() };
    client.records().get_record(request).await.map(drop)
}

/// `lethectl` as a process of its own.
fn tool(live: &Live, name: &str, args: &[&str]) -> std::process::Output {
    let config = live.dir.path().join(format!("v/client-{name}.toml"));
    // Its port was chosen when the daemon started.
    let text = std::fs::read_to_string(&config).unwrap();
    let endpoint = |line: &str| match line.starts_with("endpoint") {
        true => format!("endpoint = \"https://{}\"", live.config.listen),
        false => line.to_owned(),
    };
    let text: Vec<String> = text.lines().map(endpoint).collect();
    std::fs::write(&config, text.join("\n")).unwrap();
    let mut tool = std::process::Command::new(env!("CARGO_BIN_EXE_lethectl"));
    tool.arg("--config").arg(config).args(args).stdin(std::process::Stdio::null());
    tool.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_placed_seen_followed_and_released() {
    let live = Live::start().await;
    furnish(&live).await;
    let (officer, app) = (live.client("privacy-officer").await, live.client("application").await);
    let record = put(&app, "Ulm").await;
    let (parent, once) = (TENANT.to_owned(), request_id());
    let asked = v1::Hold {
        issuer: "district court".into(),
        reference: "7 O 12/26".into(),
        ..hold(Scope::Record(record.name.clone()))
    };
    let request = v1::PlaceHoldRequest { parent, hold: Some(asked), request_id: once };
    let placed = officer.holds().place_hold(request.clone()).await.unwrap().into_inner().hold;
    let placed = placed.unwrap();
    assert_eq!(placed.readers, [i32::from(v1::HoldReader::PrivacyOfficer)]);
    assert!(placed.creator.starts_with("spiffe://") && placed.end_time.is_none());
    // The same request again is the same hold.
    let again = officer.holds().place_hold(request).await.unwrap().into_inner().hold.unwrap();
    assert_eq!(again.name, placed.name);

    let done = erase(&app, &record.name).await;
    assert!(done.receipt.is_none());
    assert_eq!(done.postponed.unwrap().name, record.name);
    let refused = read(&app, &record.name).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "RESTRICTED")
    );
    read(&officer, &record.name).await.unwrap();
    let list = v1::ListPostponedErasuresRequest { parent: TENANT.into(), ..Default::default() };
    let waits = officer.holds().list_postponed_erasures(list).await.unwrap().into_inner().postponed;
    assert_eq!((waits.len(), &waits[0].holds), (1, &vec![placed.name.clone()]));
    let batch = v1::BatchEraseRecordsRequest {
        parent: TENANT.into(),
        names: vec![record.name.clone(), put(&app, "Bonn").await.name],
        reason: 0,
    };
    let both = app.records().batch_erase_records(batch.clone()).await.unwrap().into_inner();
    assert_eq!((both.receipts.len(), both.postponed.len()), (1, 1));
    assert_eq!(both.receipts[0].name, batch.names[1]);

    let release = v1::ReleaseHoldRequest { name: placed.name.clone(), note: "closed".into() };
    let ended = officer.holds().release_hold(release.clone()).await.unwrap().into_inner().hold;
    let ended = ended.unwrap();
    assert!(ended.end_time.is_some() && ended.release_note == "closed");
    let twice = officer.holds().release_hold(release).await.unwrap_err();
    assert_eq!(twice.code(), Code::FailedPrecondition);
    for _ in 0..500 {
        match read(&officer, &record.name).await {
            Err(status) if reason(&status) == "ERASED" => break,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    assert!(erase(&app, &record.name).await.receipt.is_some());
    let list = |show_ended| v1::ListHoldsRequest {
        parent: TENANT.into(),
        show_ended,
        ..Default::default()
    };
    let now = officer.holds().list_holds(list(false)).await.unwrap().into_inner();
    let all = officer.holds().list_holds(list(true)).await.unwrap().into_inner();
    assert_eq!((now.holds.len(), all.holds.len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_refused_and_every_wrong_field_is_named() {
    let live = Live::start().await;
    furnish(&live).await;
    let (officer, app) = (live.client("privacy-officer").await, live.client("application").await);
    let record = put(&app, "Ulm").await;
    let scope = || Scope::Record(record.name.clone());
    let placed = place(&officer, hold(scope())).await.unwrap();
    for role in ["application", "support", "operator", "auditor"] {
        let client = live.client(role).await;
        let denied = place(&client, hold(scope())).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{role} places");
        let request = v1::ReleaseHoldRequest { name: placed.name.clone(), note: "x".into() };
        let denied = client.holds().release_hold(request).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{role} releases");
        let read = client.holds().get_hold(v1::GetHoldRequest { name: placed.name.clone() }).await;
        assert_eq!(read.is_ok(), role == "auditor", "{role} reads");
    }
    let wrong = |hold| {
        let officer = &officer;
        async move { fields(&place(officer, hold).await.unwrap_err()) }
    };
    assert_eq!(wrong(v1::Hold { reason: "x".into(), ..Default::default() }).await, ["hold.scope"]);
    let foreign = record.name.replace("tenants/a", "tenants/b");
    assert_eq!(wrong(hold(Scope::Record(foreign))).await, ["hold.record"]);
    assert_eq!(wrong(hold(Scope::Subject("x".into()))).await, ["hold.subject"]);
    let unsaid = v1::Hold { reason: String::new(), ..hold(scope()) };
    assert_eq!(wrong(unsaid).await, ["hold.reason"]);
    let readers = vec![3, 0, 9];
    let unknown = v1::Hold { readers, ..hold(scope()) };
    assert_eq!(wrong(unknown).await, ["hold.readers[1]", "hold.readers[2]"]);
    let past = prost_types::Timestamp { seconds: 1, nanos: 0 };
    let over = v1::Hold { expire_time: Some(past), ..hold(scope()) };
    assert_eq!(wrong(over).await, ["hold.expire_time"]);
    let query = v1::HoldQuery { schema: TYPE.into(), fields: live::texts(&[("shoe", "x")]) };
    assert_eq!(wrong(hold(Scope::Query(query))).await, ["hold.query.fields.shoe"]);
    let nobody = record.subject.replace(record.subject.rsplit('/').next().unwrap(), NOBODY);
    let nobody = place(&officer, hold(Scope::Subject(nobody))).await.unwrap_err();
    assert_eq!(nobody.code(), Code::NotFound);
    let unsaid = v1::ReleaseHoldRequest { name: placed.name.clone(), note: String::new() };
    let unsaid = officer.holds().release_hold(unsaid).await.unwrap_err();
    assert_eq!(fields(&unsaid), ["note"]);
    let foreign = placed.name.replace("tenants/a", "tenants/b");
    let foreign = officer.holds().get_hold(v1::GetHoldRequest { name: foreign }).await.unwrap_err();
    assert_eq!(foreign.code(), Code::NotFound);
}

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// What the query looks for is a person's, so it is shown as a record's value is.
#[tokio::test(flavor = "multi_thread")]
async fn the_values_of_a_query_are_masked_and_lethectl_tells_the_rest() {
    let live = Live::start().await;
    furnish(&live).await;
    let app = live.client("application").await;
    let record = put(&app, "Ulm").await;
    let file = live.dir.path().join("query.json");
    std::fs::write(&file, r#"{"card": "4000-1234"}"#).unwrap();
    let file = file.display().to_string();
    let run = |args: &[&str]| tool(&live, "privacy-officer", args);
    let text = ["hold", "place", "--tenant", "a", "--type", "customer", "--fields", &file];
    let placed = run(&[&text[..], &["--reason", "audit", "--output", "json"]].concat());
    assert!(placed.status.success(), "{}", String::from_utf8_lossy(&placed.stderr));
    let json: Json = serde_json::from_slice(&placed.stdout).unwrap();
    assert_eq!(json["scope"]["query"]["fields"], serde_json::json!(["card"]));
    let name = json["name"].as_str().unwrap().to_owned();
    let auditor = live.client("auditor").await;
    let request = v1::GetHoldRequest { name: name.clone() };
    let shown = auditor.holds().get_hold(request).await.unwrap().into_inner().hold.unwrap();
    let Some(Scope::Query(query)) = shown.scope else { panic!("no query") };
    let bytes = prost::Message::encode_to_vec(&query);
    assert!(!bytes.windows(9).any(|w| w == b"4000-1234"), "in clear");

    let erased = tool(&live, "application", &["record", "erase", &record.name, "--yes"]);
    let said = String::from_utf8(erased.stdout).unwrap();
    assert!(said.contains("postponed"), "{said}");
    let waits = String::from_utf8(run(&["hold", "postponed", "--tenant", "a"]).stdout).unwrap();
    assert!(waits.contains(&record.name), "{waits}");
    let dry = run(&["hold", "release", &name, "--note", "x", "--dry-run"]);
    assert!(String::from_utf8(dry.stdout).unwrap().contains(&record.name));
    let silent = run(&["hold", "release", &name, "--note", "x"]);
    assert!(!silent.status.success(), "nobody was asked");
    let released = run(&["hold", "release", &name, "--note", "over", "--yes"]);
    assert!(released.status.success());
    let listed =
        String::from_utf8(run(&["hold", "list", "--tenant", "a", "--all"]).stdout).unwrap();
    assert!(listed.contains("ended") && listed.contains("customer by card"), "{listed}");
    let status = String::from_utf8(run(&["retention", "status"]).stdout).unwrap();
    assert!(status.contains("legal holds"), "{status}");
}

//! Certificates of destruction over mutual TLS, by `lethectl`: got from a daemon, and verified when it is gone.

use std::path::PathBuf;
use std::time::Duration;

use lethe::client::Client;
use lethe::proto::v1::get_certificate_request::Unit;
use lethe::proto::{admin, v1};
use serde_json::Value as Json;
use tonic::{Code, Status};

use crate::live::{Live, create, reason, violated};

const TYPE: &str = "tenants/a/schemas/visit";

/// A vault with a visit that went with its bucket, one that was erased by itself, and a customer with a subject.
struct Desk {
    live: Live,
    key: String,
    dir: PathBuf,
    went: String,
    erased: String,
    subject: String,
    day: String,
}

fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap()
}

async fn put_visit(client: &Client) -> v1::Record {
    let record = v1::Record { schema: TYPE.into(), ..Default::default() };
    let (parent, record) = ("tenants/a".into(), Some(record));
    let request = v1::CreateRecordRequest { parent, record, request_id: String::new() };
    client.records().create_record(request).await.unwrap().into_inner().record.unwrap()
}

async fn erase(client: &Client, name: &str) {
    let request = v1::EraseRecordRequest { name: name.into(), ..Default::default() };
    client.records().erase_record(request).await.unwrap();
}

impl Desk {
    async fn new() -> Self {
        let live = Live::start().await;
        live.furnish("a").await;
        live.furnish("b").await;
        let field = v1::Field {
            name: "city".into(),
            kind: v1::FieldKind::Text.into(),
            classification: v1::Classification::General.into(),
            ..Default::default()
        };
        let schema = v1::Schema {
            fields: vec![field],
            retention: Some(v1::schema::Retention::RetainFor("P1D".into())),
            ..Default::default()
        };
        let request = v1::CreateSchemaRequest {
            parent: "tenants/a".into(),
            schema_id: "visit".into(),
            schema: Some(schema),
        };
        live.client("operator").await.schemas().create_schema(request).await.unwrap();
        let (app, officer) =
            (live.client("application").await, live.client("privacy-officer").await);
        let policy = v1::RetentionPolicy {
            start: v1::RetentionStart::Creation.into(),
            maximum: "P1D".into(),
            legal_basis: "HGB § 257 <b>".into(),
            ..Default::default()
        };
        let request = v1::CreateRetentionPolicyRequest {
            parent: "tenants/a".into(),
            retention_policy_id: "law".into(),
            retention_policy: Some(policy),
        };
        officer.retention().create_retention_policy(request).await.unwrap();
        let erased = put_visit(&app).await.name;
        erase(&app, &erased).await;
        let mut went = Vec::new();
        for _ in 0..20 {
            went.push(put_visit(&app).await);
        }
        let customer = create(&app, "b", &[("email", "ada@example.org")]).await;
        let subject = customer.subject;
        let request = v1::EraseSubjectRequest { name: subject.clone(), reason: 0 };
        app.subjects().erase_subject(request).await.unwrap();
        live.pass(Duration::from_secs(3 * 86_400));
        let run = v1::RunRetentionRequest { dry_run: false };
        officer.retention().run_retention(run).await.unwrap();
        // One more batch, which states the level of the sweep's.
        let last = put_visit(&app).await;
        erase(&app, &last.name).await;
        let auditor = live.client("auditor").await;
        let status = auditor.vault().get_status(admin::GetStatusRequest {}).await;
        let key = status.unwrap().into_inner().public_key;
        let key = key.iter().map(|b| format!("{b:02x}")).collect();
        let dir = live.dir.path().join("desk");
        std::fs::create_dir(&dir).unwrap();
        let (day, went) = (went[7].expire_date.clone(), went[7].name.clone());
        Self { live, key, dir, went, erased, subject, day }
    }

    fn at(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    async fn run(&self, role: &str, arguments: &[&str]) -> u8 {
        let config = self.dir.join("client.toml");
        let pki = self.live.dir.path().join("v/pki");
        let (file, listen) =
            (|end: &str| pki.join(end).display().to_string(), self.live.config.listen);
        let text = format!(
            "endpoint = \"https://{listen}\"\nca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n",
            file("ca.pem"),
            file(&format!("{role}.pem")),
            file(&format!("{role}.key"))
        );
        std::fs::write(&config, text).unwrap();
        let first = ["lethectl", "--config", config.to_str().unwrap()];
        let all = first.iter().chain(arguments);
        lethe::ctl::run(all.map(Into::into).collect::<Vec<std::ffi::OsString>>()).await
    }

    async fn get(&self, role: &str, tenant: &str, unit: &[&str], to: &str, more: &[&str]) -> u8 {
        let (to, key) = (self.at(to), self.key.as_str());
        let first = ["certificate", "get", "--tenant", tenant, "--to", &to, "--public-key", key];
        self.run(role, &[&first, unit, more].concat()).await
    }

    /// Without a configuration: nothing could be connected to.
    async fn verify(&self, file: &str, checkpoint: &str, more: &[&str]) -> u8 {
        let (file, checkpoint) = (self.at(file), self.at(checkpoint));
        let first = ["lethectl", "verify", "certificate", &file, "--checkpoint", &checkpoint];
        let all = [&first, ["--public-key", self.key.as_str()].as_slice(), more].concat();
        lethe::ctl::run(all.iter().map(Into::into).collect::<Vec<std::ffi::OsString>>()).await
    }

    fn facts(&self, file: &str) -> Json {
        let text = std::fs::read_to_string(self.at(file)).unwrap();
        serde_json::from_str::<Json>(&text).unwrap()["facts"].take()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_every_kind_are_got_and_verified_without_the_vault() {
    let mut desk = Desk::new().await;
    let early = desk.at("early");
    let ask = ["log", "checkpoint", "--log", "ledger", "--to", &early];
    assert_eq!(desk.run("auditor", &ask).await, 0);
    let (went, erased) = (id(&desk.went).to_owned(), id(&desk.erased).to_owned());
    let (subject, day) = (id(&desk.subject).to_owned(), desk.day.clone());
    let units: [(&str, &str, Vec<&str>); 4] = [
        ("a", "erased", vec!["--record", &erased]),
        ("a", "went", vec!["--record", &went]),
        ("a", "bucket", vec!["--type", "visit", "--expires", &day]),
        ("b", "subject", vec!["--subject", &subject]),
    ];
    let to_it = ["--checkpoint", early.as_str()];
    for (tenant, file, unit) in &units {
        let role = ["auditor", "privacy-officer", "operator"][file.len() % 3];
        assert_eq!(desk.get(role, tenant, unit, file, &to_it).await, 0, "{file}");
        assert_eq!(desk.get(role, tenant, unit, file, &to_it).await, 1, "never written over");
        let page = format!("{file}.html");
        let html = [to_it.as_slice(), &["--format", "html"]].concat();
        assert_eq!(desk.get(role, tenant, unit, &page, &html).await, 0, "{file}");
    }
    let list = ["--output", "json", "certificate", "list", "--tenant", "a"];
    assert_eq!(desk.run("auditor", &list).await, 0);
    // The ledger grows; a certificate of later is proved to the checkpoint of then.
    let app = desk.live.client("application").await;
    let more = put_visit(&app).await;
    erase(&app, &more.name).await;
    let (late, proof) = (desk.at("late"), desk.at("proof"));
    let ask = ["log", "checkpoint", "--log", "ledger", "--to", &late];
    assert_eq!(desk.run("auditor", &ask).await, 0);
    let key = desk.key.clone();
    let prove =
        ["log", "prove", "consistency", "--since", &early, "--to", &proof, "--public-key", &key];
    assert_eq!(desk.run("auditor", &prove).await, 0);
    assert_eq!(desk.get("auditor", "a", &["--record", &went], "went.later", &[]).await, 0);

    desk.live.stop().await;
    for (_, file, _) in &units {
        for file in [(*file).to_owned(), format!("{file}.html")] {
            assert_eq!(desk.verify(&file, "early", &[]).await, 0, "{file}");
            assert_eq!(desk.verify(&file, "late", &[]).await, 1, "{file}: of other sizes");
            assert_eq!(desk.verify(&file, "late", &["--proof", &proof]).await, 0, "{file}");
        }
    }
    assert_eq!(desk.verify("went.later", "late", &[]).await, 0);
    assert_eq!(desk.verify("went.later", "early", &["--proof", &proof]).await, 0);
    assert_eq!(desk.verify("went", "early", &["--record", &went]).await, 0);
    assert_eq!(desk.verify("went", "early", &["--record", &erased]).await, 1);
    assert_eq!(desk.verify("bucket", "early", &["--record", &went]).await, 1, "it holds no proof");
    let facts = desk.facts("bucket");
    assert_eq!(facts["destroyed"]["records"], 20);
    assert_eq!(facts["asked_by"]["kind"], "SCHEDULE");
    assert_eq!(facts["erasure"]["requested"], facts["erasure"]["due"]);
    assert!(facts["erasure"]["level_leaf"].is_u64());
    assert_eq!(facts["basis"]["rules"][1]["legal_basis"], "HGB § 257 <b>");
    assert_eq!(desk.facts("went")["destroyed"]["leaves"], facts["destroyed"]["leaves"]);
    let facts = desk.facts("erased");
    assert_eq!(facts["asked_by"]["name"], "spiffe://dev.lethe/application");
    assert_eq!(facts["destroyed"]["kind"], "RECORD");
    assert_eq!(desk.facts("subject")["asked_by"]["call"], "EraseSubject");
    // A page that shows something else, another key, another vault's checkpoint.
    let page = std::fs::read_to_string(desk.at("bucket.html")).unwrap();
    std::fs::write(desk.at("bucket.html"), page.replace("<b>20 records", "<b>19 records")).unwrap();
    assert_eq!(desk.verify("bucket.html", "early", &[]).await, 1);
    desk.key = "0".repeat(64);
    assert_eq!(desk.verify("bucket", "early", &[]).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_vault_is_refused() {
    let (desk, other) = (Desk::new().await, Desk::new().await);
    let erased = id(&desk.erased).to_owned();
    assert_eq!(desk.get("auditor", "a", &["--record", &erased], "mine", &[]).await, 0);
    for (of, name) in [(&desk, "now"), (&other, "now")] {
        let to = of.at(name);
        assert_eq!(
            of.run("auditor", &["log", "checkpoint", "--log", "ledger", "--to", &to]).await,
            0
        );
    }
    assert_eq!(desk.verify("mine", "now", &[]).await, 0, "control");
    std::fs::copy(desk.at("mine"), other.at("foreign")).unwrap();
    assert_eq!(other.verify("foreign", "now", &[]).await, 1);
    // Nor is one proved to a checkpoint that is not this vault's.
    std::fs::copy(desk.at("now"), other.at("not-mine")).unwrap();
    let (erased, held) = (id(&other.erased).to_owned(), other.at("not-mine"));
    let unit = ["--record", erased.as_str()];
    assert_eq!(other.get("auditor", "a", &unit, "never", &["--checkpoint", &held]).await, 1);
    assert!(!other.dir.join("never").exists(), "nothing is left of it");
}

async fn ask(
    client: &Client,
    parent: &str,
    unit: Option<Unit>,
    checkpoint_size: u64,
) -> Result<(), Status> {
    let request = v1::GetCertificateRequest { parent: parent.into(), unit, checkpoint_size };
    client.certificates().get_certificate(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_name_their_field_and_foreign_tenants_stay_closed() {
    let desk = Desk::new().await;
    let auditor = desk.live.client("auditor").await;
    let bucket = |schema: &str, expire_date: &str| {
        let (schema, expire_date) = (schema.to_owned(), expire_date.to_owned());
        Some(Unit::Bucket(v1::BucketUnit { schema, expire_date }))
    };
    let record = || Some(Unit::Record(desk.erased.clone()));
    let cases = [
        ("tenants/a", None, 0, "unit"),
        ("tenants/A", record(), 0, "parent"),
        ("tenants/b", record(), 0, "record"),
        ("tenants/a", Some(Unit::Record("x".into())), 0, "record"),
        ("tenants/a", Some(Unit::Subject(desk.erased.clone())), 0, "subject"),
        ("tenants/a", bucket("visit", "2026-01-01"), 0, "bucket.schema"),
        ("tenants/a", bucket(TYPE, "2026-02-30"), 0, "bucket.expire_date"),
        ("tenants/b", bucket(TYPE, "2026-01-01"), 0, "bucket.schema"),
        ("tenants/a", record(), 1 << 50, "checkpoint_size"),
        ("tenants/b", Some(Unit::Subject(desk.subject.clone())), 1, "checkpoint_size"),
    ];
    for (parent, unit, size, field) in cases {
        let status = ask(&auditor, parent, unit, size).await.unwrap_err();
        assert_eq!(
            (status.code(), violated(&status)),
            (Code::InvalidArgument, vec![field.to_owned()])
        );
        assert!(!status.message().contains(&desk.erased), "{status:?}");
    }
    let app = desk.live.client("application").await;
    let living = create(&app, "a", &[("email", "b@example.org")]).await.name;
    let status = ask(&auditor, "tenants/a", Some(Unit::Record(living)), 0).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let status = ask(&auditor, "tenants/a", Some(Unit::LeafIndex(0)), 0).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "NOT_FOUND".into()));
    // Bound to a: of b nothing is said, whether it is there or not.
    for who in ["auditor-a", "operator-a", "privacy-officer-a", "application", "support"] {
        let client = desk.live.client(who).await;
        for unit in [Unit::Subject(desk.subject.clone()), Unit::LeafIndex(3)] {
            let status = ask(&client, "tenants/b", Some(unit), 0).await.unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied, "{who}");
        }
        let request =
            v1::ListCertificatesRequest { parent: "tenants/b".into(), ..Default::default() };
        let refused = client.certificates().list_certificates(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{who}");
    }
    // The leaf of one tenant's bucket is no certificate of another's.
    let request = v1::ListCertificatesRequest { parent: "tenants/a".into(), ..Default::default() };
    let all = auditor.certificates().list_certificates(request.clone()).await.unwrap().into_inner();
    let [killed] = all.certificates.as_slice() else { panic!("{all:?}") };
    assert_eq!((killed.record_count, killed.expire_date.as_str()), (20, desk.day.as_str()));
    assert_eq!((killed.schema.as_str(), killed.reason()), (TYPE, v1::ErasureReason::Retention));
    let leaf = || Some(Unit::LeafIndex(killed.leaf_index));
    ask(&auditor, "tenants/a", leaf(), 0).await.unwrap();
    let status = ask(&auditor, "tenants/b", leaf(), 0).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let until = |end_time| v1::ListCertificatesRequest { end_time, ..request.clone() };
    let none = auditor.certificates().list_certificates(until(killed.erase_time)).await.unwrap();
    assert!(none.into_inner().certificates.is_empty());
    let bad = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let status = auditor.certificates().list_certificates(until(bad)).await.unwrap_err();
    assert_eq!(violated(&status), ["end_time"]);
    // Each answered call is in the audit log.
    let request = admin::ListAuditEntriesRequest { page_size: 50, ..Default::default() };
    let entries = auditor.audit().list_audit_entries(request).await.unwrap().into_inner().entries;
    let count = |act: &str| entries.iter().filter(|e| e.method == act).count();
    assert_eq!((count("GetCertificate"), count("ListCertificates")), (1, 2), "{entries:?}");
}

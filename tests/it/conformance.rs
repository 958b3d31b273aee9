//! The story of clients/CONFORMANCE.md with the Rust client, against a `lethed dev` in a process of its own. Steps have
//! the numbers that they have there; the client's errors are `tonic::Status` with its details.

mod evidence;
mod log;
mod proofs;
mod records;
mod retention;
mod streams;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lethe::client::{Client, ClientConfig, ClientError};
use lethe::clock::{Clock, SystemClock};
use lethe::proto::v1;
use lethe::proto::v1::value::Kind;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::live::{text, texts, violated};
use crate::peer::{PATIENCE, Verdict, client_config, knock};

type Fields = BTreeMap<String, v1::Value>;

struct Story {
    daemon: Child,
    dir: tempfile::TempDir,
    application: Client,
    operator: Client,
    auditor: Client,
    officer: Client,
    tenant: String,
    /// What was printed of records, requests and errors, for the last step.
    printed: String,
}

impl Drop for Story {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

async fn client(dir: &Path, name: &str) -> Result<Client, ClientError> {
    let config = ClientConfig::load(&dir.join(format!("client-{name}.toml")))?;
    Client::connect(&config, Duration::from_secs(30)).await
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() })
}

fn value(kind: Kind) -> v1::Value {
    v1::Value { kind: Some(kind) }
}

/// The part of a batch that an error is about.
fn part(status: &Status) -> String {
    let details = status.get_error_details();
    details.request_info().map(|i| i.request_id.clone()).unwrap_or_default()
}

/// The schema of the story.
fn customer() -> v1::Schema {
    use v1::{Classification, FieldKind as K, MaskKind};
    let field = |name: &str, kind: K| v1::Field {
        name: name.into(),
        kind: kind.into(),
        classification: Classification::Sensitive.into(),
        ..v1::Field::default()
    };
    let (email, city) = (field("email", K::Email), field("city", K::Text));
    let purposes = vec!["delivery".into()];
    v1::Schema {
        fields: vec![
            v1::Field { required: true, unique: true, mask: MaskKind::Email.into(), ..email },
            v1::Field { indexed: true, max_bytes: 200, ..city },
            field("visits", K::Integer),
            field("score", K::Number),
            field("member", K::Boolean),
            field("born", K::Date),
            field("photo", K::Bytes),
            v1::Field { purposes, ..field("phone", K::Phone) },
        ],
        retention: Some(v1::schema::Retention::RetainFor("P1Y".into())),
        erase_old_versions_synchronously: true,
        ..v1::Schema::default()
    }
}

impl Story {
    /// Step 1: from the files alone.
    async fn begin() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let vault = dir.path().join("v");
        let daemon = Command::new(env!("CARGO_BIN_EXE_lethed"))
            .args(["dev", "--listen", "127.0.0.1:0", "--dir"])
            .arg(&vault)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let application = loop {
            if let Ok(client) = client(&vault, "application").await
                && client.tenants().list_tenants(v1::ListTenantsRequest::default()).await.is_ok()
            {
                break client;
            }
            assert!(began.elapsed() < PATIENCE, "step 01");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let operator = client(&vault, "operator").await.unwrap();
        let auditor = client(&vault, "auditor").await.unwrap();
        let officer = client(&vault, "privacy-officer").await.unwrap();
        let tenant = "conf-5d1e90aa7c3b".to_owned();
        let printed = String::new();
        Self { daemon, dir, application, operator, auditor, officer, tenant, printed }
    }

    fn parent(&self) -> String {
        format!("tenants/{}", self.tenant)
    }

    fn schema(&self) -> String {
        format!("{}/schemas/customer", self.parent())
    }

    fn print(&mut self, what: &impl Debug) {
        self.printed.push_str(&format!("{what:?}\n"));
    }

    /// An error of this code at these fields, without `canary` in its printed form.
    fn refused<T>(
        &mut self,
        step: u8,
        outcome: Result<T, Status>,
        code: Code,
        fields: &[&str],
    ) -> Status {
        let status = outcome.err().unwrap_or_else(|| panic!("step {step:02}: it was allowed"));
        assert_eq!(
            (status.code(), violated(&status)),
            (code, owned(fields)),
            "step {step:02}: {status}"
        );
        assert!(!format!("{status:?}").contains("canary"), "step {step:02}");
        self.print(&status);
        self.printed.push_str(&status.to_string());
        status
    }

    fn new_record(&self, fields: Fields) -> v1::CreateRecordRequest {
        let record = v1::Record { schema: self.schema(), fields, ..v1::Record::default() };
        v1::CreateRecordRequest {
            parent: self.parent(),
            record: Some(record),
            request_id: String::new(),
        }
    }

    async fn create(&mut self, request: v1::CreateRecordRequest) -> Result<v1::Record, Status> {
        self.print(&request);
        let made = self.application.records().create_record(request).await?;
        let record = made.into_inner().record.unwrap();
        self.print(&record);
        Ok(record)
    }

    async fn put(&mut self, fields: &[(&str, &str)]) -> v1::Record {
        let request = self.new_record(texts(fields));
        self.create(request).await.unwrap()
    }

    async fn get(
        &mut self,
        name: &str,
        paths: Option<&[&str]>,
        purpose: &str,
    ) -> Result<v1::Record, Status> {
        let request = v1::GetRecordRequest {
            name: name.into(),
            read_mask: paths.and_then(mask),
            purpose: purpose.into(),
        };
        let got = self.application.records().get_record(request).await?;
        let record = got.into_inner().record.unwrap();
        self.print(&record);
        Ok(record)
    }

    async fn update(
        &mut self,
        name: &str,
        etag: &str,
        fields: Fields,
        paths: Option<&[&str]>,
    ) -> Result<v1::Record, Status> {
        let record =
            v1::Record { name: name.into(), etag: etag.into(), fields, ..Default::default() };
        let request = v1::UpdateRecordRequest {
            record: Some(record),
            update_mask: paths.and_then(mask),
            ..Default::default()
        };
        let updated = self.application.records().update_record(request).await?;
        Ok(updated.into_inner().record.unwrap())
    }

    async fn find(&self, field: &str, sought: v1::Value) -> Result<Vec<String>, Status> {
        let request = v1::FindRecordsRequest {
            schema: self.schema(),
            field: field.into(),
            value: Some(sought),
            ..Default::default()
        };
        let found = self.application.records().find_records(request).await?.into_inner();
        Ok(found.records.into_iter().map(|r| r.name).collect())
    }

    async fn named(&self, field: &str, sought: &str) -> Vec<String> {
        self.find(field, text(sought)).await.unwrap()
    }

    async fn batch(
        &mut self,
        requests: Vec<v1::CreateRecordRequest>,
    ) -> Result<Vec<String>, Status> {
        let request = v1::BatchCreateRecordsRequest { parent: self.parent(), requests };
        let made = self.application.records().batch_create_records(request).await?.into_inner();
        Ok(made.records.into_iter().map(|r| r.name).collect())
    }

    async fn batch_get(&mut self, names: &[&str]) -> Result<Vec<String>, Status> {
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        let request =
            v1::BatchGetRecordsRequest { parent: self.parent(), names, ..Default::default() };
        let got = self.application.records().batch_get_records(request).await?.into_inner();
        Ok(got.records.into_iter().map(|r| r.name).collect())
    }

    async fn erase(&mut self, name: &str) -> Result<v1::ErasureReceipt, Status> {
        let request = v1::EraseRecordRequest {
            name: name.into(),
            reason: v1::ErasureReason::SubjectRequest.into(),
            ..Default::default()
        };
        let erased = self.application.records().erase_record(request).await?;
        Ok(erased.into_inner().receipt.unwrap())
    }

    /// All records of a tenant, by pages.
    async fn pages(&self, tenant: &str, page_size: i32) -> Vec<Vec<v1::Record>> {
        let (mut pages, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListRecordsRequest {
                parent: format!("tenants/{tenant}"),
                page_size,
                page_token,
                ..Default::default()
            };
            let page = self.application.records().list_records(request).await.unwrap().into_inner();
            pages.push(page.records);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return pages;
            }
            assert!(pages.len() < 1_000);
        }
    }

    async fn count(&self) -> usize {
        self.pages(&self.tenant, 1_000).await.iter().map(Vec::len).sum()
    }

    /// Steps 2 and 3.
    async fn door_and_schema(&mut self) {
        let pki = self.dir.path().join("v/pki");
        let config =
            ClientConfig::load(&self.dir.path().join("v/client-application.toml")).unwrap();
        let address = config.endpoint.strip_prefix("https://").unwrap().parse().unwrap();
        let ca = std::fs::read(pki.join("ca.pem")).unwrap();
        let now = SystemClock.now().0 / 1000;
        let bare = client_config(&ca, None, now, b"h2");
        let (verdict, _) = knock(address, &bare).await;
        assert_ne!(verdict, Verdict::Served, "step 02");
        let plain = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
        let mut plain = v1::tenant_service_client::TenantServiceClient::new(plain.connect_lazy());
        let without = tokio::time::timeout(
            Duration::from_secs(10),
            plain.list_tenants(v1::ListTenantsRequest::default()),
        );
        assert!(without.await.unwrap().is_err(), "step 02");

        let request = || v1::CreateTenantRequest { tenant_id: self.tenant.clone(), tenant: None };
        let denied = self.application.tenants().create_tenant(request()).await;
        assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied, "step 03");
        self.operator.tenants().create_tenant(request()).await.unwrap();
        let again = self.operator.tenants().create_tenant(request()).await;
        assert_eq!(again.unwrap_err().code(), Code::AlreadyExists, "step 03");
        self.make_schema(&self.parent()).await;
        let request = v1::GetSchemaRequest { name: self.schema() };
        let schema = self.operator.schemas().get_schema(request).await.unwrap().into_inner();
        let schema = schema.schema.unwrap();
        let names = |s: &v1::Schema| s.fields.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
        assert_eq!((schema.revision, names(&schema)), (1, names(&customer())), "step 03");
    }

    async fn make_schema(&self, parent: &str) {
        let request = v1::CreateSchemaRequest {
            parent: parent.into(),
            schema_id: "customer".into(),
            schema: Some(customer()),
        };
        self.operator.schemas().create_schema(request).await.unwrap();
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_client_conforms() {
    let mut story = Story::begin().await;
    story.door_and_schema().await;
    let kept = records::steps_4_to_18(&mut story).await;
    streams::steps_19_to_22(&mut story).await;
    evidence::steps_23_to_29(&mut story, kept).await;
    log::steps_30_to_34(&mut story).await;
    retention::steps_35_to_40(&mut story).await;
    proofs::step_42(&mut story).await;
    // 41. Nothing printed.
    assert!(story.printed.len() > 1_000, "step 41");
    for secret in ["ada@example.org", "London", "canary"] {
        assert!(!story.printed.contains(secret), "step 41: {secret}");
    }
}

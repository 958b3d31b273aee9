//! Who may do what, cell by cell: every method, every role, on the tenant that the identity is bound to and on another.

use lethe::authz::{Action, RPCS};
use lethe::client::Client;
use lethe::clock::{Clock, SystemClock};
use lethe::proto::{admin, v1};
use tonic::{Code, Status};

use super::cells::TABLE;
use crate::live::{Live, create, get, new_customer};

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// The first message of a stream, where a refusal may also be.
async fn first<T>(
    answer: Result<tonic::Response<tonic::Streaming<T>>, Status>,
) -> Result<(), Status> {
    answer?.into_inner().message().await.map(drop)
}

/// An import that begins and ends.
fn start(tenant: &str) -> impl tokio_stream::Stream<Item = v1::ImportRecordsRequest> + use<> {
    let import_id = lethe::client::request_id();
    let start = v1::ImportStart { parent: format!("tenants/{tenant}"), import_id };
    let message = Some(v1::import_records_request::Message::Start(start));
    tokio_stream::once(v1::ImportRecordsRequest { message })
}

/// A well-formed call about a tenant, to things that are not there: what passes the decision ends in OK or in an error
/// that is not about rights.
async fn call(client: &Client, rpc: &str, tenant: &str) -> Result<(), Status> {
    let parent = format!("tenants/{tenant}");
    let schema = format!("{parent}/schemas/nothing");
    let record = format!("{parent}/records/{NOBODY}");
    let subject = format!("{parent}/subjects/{NOBODY}");
    let value = Some(crate::live::text("x"));
    let fields = crate::live::texts(&[("x", "x")]);
    let (mut vault, mut records) = (client.vault(), client.records());
    let (mut schemas, mut subjects) = (client.schemas(), client.subjects());
    let (mut tenants, mut audit, mut logs) = (client.tenants(), client.audit(), client.logs());
    let (mut retention, mut holds) = (client.retention(), client.holds());
    let mut certificates = client.certificates();
    let hold = format!("{parent}/holds/{NOBODY}");
    let policy = format!("{parent}/retentionPolicies/nothing");
    let log = admin::Log::Ledger.into();
    let draft = Some(v1::Schema { name: schema.clone(), ..Default::default() });
    macro_rules! ask {
        ($service:ident.$method:ident($request:expr)) => {
            $service.$method($request).await.map(drop)
        };
    }
    match rpc.rsplit('/').next().unwrap() {
        "ExportAuditEntries" => {
            let request = admin::ExportAuditEntriesRequest::default();
            first(client.audit_streams().export_audit_entries(request).await).await
        }
        "GetAuditHead" => ask!(audit.get_audit_head(admin::GetAuditHeadRequest {})),
        "ListAuditEntries" => {
            ask!(audit.list_audit_entries(admin::ListAuditEntriesRequest {
                parent,
                ..Default::default()
            }))
        }
        "ListSubjectAuditEntries" => {
            ask!(audit.list_subject_audit_entries(admin::ListSubjectAuditEntriesRequest {
                parent: subject,
                ..Default::default()
            }))
        }
        "TailAuditEntries" => {
            let request = admin::TailAuditEntriesRequest { parent, ..Default::default() };
            first(client.audit_streams().tail_audit_entries(request).await).await
        }
        "AddCosignature" => {
            let origin = "lethe/00000000000000000000000000000000/ledger";
            let root = "A".repeat(43);
            let checkpoint = format!("{origin}\n1\n{root}=\n\n— a AAAAAAA=\n");
            ask!(logs.add_cosignature(admin::AddCosignatureRequest { checkpoint }))
        }
        "GetCheckpoint" => {
            ask!(logs.get_checkpoint(admin::GetCheckpointRequest { log, fresh: false }))
        }
        "GetConsistencyProof" => {
            let request = admin::GetConsistencyProofRequest { log, old_size: 1, size: 0 };
            ask!(logs.get_consistency_proof(request))
        }
        "GetInclusionProof" => {
            let request = admin::GetInclusionProofRequest { log, index: 1 << 40, size: 0 };
            ask!(logs.get_inclusion_proof(request))
        }
        "GetTiles" => {
            let paths = vec!["tile/7/000.p/1".to_owned()];
            ask!(logs.get_tiles(admin::GetTilesRequest { log, paths }))
        }
        "GetCertificate" => {
            let unit = Some(v1::get_certificate_request::Unit::Record(record));
            let request = v1::GetCertificateRequest { parent, unit, checkpoint_size: 0 };
            ask!(certificates.get_certificate(request))
        }
        "ListCertificates" => {
            let request = v1::ListCertificatesRequest { parent, ..Default::default() };
            ask!(certificates.list_certificates(request))
        }
        "EraseBucket" => ask!(vault.erase_bucket(admin::EraseBucketRequest {
            schema,
            expire_date: "2999-01-01".into(),
            reason: 0
        })),
        "GetKeyStatus" => ask!(vault.get_key_status(admin::GetKeyStatusRequest {})),
        "GetMetrics" => ask!(vault.get_metrics(admin::GetMetricsRequest {})),
        "GetStatus" => ask!(vault.get_status(admin::GetStatusRequest {})),
        "ListBuckets" => {
            ask!(vault.list_buckets(admin::ListBucketsRequest { parent, ..Default::default() }))
        }
        "RotateKey" => ask!(vault.rotate_key(admin::RotateKeyRequest {})),
        "BatchEraseRecords" => ask!(records.batch_erase_records(v1::BatchEraseRecordsRequest {
            parent,
            names: vec![record],
            reason: 0
        })),
        "BatchCreateRecords" => {
            let requests = vec![new_customer(tenant, &[("x", "x")])];
            ask!(records.batch_create_records(v1::BatchCreateRecordsRequest { parent, requests }))
        }
        "BatchGetRecords" => ask!(records.batch_get_records(v1::BatchGetRecordsRequest {
            parent,
            names: vec![record],
            ..Default::default()
        })),
        "ExportRecords" => {
            let request = v1::ExportRecordsRequest { parent, ..Default::default() };
            first(records.export_records(request).await).await
        }
        "ImportRecords" => first(records.import_records(start(tenant)).await).await,
        "WatchRecords" => {
            first(records.watch_records(v1::WatchRecordsRequest { parent }).await).await
        }
        "CreateRecord" => ask!(records.create_record(new_customer(tenant, &[("x", "x")]))),
        "EraseRecord" => ask!(records.erase_record(super::erase_request(&record))),
        "FindRecords" => ask!(records.find_records(v1::FindRecordsRequest {
            schema,
            field: "x".into(),
            value,
            ..Default::default()
        })),
        "GetRecord" => get(client, &record).await.map(drop),
        "ListRecords" => {
            ask!(records.list_records(v1::ListRecordsRequest { parent, ..Default::default() }))
        }
        "UpdateRecord" => ask!(records.update_record(v1::UpdateRecordRequest {
            record: Some(v1::Record { name: record, fields, ..Default::default() }),
            update_mask: None,
            request_id: String::new(),
        })),
        "CreateSchema" => ask!(schemas.create_schema(v1::CreateSchemaRequest {
            parent,
            schema_id: "nothing".into(),
            schema: draft
        })),
        "GetSchema" => ask!(schemas.get_schema(v1::GetSchemaRequest { name: schema })),
        "ListSchemas" => {
            ask!(schemas.list_schemas(v1::ListSchemasRequest { parent, ..Default::default() }))
        }
        "UpdateSchema" => {
            let request = v1::UpdateSchemaRequest { schema: draft, update_mask: None };
            ask!(schemas.update_schema(request))
        }
        "CreateSubject" => {
            let request = v1::CreateSubjectRequest { parent, ..Default::default() };
            ask!(subjects.create_subject(request))
        }
        "EraseSubject" => {
            ask!(subjects.erase_subject(v1::EraseSubjectRequest { name: subject, reason: 0 }))
        }
        "GetSubject" => ask!(subjects.get_subject(v1::GetSubjectRequest { name: subject })),
        "PlaceHold" => {
            let scope = Some(v1::hold::Scope::Record(record));
            let hold = Some(v1::Hold { scope, reason: "x".into(), ..Default::default() });
            let request = v1::PlaceHoldRequest { parent, hold, request_id: String::new() };
            ask!(holds.place_hold(request))
        }
        "GetHold" => ask!(holds.get_hold(v1::GetHoldRequest { name: hold })),
        "ListHolds" => {
            ask!(holds.list_holds(v1::ListHoldsRequest { parent, ..Default::default() }))
        }
        "ReleaseHold" => {
            ask!(holds.release_hold(v1::ReleaseHoldRequest { name: hold, note: "x".into() }))
        }
        "ListPostponedErasures" => {
            let request = v1::ListPostponedErasuresRequest { parent, ..Default::default() };
            ask!(holds.list_postponed_erasures(request))
        }
        "ConfirmClock" => {
            let seconds = SystemClock.now().0 / 1_000;
            let time = Some(prost_types::Timestamp { seconds, nanos: 0 });
            ask!(retention.confirm_clock(v1::ConfirmClockRequest { time }))
        }
        "CreateRetentionPolicy" => {
            ask!(retention.create_retention_policy(v1::CreateRetentionPolicyRequest {
                parent,
                retention_policy_id: "nothing".into(),
                retention_policy: Some(v1::RetentionPolicy::default()),
            }))
        }
        "DeleteRetentionPolicy" => {
            let request = v1::DeleteRetentionPolicyRequest { name: policy, etag: String::new() };
            ask!(retention.delete_retention_policy(request))
        }
        "ExplainRetention" => {
            ask!(retention.explain_retention(v1::ExplainRetentionRequest { name: record }))
        }
        "GetRetentionPolicy" => {
            ask!(retention.get_retention_policy(v1::GetRetentionPolicyRequest { name: policy }))
        }
        "GetRetentionStatus" => {
            ask!(retention.get_retention_status(v1::GetRetentionStatusRequest {}))
        }
        "ListRetentionPolicies" => {
            let request = v1::ListRetentionPoliciesRequest { parent, ..Default::default() };
            ask!(retention.list_retention_policies(request))
        }
        "PauseRebucketing" => {
            ask!(retention.pause_rebucketing(v1::PauseRebucketingRequest { parent }))
        }
        "PreviewRetention" => {
            let (date, page_token) = ("2999-01-01".into(), String::new());
            let request = v1::PreviewRetentionRequest { parent, date, page_token };
            ask!(retention.preview_retention(request))
        }
        "ResumeRebucketing" => {
            ask!(retention.resume_rebucketing(v1::ResumeRebucketingRequest { parent }))
        }
        "RunRetention" => {
            ask!(retention.run_retention(v1::RunRetentionRequest { dry_run: true }))
        }
        "UpdateRetentionPolicy" => {
            let named = v1::RetentionPolicy { name: policy, ..Default::default() };
            let (retention_policy, update_mask) = (Some(named), None);
            ask!(retention.update_retention_policy(v1::UpdateRetentionPolicyRequest {
                retention_policy,
                update_mask
            }))
        }
        "CreateTenant" => ask!(
            tenants
                .create_tenant(v1::CreateTenantRequest { tenant_id: tenant.into(), tenant: None })
        ),
        "GetTenant" => ask!(tenants.get_tenant(v1::GetTenantRequest { name: parent })),
        "UpdateTenant" => {
            let display_name = "Other".to_owned();
            let tenant = Some(v1::Tenant { name: parent, display_name, ..Default::default() });
            ask!(tenants.update_tenant(v1::UpdateTenantRequest { tenant, update_mask: None }))
        }
        "ListTenants" => ask!(tenants.list_tenants(v1::ListTenantsRequest::default())),
        other => panic!("no call for {other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_role_and_tenant_is_answered_as_the_table_says() {
    let live = Live::start().await;
    live.furnish("a").await;
    live.furnish("b").await;
    let listed: Vec<&str> =
        RPCS.iter().filter(|(_, a)| *a != Action::Health).map(|(rpc, _)| *rpc).collect();
    assert_eq!(listed, TABLE.map(|(rpc, _)| rpc));
    let roles = ["application", "support", "operator", "privacy-officer", "auditor"];
    for (column, role) in roles.into_iter().enumerate() {
        let all = live.client(role).await;
        let bound = live.client(&format!("{role}-a")).await;
        for (rpc, cells) in TABLE {
            let cases = [(&all, "b"), (&bound, "a"), (&bound, "b")];
            for ((client, tenant), expected) in cases.into_iter().zip(cells[column].chars()) {
                let outcome = call(client, rpc, tenant).await;
                let code = outcome.err().map_or(Code::Ok, |s| s.code());
                let denied = code == Code::PermissionDenied;
                assert_eq!(denied, expected == 'n', "{rpc} {role} on {tenant}: {code:?}");
                let sound = [
                    Code::Ok,
                    Code::NotFound,
                    Code::InvalidArgument,
                    Code::AlreadyExists,
                    Code::PermissionDenied,
                ];
                assert!(sound.contains(&code), "{rpc} {role} on {tenant}: {code:?}");
            }
        }
    }
    let stranger = live.client("stranger").await;
    for (rpc, _) in TABLE {
        let status = call(&stranger, rpc, "a").await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{rpc}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_does_not_tell_whether_something_exists() {
    let live = Live::start().await;
    live.furnish("b").await;
    let application = live.client("application").await;
    let there = create(&application, "b", &[("email", "b@example.org")]).await.name;
    let bound = live.client("application-a").await;
    let mut heard = Vec::new();
    let absent = format!("tenants/b/records/{NOBODY}");
    let nowhere = format!("tenants/none/records/{NOBODY}");
    for name in [&there, &absent, &nowhere] {
        let status = get(&bound, name).await.unwrap_err();
        heard.push((status.code(), status.message().to_owned(), status.details().to_vec()));
    }
    assert_eq!(heard[0].0, Code::PermissionDenied);
    assert!(heard.iter().all(|h| *h == heard[0]), "{heard:?}");
    let tenants = bound.tenants().list_tenants(v1::ListTenantsRequest::default()).await.unwrap();
    assert!(tenants.into_inner().tenants.is_empty(), "tenants of others are not listed");

    let status = live.client("operator").await.vault().get_status(admin::GetStatusRequest {}).await;
    assert_eq!(status.unwrap().into_inner().counters["calls_denied"], 3);
}

/// What a role sees of a field: the value, at most its mask, or that the call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Clear,
    Masked,
    Denied,
}

/// A field without a mask of its own is left out.
type Shown<'a> = (&'a str, &'a str, Option<&'a str>);

fn sight(of: Result<Vec<v1::Record>, Status>, (field, clear, masked): Shown<'_>) -> Sight {
    match of {
        Ok(records) => match crate::live::shown(&records[0], field) {
            Some(seen) if seen == clear => Sight::Clear,
            other => {
                assert_eq!(other, masked, "{field}");
                Sight::Masked
            }
        },
        Err(status) => {
            assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
            assert_eq!(status.message(), "the identity has no right to this");
            Sight::Denied
        }
    }
}

/// Every way to read a record.
async fn read(
    client: &Client,
    way: &str,
    name: &str,
    purpose: &str,
) -> Result<Vec<v1::Record>, Status> {
    let (mut records, purpose) = (client.records(), purpose.to_owned());
    let parent = "tenants/shop".to_owned();
    match way {
        "get" => {
            let request = v1::GetRecordRequest { name: name.into(), purpose, ..Default::default() };
            records.get_record(request).await.map(|r| vec![r.into_inner().record.unwrap()])
        }
        "batch" => {
            let names = vec![name.to_owned()];
            let request =
                v1::BatchGetRecordsRequest { parent, names, purpose, ..Default::default() };
            records.batch_get_records(request).await.map(|r| r.into_inner().records)
        }
        "list" => {
            let request = v1::ListRecordsRequest { parent, purpose, ..Default::default() };
            records.list_records(request).await.map(|r| r.into_inner().records)
        }
        "find" => {
            let request = v1::FindRecordsRequest {
                schema: format!("{parent}/schemas/customer"),
                field: "city".into(),
                value: Some(crate::live::text("London")),
                purpose,
                ..Default::default()
            };
            records.find_records(request).await.map(|r| r.into_inner().records)
        }
        _ => {
            let request = v1::ExportRecordsRequest { parent, purpose, ..Default::default() };
            let mut stream = records.export_records(request).await?.into_inner();
            stream.message().await.map(|m| m.unwrap().records)
        }
    }
}

/// R14: role × way of reading × purpose × class, against a daemon. The last three letters of a cell are PUBLIC,
/// GENERAL, SENSITIVE: c(lear), m(asked), d(enied).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_sees_of_each_class_what_the_table_says() {
    let live = Live::start().await;
    live.furnish("shop").await;
    let application = live.client("application").await;
    let ada = [("email", "ada@example.org"), ("name", "Ada Lovelace"), ("city", "London")];
    let name = create(&application, "shop", &ada).await.name;
    // Without a purpose; for a subject request.
    let table = [
        ("application", ["get", "batch", "list", "find", "export"].as_slice(), ["ccc", "ccc"]),
        ("clerk", &["get", "batch", "list", "find", "export"], ["cmm", "cmm"]),
        ("support", &["get", "batch", "list", "find"], ["ccm", "ccm"]),
        ("support", &["export"], ["ddd", "ddd"]),
        ("privacy-officer", &["get", "batch", "list", "export"], ["mmm", "ccc"]),
        // Who may not see a field may not find by it.
        ("privacy-officer", &["find"], ["ddd", "ccc"]),
        ("operator", &["get", "batch", "list", "find", "export"], ["ddd", "ddd"]),
        ("auditor", &["get", "batch", "list", "find", "export"], ["ddd", "ddd"]),
    ];
    for (role, ways, cells) in table {
        let client = live.client(role).await;
        for way in ways {
            for (purpose, cell) in ["", "subject-request"].into_iter().zip(cells) {
                let fields = [
                    ("city", "London", None),
                    ("name", "Ada Lovelace", Some("A**")),
                    ("email", "ada@example.org", Some("a***@example.org")),
                ];
                for (field, letter) in fields.into_iter().zip(cell.chars()) {
                    let got = sight(read(&client, way, &name, purpose).await, field);
                    let want = match letter {
                        'c' => Sight::Clear,
                        'm' => Sight::Masked,
                        _ => Sight::Denied,
                    };
                    assert_eq!(got, want, "{role} {way} {purpose:?} {field:?}");
                }
            }
        }
    }
    let by_email = |purpose: &str| v1::FindRecordsRequest {
        schema: "tenants/shop/schemas/customer".into(),
        field: "email".into(),
        value: Some(crate::live::text("ada@example.org")),
        purpose: purpose.into(),
        ..Default::default()
    };
    for (role, purpose, may) in [
        ("application", "", true),
        ("support", "", false),
        ("support", "subject-request", false),
        ("privacy-officer", "", false),
        ("privacy-officer", "subject-request", true),
    ] {
        let found = live.client(role).await.records().find_records(by_email(purpose)).await;
        assert_eq!(found.is_ok(), may, "{role} {purpose}");
    }
}

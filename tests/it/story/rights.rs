//! Who may do what, cell by cell: every method, every role, on the tenant that the identity is bound to and on another.

use lethe::authz::{Action, RPCS};
use lethe::client::Client;
use lethe::proto::{admin, v1};
use tonic::{Code, Status};

use crate::live::{Live, create, get, new_customer};

/// Written out by hand from the requirement. Columns are application, operator, auditor. A cell's first letter is an
/// identity that is bound to all tenants; then, of one that is bound to `a` only, the calls about `a` and about `b`.
/// Methods about the vault name no tenant: both last letters are the same call.
const TABLE: [(&str, [&str; 3]); 28] = [
    ("/lethe.admin.v1.VaultService/EraseBucket", ["nnn", "yyn", "nnn"]),
    ("/lethe.admin.v1.VaultService/GetKeyStatus", ["nnn", "yyy", "yyy"]),
    ("/lethe.admin.v1.VaultService/GetStatus", ["nnn", "yyy", "yyy"]),
    ("/lethe.admin.v1.VaultService/ListBuckets", ["nnn", "yyn", "yyn"]),
    ("/lethe.admin.v1.VaultService/RotateKey", ["nnn", "ynn", "nnn"]),
    ("/lethe.v1.RecordService/BatchCreateRecords", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.RecordService/BatchEraseRecords", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.RecordService/BatchGetRecords", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.RecordService/CreateRecord", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.RecordService/EraseRecord", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.RecordService/ExportRecords", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.RecordService/FindRecords", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.RecordService/GetRecord", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.RecordService/ImportRecords", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.RecordService/ListRecords", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.RecordService/UpdateRecord", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.RecordService/WatchRecords", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.SchemaService/CreateSchema", ["nnn", "yyn", "nnn"]),
    ("/lethe.v1.SchemaService/GetSchema", ["yyn", "yyn", "yyn"]),
    ("/lethe.v1.SchemaService/ListSchemas", ["yyn", "yyn", "yyn"]),
    ("/lethe.v1.SchemaService/UpdateSchema", ["nnn", "yyn", "nnn"]),
    ("/lethe.v1.SubjectService/CreateSubject", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.SubjectService/EraseSubject", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.SubjectService/GetSubject", ["yyn", "nnn", "nnn"]),
    ("/lethe.v1.TenantService/CreateTenant", ["nnn", "ynn", "nnn"]),
    ("/lethe.v1.TenantService/GetTenant", ["yyn", "yyn", "yyn"]),
    ("/lethe.v1.TenantService/ListTenants", ["yyy", "yyy", "yyy"]),
    ("/lethe.v1.TenantService/UpdateTenant", ["nnn", "yyn", "nnn"]),
];

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
    let mut tenants = client.tenants();
    let draft = Some(v1::Schema { name: schema.clone(), ..Default::default() });
    macro_rules! ask {
        ($service:ident.$method:ident($request:expr)) => {
            $service.$method($request).await.map(drop)
        };
    }
    match rpc.rsplit('/').next().unwrap() {
        "EraseBucket" => ask!(vault.erase_bucket(admin::EraseBucketRequest {
            schema,
            expire_date: "2999-01-01".into(),
            reason: 0
        })),
        "GetKeyStatus" => ask!(vault.get_key_status(admin::GetKeyStatusRequest {})),
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
    for (column, role) in ["application", "operator", "auditor"].into_iter().enumerate() {
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

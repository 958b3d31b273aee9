//! For tests only: a vault in memory behind the real services, as far as lethectl looks: required and unique fields,
//! etags, pages, receipts. Nothing here is encrypted or kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use tonic::transport::server::{Router, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use super::receipt::tests::receipt_bytes;
use crate::crypto::sign_for_test;
use crate::proto::v1::record_service_server::{RecordService, RecordServiceServer};
use crate::proto::v1::schema_service_server::{SchemaService, SchemaServiceServer};
use crate::proto::v1::tenant_service_server::{TenantService, TenantServiceServer};
use crate::proto::v1::value::Kind;
use crate::proto::v1::*;

pub(crate) const SEED: [u8; 32] = [3; 32];

#[derive(Default)]
pub(crate) struct State {
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) schemas: BTreeMap<String, Schema>,
    pub(crate) records: BTreeMap<String, Record>,
    pub(crate) calls: HashMap<&'static str, u32>,
    /// The parts that each update of a schema named.
    pub(crate) masks: Vec<Vec<String>>,
    /// The next so many creates are refused for lack of room.
    pub(crate) busy: u32,
    /// After so many creates nothing works any more.
    pub(crate) breaks_after: Option<u32>,
}

#[derive(Clone, Default)]
pub(crate) struct FakeVault(pub(crate) Arc<Mutex<State>>);

type Answer<T> = Result<Response<T>, Status>;
type Never<T> = tokio_stream::Empty<Result<T, Status>>;

impl FakeVault {
    pub(crate) fn router(&self) -> Router {
        Server::builder()
            .add_service(TenantServiceServer::new(self.clone()))
            .add_service(SchemaServiceServer::new(self.clone()))
            .add_service(RecordServiceServer::new(self.clone()))
    }

    fn count(&self, call: &'static str) -> std::sync::MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap();
        *state.calls.entry(call).or_default() += 1;
        state
    }

    pub(crate) fn calls(&self, call: &str) -> u32 {
        self.0.lock().unwrap().calls.get(call).copied().unwrap_or(0)
    }
}

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

fn violation(code: Code, field: &str, reason: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation(format!("record.fields.{field}"), reason);
    Status::with_error_details(code, "a field is not valid", details)
}

/// What the real vault checks too, as far as the samples need it.
fn check(state: &State, record: &Record) -> Result<(), Status> {
    let schema = state.schemas.get(&record.schema).ok_or_else(|| Status::not_found("no schema"))?;
    for field in &schema.fields {
        let value = record.fields.get(&field.name).and_then(|v| v.kind.as_ref());
        match (value, field.kind()) {
            (None, _) if field.required => {
                return Err(violation(Code::InvalidArgument, &field.name, "is required"));
            }
            (Some(Kind::StringValue(s)), FieldKind::Email) if !s.is_ascii() => {
                return Err(violation(Code::InvalidArgument, &field.name, "has a malformed part"));
            }
            _ => {}
        }
        let other = |r: &&Record| r.schema == record.schema && r.name != record.name;
        let taken = |r: &Record| r.fields.get(&field.name).and_then(|v| v.kind.as_ref()) == value;
        if field.unique && value.is_some() && state.records.values().filter(other).any(taken) {
            return Err(violation(Code::AlreadyExists, &field.name, "is taken"));
        }
    }
    Ok(())
}

#[tonic::async_trait]
impl TenantService for FakeVault {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Answer<CreateTenantResponse> {
        let request = request.into_inner();
        let mut state = self.count("create_tenant");
        let tenant = Tenant {
            name: format!("tenants/{}", request.tenant_id),
            ..request.tenant.unwrap_or_default()
        };
        if state.tenants.iter().any(|t| t.name == tenant.name) {
            return Err(Status::already_exists("the tenant exists"));
        }
        state.tenants.push(tenant.clone());
        answer(CreateTenantResponse { tenant: Some(tenant) })
    }

    async fn update_tenant(
        &self,
        request: Request<UpdateTenantRequest>,
    ) -> Answer<UpdateTenantResponse> {
        let request = request.into_inner();
        let mask = request.update_mask.map(|m| m.paths).unwrap_or_default();
        let given = request.tenant.unwrap_or_default();
        let mut state = self.count("update_tenant");
        let tenant = state.tenants.iter_mut().find(|t| t.name == given.name);
        let tenant = tenant.ok_or_else(|| Status::not_found("no such tenant"))?;
        if mask == ["display_name"] {
            tenant.display_name = given.display_name;
        }
        answer(UpdateTenantResponse { tenant: Some(tenant.clone()) })
    }

    async fn get_tenant(&self, _: Request<GetTenantRequest>) -> Answer<GetTenantResponse> {
        Err(Status::unimplemented("not used by lethectl"))
    }

    /// Two tenants a page, so that paging shows.
    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Answer<ListTenantsResponse> {
        let from: usize = request.into_inner().page_token.parse().unwrap_or(0);
        let state = self.count("list_tenants");
        let tenants: Vec<_> = state.tenants.iter().skip(from).take(2).cloned().collect();
        let end = from + tenants.len();
        let next_page_token =
            if end < state.tenants.len() { end.to_string() } else { String::new() };
        answer(ListTenantsResponse { tenants, next_page_token })
    }
}

#[tonic::async_trait]
impl SchemaService for FakeVault {
    async fn create_schema(
        &self,
        request: Request<CreateSchemaRequest>,
    ) -> Answer<CreateSchemaResponse> {
        let request = request.into_inner();
        let mut state = self.count("create_schema");
        if !state.tenants.iter().any(|t| t.name == request.parent) {
            return Err(Status::not_found("no such tenant"));
        }
        let mut schema = request.schema.unwrap_or_default();
        schema.name = format!("{}/schemas/{}", request.parent, request.schema_id);
        schema.revision = 1;
        state.schemas.insert(schema.name.clone(), schema.clone());
        answer(CreateSchemaResponse { schema: Some(schema) })
    }

    async fn update_schema(
        &self,
        request: Request<UpdateSchemaRequest>,
    ) -> Answer<UpdateSchemaResponse> {
        let request = request.into_inner();
        let mut schema = request.schema.unwrap_or_default();
        let mut state = self.count("update_schema");
        state.masks.push(request.update_mask.map(|m| m.paths).unwrap_or_default());
        schema.revision = state.schemas.get(&schema.name).map_or(1, |s| s.revision + 1);
        state.schemas.insert(schema.name.clone(), schema.clone());
        answer(UpdateSchemaResponse { schema: Some(schema) })
    }

    async fn get_schema(&self, request: Request<GetSchemaRequest>) -> Answer<GetSchemaResponse> {
        let state = self.count("get_schema");
        let schema = state.schemas.get(&request.into_inner().name).cloned();
        let schema = schema.ok_or_else(|| Status::not_found("no such schema"))?;
        answer(GetSchemaResponse { schema: Some(schema) })
    }

    async fn list_schemas(&self, _: Request<ListSchemasRequest>) -> Answer<ListSchemasResponse> {
        let schemas = self.count("list_schemas").schemas.values().cloned().collect();
        answer(ListSchemasResponse { schemas, next_page_token: String::new() })
    }
}

#[tonic::async_trait]
impl RecordService for FakeVault {
    async fn create_record(
        &self,
        request: Request<CreateRecordRequest>,
    ) -> Answer<CreateRecordResponse> {
        let request = request.into_inner();
        let mut state = self.count("create_record");
        if state.busy > 0 {
            state.busy -= 1;
            return Err(Status::resource_exhausted("too many writes wait"));
        }
        if state.breaks_after.is_some_and(|n| state.calls["create_record"] > n) {
            return Err(Status::unavailable("the store stopped after a failed write"));
        }
        let mut record = request.record.unwrap_or_default();
        let id = uuid::Uuid::new_v4();
        record.name = format!("{}/records/{id}", request.parent);
        record.subject = format!("{}/subjects/{id}", request.parent);
        record.etag = "1".to_owned();
        check(&state, &record)?;
        state.records.insert(record.name.clone(), record.clone());
        answer(CreateRecordResponse { record: Some(record) })
    }

    async fn batch_create_records(
        &self,
        _: Request<BatchCreateRecordsRequest>,
    ) -> Answer<BatchCreateRecordsResponse> {
        Err(Status::unimplemented("not asked for by any test"))
    }

    async fn batch_get_records(
        &self,
        _: Request<BatchGetRecordsRequest>,
    ) -> Answer<BatchGetRecordsResponse> {
        Err(Status::unimplemented("not asked for by any test"))
    }

    type ImportRecordsStream = Never<ImportRecordsResponse>;

    async fn import_records(
        &self,
        _: Request<Streaming<ImportRecordsRequest>>,
    ) -> Answer<Self::ImportRecordsStream> {
        Err(Status::unimplemented("not asked for by any test"))
    }

    type ExportRecordsStream = Never<ExportRecordsResponse>;

    async fn export_records(
        &self,
        _: Request<ExportRecordsRequest>,
    ) -> Answer<Self::ExportRecordsStream> {
        Err(Status::unimplemented("not asked for by any test"))
    }

    type WatchRecordsStream = Never<WatchRecordsResponse>;

    async fn watch_records(
        &self,
        _: Request<WatchRecordsRequest>,
    ) -> Answer<Self::WatchRecordsStream> {
        Err(Status::unimplemented("not asked for by any test"))
    }

    async fn get_record(&self, request: Request<GetRecordRequest>) -> Answer<GetRecordResponse> {
        let state = self.count("get_record");
        let record = state.records.get(&request.into_inner().name).cloned();
        let record = record.ok_or_else(|| Status::not_found("no such record"))?;
        answer(GetRecordResponse { record: Some(record) })
    }

    async fn update_record(
        &self,
        request: Request<UpdateRecordRequest>,
    ) -> Answer<UpdateRecordResponse> {
        let request = request.into_inner();
        let given = request.record.unwrap_or_default();
        let mut state = self.count("update_record");
        let present = state.records.get(&given.name).cloned();
        let mut record = present.ok_or_else(|| Status::not_found("no such record"))?;
        if !given.etag.is_empty() && given.etag != record.etag {
            return Err(Status::aborted("the record changed meanwhile"));
        }
        for path in request.update_mask.unwrap_or_default().paths {
            let name = path.trim_start_matches("fields.").to_owned();
            match given.fields.get(&name) {
                Some(value) => record.fields.insert(name, value.clone()),
                None => record.fields.remove(&name),
            };
        }
        check(&state, &record)?;
        record.etag = (record.etag.parse::<u64>().unwrap_or(0) + 1).to_string();
        state.records.insert(record.name.clone(), record.clone());
        answer(UpdateRecordResponse { record: Some(record) })
    }

    async fn list_records(
        &self,
        request: Request<ListRecordsRequest>,
    ) -> Answer<ListRecordsResponse> {
        let request = request.into_inner();
        let from: usize = request.page_token.parse().unwrap_or(0);
        // Pages may be shorter than asked for.
        let size = usize::try_from(request.page_size).unwrap_or(0).min(25);
        let state = self.count("list_records");
        let records: Vec<_> = state.records.values().skip(from).take(size).cloned().collect();
        let end = from + records.len();
        let next_page_token =
            if end < state.records.len() { end.to_string() } else { String::new() };
        answer(ListRecordsResponse { records, next_page_token, ..Default::default() })
    }

    async fn find_records(
        &self,
        request: Request<FindRecordsRequest>,
    ) -> Answer<FindRecordsResponse> {
        let request = request.into_inner();
        let state = self.count("find_records");
        let hit = |r: &&Record| {
            r.schema == request.schema && r.fields.get(&request.field) == request.value.as_ref()
        };
        let records = state.records.values().filter(hit).cloned().collect();
        answer(FindRecordsResponse { records, incomplete: false })
    }

    async fn erase_record(
        &self,
        request: Request<EraseRecordRequest>,
    ) -> Answer<EraseRecordResponse> {
        let name = request.into_inner().name;
        let mut state = self.count("erase_record");
        state.records.remove(&name).ok_or_else(|| Status::not_found("no such record"))?;
        answer(EraseRecordResponse { receipt: Some(receipt(&name)), postponed: None })
    }

    async fn batch_erase_records(
        &self,
        request: Request<BatchEraseRecordsRequest>,
    ) -> Answer<BatchEraseRecordsResponse> {
        let names = request.into_inner().names;
        let mut state = self.count("batch_erase_records");
        state.records.retain(|name, _| !names.contains(name));
        let receipts = names.iter().map(|name| receipt(name)).collect();
        answer(BatchEraseRecordsResponse { receipts, postponed: Vec::new() })
    }
}

fn receipt(name: &str) -> ErasureReceipt {
    let id = crate::id::RecordId::parse(super::names::last(name)).unwrap();
    let signed_bytes = receipt_bytes(1, id.0);
    let (public_key, signature) = sign_for_test(SEED, &signed_bytes);
    ErasureReceipt {
        name: name.to_owned(),
        level: ErasureLevel::E1LocalAnchorScrubbed.into(),
        reason: ErasureReason::SubjectRequest.into(),
        generation: 9,
        leaf_index: 77,
        signed_bytes,
        signature,
        public_key: public_key.to_vec(),
        ..ErasureReceipt::default()
    }
}

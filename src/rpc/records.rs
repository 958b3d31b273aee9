//! `lethe.v1.RecordService`.

use std::collections::BTreeMap;

use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::field_mask::{self, Mask};
use super::page::{self, Query};
use super::served::record_service_server::RecordService;
use super::served::{
    BatchCreateRecordsResponse, BatchGetRecordsResponse, CreateRecordResponse,
    ExportRecordsResponse, FindRecordsResponse, GetRecordResponse, ListRecordsResponse,
    UpdateRecordResponse,
};
use super::shown::Shown;
use super::status::{self, Terms, Violations};
use super::stream::Outgoing;
use super::{Rpc, convert, erasure, names};
use crate::authz::{CreateRecord, EraseRecord, ReadRecord, UpdateRecord};
use crate::class::ErasureReason;
use crate::id::{RecordId, RequestId};
use crate::limits::BATCH_ERASE_MAX;
use crate::proto::v1::{
    BatchCreateRecordsRequest, BatchEraseRecordsRequest, BatchEraseRecordsResponse,
    BatchGetRecordsRequest, CreateRecordRequest, EraseRecordRequest, EraseRecordResponse,
    ExportRecordsRequest, FindRecordsRequest, GetRecordRequest, ImportRecordsRequest,
    ImportRecordsResponse, ListRecordsRequest, Record, UpdateRecordRequest, WatchRecordsRequest,
    WatchRecordsResponse,
};
use crate::vault::slug::{FieldName, Slug};
use crate::vault::value::Value;
use crate::vault::{NewRecord, ReadSpec, RecordChange};

const PAGE: usize = 50;

/// What a reader asks for, checked as far as can be without a schema.
pub(super) fn read_spec(
    mask: Option<prost_types::FieldMask>,
    purpose: String,
    found: &mut Violations,
) -> ReadSpec {
    let fields = match field_mask::parse("read_mask", mask, found) {
        Mask::Absent | Mask::All => None,
        Mask::Some(names) => Some(names),
    };
    if !purpose.is_empty() {
        found.take("purpose", Slug::parse(&purpose));
    }
    ReadSpec { fields, purpose: Some(purpose).filter(|p| !p.is_empty()) }
}

/// Tenant and record of a create request.
pub(super) fn new_record(
    message: CreateRecordRequest,
    found: &mut Violations,
) -> Option<(Slug, NewRecord)> {
    let tenant = found.take("parent", names::parse_tenant(&message.parent));
    let request = convert::request_id("request_id", &message.request_id, found);
    let record = found.take("record", message.record.ok_or("is missing"))?;
    let new = record_in(tenant.as_ref(), record, request, found);
    tenant.zip(new)
}

/// A record type that a request may name; `None` if it names none.
pub(super) fn schema_of(name: &str, tenant: Option<&Slug>, found: &mut Violations) -> Option<Slug> {
    if name.is_empty() {
        return None;
    }
    let schema = found.take("schema", names::parse_schema(name))?;
    if tenant.is_some_and(|t| schema.tenant != *t) {
        found.add("schema", names::OTHER_TENANT);
    }
    Some(schema.id)
}

/// A record to create for a tenant.
pub(super) fn record_in(
    tenant: Option<&Slug>,
    record: Record,
    request: Option<RequestId>,
    found: &mut Violations,
) -> Option<NewRecord> {
    let schema = found.take("record.schema", names::parse_schema(&record.schema));
    let subject = match record.subject.as_str() {
        "" => None,
        name => found.take("record.subject", names::parse_subject(name)),
    };
    let fields = convert::fields("record", record.fields, found);
    let tenant = tenant?;
    if schema.as_ref().is_some_and(|s| s.tenant != *tenant) {
        found.add("record.schema", names::OTHER_TENANT);
    }
    if subject.as_ref().is_some_and(|s| s.tenant != *tenant) {
        found.add("record.subject", names::OTHER_TENANT);
    }
    let subject = subject.map(|s| s.id);
    Some(NewRecord { rtype: schema?.id, subject, fields, request })
}

/// Tenant and change of an update request.
fn change(message: UpdateRecordRequest, found: &mut Violations) -> Option<(Slug, RecordChange)> {
    let mask = field_mask::parse("update_mask", message.update_mask, found);
    let request = convert::request_id("request_id", &message.request_id, found);
    let record = found.take("record", message.record.ok_or("is missing"))?;
    let name = found.take("record.name", names::parse_record(&record.name));
    let etag = convert::etag("record.etag", &record.etag, found);
    let mut given = convert::fields("record", record.fields, found);
    let (set, remove, replace) = match mask {
        Mask::Absent => {
            if given.is_empty() {
                found.add("record.fields", "no field is given or named in update_mask");
            }
            (given, Vec::new(), false)
        }
        Mask::All => (given, Vec::new(), true),
        Mask::Some(names) => {
            let mut set = BTreeMap::<String, Value>::new();
            let mut remove = Vec::new();
            for (name, _) in names {
                match given.remove(&name) {
                    Some(value) => {
                        set.insert(name, value);
                    }
                    None => remove.push(name),
                }
            }
            (set, remove, false)
        }
    };
    let name = name?;
    Some((name.tenant, RecordChange { record: name.id, etag, set, remove, replace, request }))
}

#[tonic::async_trait]
impl RecordService for Rpc {
    async fn create_record(
        &self,
        request: Request<CreateRecordRequest>,
    ) -> Result<Response<CreateRecordResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let parts = new_record(message, &mut found);
        let (tenant, new) = found.finish(parts)?;
        let permit = self.permit::<CreateRecord>(&extensions, Some(tenant.as_str()))?;
        let id = tenant.clone();
        let view = self
            .change(Terms::Record, tenant.as_str(), |vault| async move {
                vault.create_record(&permit, id.as_str(), new).await
            })
            .await?;
        let record = Some(Shown::new(tenant.as_str(), &view));
        Ok(Response::new(CreateRecordResponse { record }))
    }

    async fn batch_create_records(
        &self,
        request: Request<BatchCreateRecordsRequest>,
    ) -> Result<Response<BatchCreateRecordsResponse>, Status> {
        self.create_many(request).await
    }

    type ImportRecordsStream = Outgoing<ImportRecordsResponse>;

    async fn import_records(
        &self,
        request: Request<Streaming<ImportRecordsRequest>>,
    ) -> Result<Response<Self::ImportRecordsStream>, Status> {
        self.import(request)
    }

    async fn batch_get_records(
        &self,
        request: Request<BatchGetRecordsRequest>,
    ) -> Result<Response<BatchGetRecordsResponse>, Status> {
        self.get_many(request)
    }

    type ExportRecordsStream = Outgoing<ExportRecordsResponse>;

    async fn export_records(
        &self,
        request: Request<ExportRecordsRequest>,
    ) -> Result<Response<Self::ExportRecordsStream>, Status> {
        self.export(request)
    }

    type WatchRecordsStream = Outgoing<WatchRecordsResponse>;

    async fn watch_records(
        &self,
        request: Request<WatchRecordsRequest>,
    ) -> Result<Response<Self::WatchRecordsStream>, Status> {
        self.watch(request)
    }

    async fn get_record(
        &self,
        request: Request<GetRecordRequest>,
    ) -> Result<Response<GetRecordResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let name = found.take("name", names::parse_record(&message.name));
        let spec = read_spec(message.read_mask, message.purpose, &mut found);
        let name = found.finish(name)?;
        let tenant = name.tenant.as_str();
        let permit = self.permit::<ReadRecord>(&extensions, Some(tenant))?;
        let view = self.vault.get_record(&permit, tenant, name.id, &spec);
        let view = view.map_err(|e| status::of(e, Terms::Record, tenant))?;
        Ok(Response::new(GetRecordResponse { record: Some(Shown::new(tenant, &view)) }))
    }

    async fn update_record(
        &self,
        request: Request<UpdateRecordRequest>,
    ) -> Result<Response<UpdateRecordResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let parts = change(message, &mut found);
        let (tenant, change) = found.finish(parts)?;
        let permit = self.permit::<UpdateRecord>(&extensions, Some(tenant.as_str()))?;
        let id = tenant.clone();
        let view = self
            .change(Terms::Record, tenant.as_str(), |vault| async move {
                vault.update_record(&permit, id.as_str(), change).await
            })
            .await?;
        let record = Some(Shown::new(tenant.as_str(), &view));
        Ok(Response::new(UpdateRecordResponse { record }))
    }

    async fn list_records(
        &self,
        request: Request<ListRecordsRequest>,
    ) -> Result<Response<ListRecordsResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let rtype = schema_of(&message.schema, tenant.as_ref(), &mut found);
        let size = page::size(message.page_size, PAGE, &mut found);
        // Part of the page token's binding in the form that it was given.
        let mask_bytes = message.read_mask.as_ref().map(Message::encode_to_vec);
        let spec = read_spec(message.read_mask, message.purpose, &mut found);
        let (tenant, size) = found.finish(tenant.zip(size))?;
        let tenant = tenant.as_str();
        let permit = self.permit::<ReadRecord>(&extensions, Some(tenant))?;
        let query = Query(vec![
            b"ListRecords",
            tenant.as_bytes(),
            message.schema.as_bytes(),
            mask_bytes.as_deref().unwrap_or_default(),
            spec.purpose.as_deref().unwrap_or_default().as_bytes(),
        ]);
        let cursor = self.cursor(&permit, &query, &message.page_token)?;
        let after = cursor.and_then(|c| c.try_into().ok()).map(RecordId);
        let listed = self.vault.list_records(&permit, tenant, rtype.as_ref(), after, size, &spec);
        let page = listed.map_err(|e| status::of(e, Terms::Record, tenant))?;
        let last = page.next.as_ref().map(|id| id.0.as_slice());
        let next_page_token = self.next_page(&permit, &query, last)?;
        let damaged_names = page.damaged.iter().map(|id| names::record(tenant, *id)).collect();
        let records = page.views.iter().map(|v| Shown::new(tenant, v)).collect();
        Ok(Response::new(ListRecordsResponse { records, next_page_token, damaged_names }))
    }

    async fn find_records(
        &self,
        request: Request<FindRecordsRequest>,
    ) -> Result<Response<FindRecordsResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let schema = found.take("schema", names::parse_schema(&message.schema));
        let field = found.take("field", FieldName::parse(&message.field));
        let value = convert::given("value", message.value, &mut found);
        let spec = read_spec(message.read_mask, message.purpose, &mut found);
        let parts = schema.zip(field).zip(value);
        let ((schema, field), value) = found.finish(parts)?;
        let tenant = schema.tenant.as_str();
        let permit = self.permit::<ReadRecord>(&extensions, Some(tenant))?;
        let views =
            self.vault.find_records(&permit, tenant, &schema.id, field.as_str(), value, &spec);
        let (views, incomplete) = views.map_err(|e| status::of(e, Terms::Query, tenant))?;
        let records = views.iter().map(|v| Shown::new(tenant, v)).collect();
        Ok(Response::new(FindRecordsResponse { records, incomplete }))
    }

    async fn erase_record(
        &self,
        request: Request<EraseRecordRequest>,
    ) -> Result<Response<EraseRecordResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let name = found.take("name", names::parse_record(&message.name));
        let reason = erasure::reason(message.reason, ErasureReason::SubjectRequest, &mut found);
        let etag = convert::etag("etag", &message.etag, &mut found);
        let (name, reason) = found.finish(name.zip(reason))?;
        let tenant = name.tenant;
        let permit = self.permit::<EraseRecord>(&extensions, Some(tenant.as_str()))?;
        let (id, record) = (tenant.clone(), name.id);
        let done = self
            .change(Terms::Record, tenant.as_str(), |vault| async move {
                vault.erase_records(&permit, id.as_str(), &[record], reason, etag).await
            })
            .await?;
        let receipt = done.receipts.into_iter().next();
        let receipt = receipt.map(|r| erasure::receipt(message.name, r));
        let postponed = done.postponed.into_iter().next();
        let postponed = postponed.map(|p| erasure::postponed(tenant.as_str(), p));
        Ok(Response::new(EraseRecordResponse { receipt, postponed }))
    }

    async fn batch_erase_records(
        &self,
        request: Request<BatchEraseRecordsRequest>,
    ) -> Result<Response<BatchEraseRecordsResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let reason = erasure::reason(message.reason, ErasureReason::SubjectRequest, &mut found);
        // The vault says how many there may be; more than one too many need not be read.
        let given = message.names.iter().take(BATCH_ERASE_MAX + 1);
        let records = names::records_of("names", given, tenant.as_ref(), &mut found);
        let (tenant, reason) = found.finish(tenant.zip(reason))?;
        let permit = self.permit::<EraseRecord>(&extensions, Some(tenant.as_str()))?;
        let (id, asked) = (tenant.clone(), records.clone());
        let done = self
            .change(Terms::Names, tenant.as_str(), |vault| async move {
                vault.erase_records(&permit, id.as_str(), &asked, reason, None).await
            })
            .await?;
        let waits = |record: &RecordId| done.postponed.iter().any(|(r, _)| r == record);
        let named = message.names.into_iter().zip(&records);
        let gone = named.filter(|(_, record)| !waits(record)).map(|(name, _)| name);
        let receipts = gone.zip(done.receipts).map(|(name, r)| erasure::receipt(name, r));
        let receipts = receipts.collect();
        let postponed = erasure::all_postponed(tenant.as_str(), done.postponed);
        Ok(Response::new(BatchEraseRecordsResponse { receipts, postponed }))
    }
}

//! Many records in one call: batches, imports, exports; and the watch of a tenant.
//!
//! Guarantees: each part of a stream asks for its right anew, and a watch does so too while nothing changes, so that a
//! right which is taken away ends the stream; a chunk of an import is answered after it is durable.

use prost::Message;
use tokio::time::{Instant, timeout};
use tonic::{Extensions, Request, Response, Status, Streaming};
use tonic_types::StatusExt;

use super::page::Query;
use super::records;
use super::served::{BatchCreateRecordsResponse, BatchGetRecordsResponse, ExportRecordsResponse};
use super::shown::Shown;
use super::status::{self, Terms, Violations};
use super::stream::{Outgoing, Outlet};
use super::{Rpc, convert, names};
use crate::authz::{CreateRecord, ExportRecords, ReadRecord, WatchRecords};
use crate::id::{RecordId, RequestId};
use crate::limits::{BATCH_CREATE_MAX, BATCH_GET_MAX, RIGHT_LOOK, WATCH_MAX};
use crate::proto::v1::import_records_request::Message as Incoming;
use crate::proto::v1::{
    BatchCreateRecordsRequest, BatchGetRecordsRequest, ExportRecordsRequest, ImportChunk,
    ImportFailure, ImportRecordsRequest, ImportRecordsResponse, ImportViolation,
    WatchRecordsRequest, WatchRecordsResponse,
};
use crate::vault::slug::Slug;
use crate::vault::{NewRecord, ReadSpec};

/// Records in one message of an export; it may end earlier, by its bytes.
const EXPORT_PAGE: usize = 500;

/// One import: whose, and which.
struct Import {
    tenant: Slug,
    id: RequestId,
}

impl Rpc {
    pub(super) async fn create_many(
        &self,
        request: Request<BatchCreateRecordsRequest>,
    ) -> Result<Response<BatchCreateRecordsResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        // The vault says how many there may be; more than one too many need not be read.
        let mut requests = Vec::with_capacity(message.requests.len().min(BATCH_CREATE_MAX + 1));
        for (at, mut one) in message.requests.into_iter().take(BATCH_CREATE_MAX + 1).enumerate() {
            if one.parent.is_empty() {
                one.parent.clone_from(&message.parent);
            } else if one.parent != message.parent {
                found.add(format!("requests[{at}].parent"), "is not the parent of the batch");
            }
            requests.push((at, one));
        }
        let mut new = Vec::with_capacity(requests.len());
        for (at, one) in requests {
            let mut of_one = Violations::default();
            let parts = records::new_record(one, &mut of_one);
            new.extend(parts.map(|(_, new)| new));
            found.extend(&format!("requests[{at}]."), of_one);
        }
        let tenant = found.finish(tenant)?;
        let permit = self.permit::<CreateRecord>(&extensions, Some(tenant.as_str()))?;
        let id = tenant.clone();
        let views = self
            .change(Terms::Requests, tenant.as_str(), |vault| async move {
                vault.create_records(&permit, id.as_str(), new).await
            })
            .await?;
        let records = views.iter().map(|v| Shown::new(tenant.as_str(), v)).collect();
        Ok(Response::new(BatchCreateRecordsResponse { records }))
    }

    pub(super) fn get_many(
        &self,
        request: Request<BatchGetRecordsRequest>,
    ) -> Result<Response<BatchGetRecordsResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let wanted = message.names.iter().take(BATCH_GET_MAX + 1);
        let wanted = names::records_of("names", wanted, tenant.as_ref(), &mut found);
        let spec = records::read_spec(message.read_mask, message.purpose, &mut found);
        let tenant = found.finish(tenant)?;
        let tenant = tenant.as_str();
        let permit = self.permit::<ReadRecord>(&extensions, Some(tenant))?;
        let views = self.vault.get_records(&permit, tenant, &wanted, &spec);
        let views = views.map_err(|e| status::of(e, Terms::Names, tenant))?;
        let records = views.iter().map(|v| Shown::new(tenant, v)).collect();
        Ok(Response::new(BatchGetRecordsResponse { records }))
    }

    pub(super) fn import(
        &self,
        request: Request<Streaming<ImportRecordsRequest>>,
    ) -> Result<Response<Outgoing<ImportRecordsResponse>>, Status> {
        let (_, extensions, incoming) = request.into_parts();
        let rpc = self.clone();
        let of = extensions.clone();
        self.stream(&of, |out| async move { rpc.take_import(&extensions, incoming, &out).await })
    }

    async fn take_import(
        &self,
        extensions: &Extensions,
        mut incoming: Streaming<ImportRecordsRequest>,
        out: &Outlet<ImportRecordsResponse>,
    ) -> Result<(), Status> {
        let first = self.next(&mut incoming).await?.and_then(|m| m.message);
        let mut found = Violations::default();
        let Some(Incoming::Start(start)) = first else {
            found.add("start", "must come first");
            return found.finish(None);
        };
        let tenant = found.take("start.parent", names::parse_tenant(&start.parent));
        let id = RequestId::parse_random(&start.import_id);
        let id = found.take("start.import_id", id.ok_or(convert::NOT_RANDOM));
        let (tenant, id) = found.finish(tenant.zip(id))?;
        let import = Import { tenant, id };
        let tenant = import.tenant.as_str();
        let permit = self.permit::<CreateRecord>(extensions, Some(tenant))?;
        let next_index = self.vault.import_position(&permit, tenant, import.id);
        let next_index = next_index.map_err(|e| status::of(e, Terms::Record, tenant))?;
        out.send(ImportRecordsResponse { next_index, ..Default::default() }).await?;
        while let Some(message) = self.next(&mut incoming).await? {
            let Some(Incoming::Chunk(chunk)) = message.message else {
                let mut found = Violations::default();
                found.add("chunk", "must follow after start");
                return found.finish(None);
            };
            out.send(self.take_chunk(extensions, &import, chunk).await?).await?;
        }
        Ok(())
    }

    /// Stores a chunk. What is wrong with one record does not end the import.
    async fn take_chunk(
        &self,
        extensions: &Extensions,
        import: &Import,
        chunk: ImportChunk,
    ) -> Result<ImportRecordsResponse, Status> {
        let tenant = import.tenant.as_str();
        let permit = self.permit::<CreateRecord>(extensions, Some(tenant))?;
        let first = chunk.first_index;
        let mut refused = Vec::new();
        let mut new: Vec<Option<NewRecord>> = Vec::new();
        for (at, record) in chunk.records.into_iter().take(BATCH_CREATE_MAX + 1).enumerate() {
            let mut found = Violations::default();
            let parts = records::record_in(Some(&import.tenant), record, None, &mut found);
            match found.finish(parts) {
                Ok(one) => new.push(Some(one)),
                Err(status) => {
                    refused.push(failure(first, at, &status));
                    new.push(None);
                }
            }
        }
        let (id, of) = (import.id, import.tenant.clone());
        let done = self
            .change(Terms::Record, tenant, |vault| async move {
                vault.import_chunk(&permit, of.as_str(), id, first, new).await
            })
            .await?;
        let mut reply = ImportRecordsResponse { next_index: done.next, ..Default::default() };
        for (at, outcome) in done.records.into_iter().enumerate() {
            let name = match outcome {
                Some(Ok(record)) => names::record(tenant, record),
                Some(Err(e)) => {
                    refused.push(failure(first, at, &status::of(e, Terms::Record, tenant)));
                    String::new()
                }
                None => String::new(),
            };
            reply.names.push(name);
        }
        refused.sort_by_key(|f| f.index);
        reply.failures = refused;
        Ok(reply)
    }

    pub(super) fn export(
        &self,
        request: Request<ExportRecordsRequest>,
    ) -> Result<Response<Outgoing<ExportRecordsResponse>>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let rtype = records::schema_of(&message.schema, tenant.as_ref(), &mut found);
        let mask = message.read_mask.as_ref().map(Message::encode_to_vec).unwrap_or_default();
        let spec = records::read_spec(message.read_mask, message.purpose, &mut found);
        let tenant = found.finish(tenant)?;
        // Refused at once rather than by the stream's first message.
        let permit = self.permit::<ExportRecords>(&extensions, Some(tenant.as_str()))?;
        let export = Export { tenant, schema: message.schema, rtype, mask, spec };
        let after = self.cursor(&permit, &export.query(), &message.page_token)?;
        let after = after.and_then(|c| c.try_into().ok()).map(RecordId);
        let rpc = self.clone();
        let of = extensions.clone();
        self.stream(
            &of,
            |out| async move { rpc.give_export(&extensions, &export, after, &out).await },
        )
    }

    async fn give_export(
        &self,
        extensions: &Extensions,
        export: &Export,
        mut after: Option<RecordId>,
        out: &Outlet<ExportRecordsResponse>,
    ) -> Result<(), Status> {
        let tenant = export.tenant.as_str();
        loop {
            let permit = self.permit::<ExportRecords>(extensions, Some(tenant))?;
            let rtype = export.rtype.as_ref();
            let listed =
                self.vault.list_records(&permit, tenant, rtype, after, EXPORT_PAGE, &export.spec);
            let page = listed.map_err(|e| status::of(e, Terms::Record, tenant))?;
            let last = page.next;
            let cursor = last.as_ref().map(|id| id.0.as_slice());
            let next_page_token = self.next_page(&permit, &export.query(), cursor)?;
            let damaged_names: Vec<String> =
                page.damaged.iter().map(|id| names::record(tenant, *id)).collect();
            let records: Vec<_> = page.views.iter().map(|v| Shown::new(tenant, v)).collect();
            // A part without records says how far the walk is, but it need not be sent.
            if !records.is_empty() || !damaged_names.is_empty() || last.is_none() {
                out.send(ExportRecordsResponse { records, next_page_token, damaged_names }).await?;
            }
            match last {
                Some(_) => after = last,
                None => return Ok(()),
            }
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn watch(
        &self,
        request: Request<WatchRecordsRequest>,
    ) -> Result<Response<Outgoing<WatchRecordsResponse>>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let tenant = found.finish(tenant)?;
        let permit = self.permit::<WatchRecords>(&extensions, Some(tenant.as_str()))?;
        let watcher = self.vault.watch_records(&permit, tenant.as_str());
        let mut watcher = watcher.map_err(|e| status::of(e, Terms::Plain, tenant.as_str()))?;
        let (rpc, of) = (self.clone(), extensions.clone());
        self.stream(&of, |out| async move {
            out.send(WatchRecordsResponse::default()).await?;
            let end = Instant::now() + WATCH_MAX;
            while Instant::now() < end {
                let change = match timeout(RIGHT_LOOK, watcher.next()).await {
                    Ok(Ok(Some(change))) => Some(change),
                    Ok(Ok(None)) => return Err(status::stopping()),
                    Ok(Err(e)) => return Err(status::of(e, Terms::Plain, tenant.as_str())),
                    Err(_) => None,
                };
                // Asked for also while nothing changes.
                let permit = rpc.permit::<WatchRecords>(&extensions, Some(tenant.as_str()))?;
                if let Some(change) = change.filter(|change| change.is_for(&permit)) {
                    out.send(convert::change(tenant.as_str(), change)).await?;
                }
            }
            Ok(())
        })
    }
}

/// An export's query.
struct Export {
    tenant: Slug,
    schema: String,
    rtype: Option<Slug>,
    mask: Vec<u8>,
    spec: ReadSpec,
}

impl Export {
    fn query(&self) -> Query<'_> {
        Query(vec![
            b"ExportRecords",
            self.tenant.as_str().as_bytes(),
            self.schema.as_bytes(),
            &self.mask,
            self.spec.purpose.as_deref().unwrap_or_default().as_bytes(),
        ])
    }
}

/// Why a record of an import was refused, from what a call about it alone would have been answered.
fn failure(first: u64, at: usize, status: &Status) -> ImportFailure {
    let told = status.get_details_bad_request().map(|b| b.field_violations).unwrap_or_default();
    let mut violations: Vec<ImportViolation> = told
        .into_iter()
        .map(|v| ImportViolation {
            field: v.field.strip_prefix("record.").map(str::to_owned).unwrap_or(v.field),
            description: v.description,
        })
        .collect();
    if violations.is_empty() {
        let description = status.message().to_owned();
        violations.push(ImportViolation { field: String::new(), description });
    }
    ImportFailure { index: first.saturating_add(at as u64), code: status.code().into(), violations }
}

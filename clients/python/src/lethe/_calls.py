"""Each call of the vault's API, made of Python values, before anything is sent. Threads and asyncio send the same."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from . import _wire as wire
from .admin.v1 import audit_pb2, log_pb2, vault_pb2
from .errors import InvalidArgument
from .model import Log, NewRecord, Reason, Schema, Value
from .retention import RetentionPolicy
from .v1 import record_pb2, retention_pb2, schema_pb2, subject_pb2, tenant_pb2

MESSAGE_BYTES_MAX = 4 << 20
IMPORT_CHUNK_MAX = 500

_A = TypeVar("_A", bound=Message)
_AUDIT = "/lethe.admin.v1.AuditService/"
_LOGS = "/lethe.admin.v1.LogService/"
_RECORDS = "/lethe.v1.RecordService/"
_RETENTION = "/lethe.v1.RetentionService/"
_SCHEMAS = "/lethe.v1.SchemaService/"
_SUBJECTS = "/lethe.v1.SubjectService/"
_TENANTS = "/lethe.v1.TenantService/"
_VAULT = "/lethe.admin.v1.VaultService/"


@dataclass(frozen=True, repr=False)
class Call(Generic[_A]):
    """One call. It holds values of records and so has no printed form."""

    path: str
    request: Message
    answer: type[_A]
    again: bool
    """Whether it may be sent more than once: it changes nothing, or carries a request id."""

    def __post_init__(self) -> None:
        check_size(self.request)


def check_size(message: Message) -> None:
    if message.ByteSize() > MESSAGE_BYTES_MAX:
        raise InvalidArgument.of("request", "is larger than 4 MiB")


def request_id(given: str | None) -> str:
    """The caller's, or a random one, so that the call can be made again."""
    if given:
        return wire.text("request_id", given)
    return str(uuid.uuid4())


def _mask(names: Collection[str] | None) -> FieldMask | None:
    if names is None:
        return None
    # A text is a collection too, of letters; an iterator would be empty on the second page.
    if isinstance(names, str) or not isinstance(names, Collection):
        raise InvalidArgument.of("mask", "must be a list of names")
    # The vault takes an empty mask for all fields: never what somebody meant who computed which.
    if not names:
        raise InvalidArgument.of("mask", "must name a field; None means all")
    return FieldMask(paths=[wire.text("mask", n) for n in names])


def _purpose(purpose: str) -> str:
    return wire.text("purpose", purpose)


def _size(page_size: int) -> int:
    if page_size not in range(1001):
        raise InvalidArgument.of("page_size", "must be 0 to 1000")
    return page_size


# Tenants, schemas, subjects, status.


def create_tenant(tenant: str, display_name: str) -> Call[tenant_pb2.CreateTenantResponse]:
    made = tenant_pb2.Tenant(display_name=wire.text("display_name", display_name))
    request = tenant_pb2.CreateTenantRequest(tenant_id=wire.slug("tenant", tenant), tenant=made)
    return Call(_TENANTS + "CreateTenant", request, tenant_pb2.CreateTenantResponse, False)


def get_tenant(tenant: str) -> Call[tenant_pb2.GetTenantResponse]:
    request = tenant_pb2.GetTenantRequest(name=wire.tenant_name(tenant))
    return Call(_TENANTS + "GetTenant", request, tenant_pb2.GetTenantResponse, True)


def update_tenant(
    tenant: str, display_name: str, mask: Collection[str] | None, etag: str
) -> Call[tenant_pb2.UpdateTenantResponse]:
    named = tenant_pb2.Tenant(
        name=wire.tenant_name(tenant),
        display_name=wire.text("display_name", display_name),
        etag=wire.text("etag", etag),
    )
    # Named even so: without a mask an empty name would be one that is not given.
    named_parts = _mask(["display_name"] if mask is None else mask)
    request = tenant_pb2.UpdateTenantRequest(tenant=named, update_mask=named_parts)
    return Call(_TENANTS + "UpdateTenant", request, tenant_pb2.UpdateTenantResponse, False)


def list_tenants(token: str) -> Call[tenant_pb2.ListTenantsResponse]:
    request = tenant_pb2.ListTenantsRequest(page_size=1000, page_token=token)
    return Call(_TENANTS + "ListTenants", request, tenant_pb2.ListTenantsResponse, True)


def create_schema(tenant: str, type: str, schema: Schema) -> Call[schema_pb2.CreateSchemaResponse]:
    request = schema_pb2.CreateSchemaRequest(
        parent=wire.tenant_name(tenant), schema_id=wire.slug("type", type), schema=wire.schema_out(schema)
    )
    return Call(_SCHEMAS + "CreateSchema", request, schema_pb2.CreateSchemaResponse, False)


def update_schema(
    tenant: str, type: str, schema: Schema, mask: Collection[str] | None
) -> Call[schema_pb2.UpdateSchemaResponse]:
    named = wire.schema_out(schema, wire.schema_name(tenant, type))
    request = schema_pb2.UpdateSchemaRequest(schema=named, update_mask=_mask(mask))
    return Call(_SCHEMAS + "UpdateSchema", request, schema_pb2.UpdateSchemaResponse, False)


def get_schema(name: str) -> Call[schema_pb2.GetSchemaResponse]:
    return Call(_SCHEMAS + "GetSchema", schema_pb2.GetSchemaRequest(name=name), schema_pb2.GetSchemaResponse, True)


def list_schemas(tenant: str, token: str) -> Call[schema_pb2.ListSchemasResponse]:
    request = schema_pb2.ListSchemasRequest(parent=wire.tenant_name(tenant), page_size=1000, page_token=token)
    return Call(_SCHEMAS + "ListSchemas", request, schema_pb2.ListSchemasResponse, True)


def create_subject(tenant: str, id: str | None) -> Call[subject_pb2.CreateSubjectResponse]:
    request = subject_pb2.CreateSubjectRequest(parent=wire.tenant_name(tenant), request_id=request_id(id))
    return Call(_SUBJECTS + "CreateSubject", request, subject_pb2.CreateSubjectResponse, True)


def get_subject(name: str) -> Call[subject_pb2.GetSubjectResponse]:
    request = subject_pb2.GetSubjectRequest(name=wire.text("name", name))
    return Call(_SUBJECTS + "GetSubject", request, subject_pb2.GetSubjectResponse, True)


def erase_subject(name: str, reason: Reason) -> Call[subject_pb2.EraseSubjectResponse]:
    request = subject_pb2.EraseSubjectRequest(name=wire.text("name", name), **_reason(reason))
    return Call(_SUBJECTS + "EraseSubject", request, subject_pb2.EraseSubjectResponse, False)


def status() -> Call[vault_pb2.GetStatusResponse]:
    return Call(_VAULT + "GetStatus", vault_pb2.GetStatusRequest(), vault_pb2.GetStatusResponse, True)


# The audit log.


def list_audit_entries(
    tenant: str, subject: str, principal: str, page_size: int, token: str
) -> Call[audit_pb2.ListAuditEntriesResponse]:
    request = audit_pb2.ListAuditEntriesRequest(
        parent=wire.tenant_name(tenant) if tenant else "",
        subject=wire.text("subject", subject),
        principal=wire.text("principal", principal),
        page_size=_size(page_size),
        page_token=wire.text("page_token", token),
    )
    return Call(_AUDIT + "ListAuditEntries", request, audit_pb2.ListAuditEntriesResponse, True)


def export_audit_entries(start: int) -> Call[audit_pb2.ExportAuditEntriesResponse]:
    if start not in range(1 << 64):
        raise InvalidArgument.of("start_index", "is not an index")
    request = audit_pb2.ExportAuditEntriesRequest(start_index=start)
    return Call(_AUDIT + "ExportAuditEntries", request, audit_pb2.ExportAuditEntriesResponse, True)


def audit_head() -> Call[audit_pb2.GetAuditHeadResponse]:
    return Call(_AUDIT + "GetAuditHead", audit_pb2.GetAuditHeadRequest(), audit_pb2.GetAuditHeadResponse, True)


# The logs with their trees.


def _log(log: Log) -> dict[str, Any]:
    if log not in tuple(Log):
        raise InvalidArgument.of("log", "must be one of lethe.Log")
    return {"log": int(log)}


def _place(name: str, number: int) -> int:
    if not 0 <= number < 1 << 64:
        raise InvalidArgument.of(name, "must be 0 to 2^64 - 1")
    return number


def checkpoint(log: Log, fresh: bool) -> Call[log_pb2.GetCheckpointResponse]:
    request = log_pb2.GetCheckpointRequest(fresh=fresh, **_log(log))
    return Call(_LOGS + "GetCheckpoint", request, log_pb2.GetCheckpointResponse, True)


def inclusion_proof(log: Log, index: int, size: int) -> Call[log_pb2.GetInclusionProofResponse]:
    request = log_pb2.GetInclusionProofRequest(index=_place("index", index), size=_place("size", size), **_log(log))
    return Call(_LOGS + "GetInclusionProof", request, log_pb2.GetInclusionProofResponse, True)


def consistency_proof(log: Log, old_size: int, size: int) -> Call[log_pb2.GetConsistencyProofResponse]:
    old_size, size = _place("old_size", old_size), _place("size", size)
    request = log_pb2.GetConsistencyProofRequest(old_size=old_size, size=size, **_log(log))
    return Call(_LOGS + "GetConsistencyProof", request, log_pb2.GetConsistencyProofResponse, True)


# Retention. What changes something carries no request id, and so is sent once: also a dry run, which is a run.


def create_retention_policy(
    tenant: str, id: str, policy: RetentionPolicy
) -> Call[retention_pb2.CreateRetentionPolicyResponse]:
    request = retention_pb2.CreateRetentionPolicyRequest(
        parent=wire.tenant_name(tenant),
        retention_policy_id=wire.slug("id", id),
        retention_policy=wire.retention_policy_out(policy),
    )
    return Call(_RETENTION + "CreateRetentionPolicy", request, retention_pb2.CreateRetentionPolicyResponse, False)


def update_retention_policy(
    tenant: str, id: str, policy: RetentionPolicy, mask: Collection[str] | None, etag: str
) -> Call[retention_pb2.UpdateRetentionPolicyResponse]:
    named = wire.retention_policy_out(policy, wire.retention_policy_name(tenant, id), wire.text("etag", etag))
    request = retention_pb2.UpdateRetentionPolicyRequest(retention_policy=named, update_mask=_mask(mask))
    return Call(_RETENTION + "UpdateRetentionPolicy", request, retention_pb2.UpdateRetentionPolicyResponse, False)


def get_retention_policy(tenant: str, id: str) -> Call[retention_pb2.GetRetentionPolicyResponse]:
    request = retention_pb2.GetRetentionPolicyRequest(name=wire.retention_policy_name(tenant, id))
    return Call(_RETENTION + "GetRetentionPolicy", request, retention_pb2.GetRetentionPolicyResponse, True)


def list_retention_policies(tenant: str, token: str) -> Call[retention_pb2.ListRetentionPoliciesResponse]:
    request = retention_pb2.ListRetentionPoliciesRequest(
        parent=wire.tenant_name(tenant), page_size=1000, page_token=token
    )
    return Call(_RETENTION + "ListRetentionPolicies", request, retention_pb2.ListRetentionPoliciesResponse, True)


def delete_retention_policy(tenant: str, id: str, etag: str) -> Call[retention_pb2.DeleteRetentionPolicyResponse]:
    request = retention_pb2.DeleteRetentionPolicyRequest(
        name=wire.retention_policy_name(tenant, id), etag=wire.text("etag", etag)
    )
    return Call(_RETENTION + "DeleteRetentionPolicy", request, retention_pb2.DeleteRetentionPolicyResponse, False)


def explain_retention(name: str) -> Call[retention_pb2.ExplainRetentionResponse]:
    request = retention_pb2.ExplainRetentionRequest(name=wire.text("name", name))
    return Call(_RETENTION + "ExplainRetention", request, retention_pb2.ExplainRetentionResponse, True)


def preview_retention(tenant: str, date: dt.date, token: str) -> Call[retention_pb2.PreviewRetentionResponse]:
    request = retention_pb2.PreviewRetentionRequest(
        parent=wire.tenant_name(tenant), date=wire.day("date", date), page_token=token
    )
    return Call(_RETENTION + "PreviewRetention", request, retention_pb2.PreviewRetentionResponse, True)


def retention_status() -> Call[retention_pb2.GetRetentionStatusResponse]:
    request = retention_pb2.GetRetentionStatusRequest()
    return Call(_RETENTION + "GetRetentionStatus", request, retention_pb2.GetRetentionStatusResponse, True)


def run_retention(dry_run: bool) -> Call[retention_pb2.RunRetentionResponse]:
    # What is true in Python's eyes alone must not turn a run into a dry one, or the other way round.
    if not isinstance(dry_run, bool):
        raise InvalidArgument.of("dry_run", "must be True or False")
    request = retention_pb2.RunRetentionRequest(dry_run=dry_run)
    return Call(_RETENTION + "RunRetention", request, retention_pb2.RunRetentionResponse, False)


def pause_rebucketing(tenant: str) -> Call[retention_pb2.PauseRebucketingResponse]:
    request = retention_pb2.PauseRebucketingRequest(parent=wire.tenant_name(tenant))
    return Call(_RETENTION + "PauseRebucketing", request, retention_pb2.PauseRebucketingResponse, False)


def resume_rebucketing(tenant: str) -> Call[retention_pb2.ResumeRebucketingResponse]:
    request = retention_pb2.ResumeRebucketingRequest(parent=wire.tenant_name(tenant))
    return Call(_RETENTION + "ResumeRebucketing", request, retention_pb2.ResumeRebucketingResponse, False)


def confirm_clock(time: dt.datetime) -> Call[retention_pb2.ConfirmClockResponse]:
    request = retention_pb2.ConfirmClockRequest(time=wire.timestamp("time", time))
    return Call(_RETENTION + "ConfirmClock", request, retention_pb2.ConfirmClockResponse, False)


# Records.


def create_record(tenant: str, new: NewRecord) -> Call[record_pb2.CreateRecordResponse]:
    request = _create(tenant, new, "record")
    return Call(_RECORDS + "CreateRecord", request, record_pb2.CreateRecordResponse, True)


def create_records(tenant: str, new: Sequence[NewRecord]) -> Call[record_pb2.BatchCreateRecordsResponse]:
    request = record_pb2.BatchCreateRecordsRequest(
        parent=wire.tenant_name(tenant),
        requests=[_create(tenant, one, f"requests[{at}].record") for at, one in enumerate(new)],
    )
    return Call(_RECORDS + "BatchCreateRecords", request, record_pb2.BatchCreateRecordsResponse, True)


def _create(tenant: str, new: NewRecord, path: str) -> record_pb2.CreateRecordRequest:
    return record_pb2.CreateRecordRequest(
        parent=wire.tenant_name(tenant),
        record=wire.new_record(tenant, new, path),
        request_id=request_id(new.request_id),
    )


def get_record(name: str, mask: Collection[str] | None, purpose: str) -> Call[record_pb2.GetRecordResponse]:
    request = record_pb2.GetRecordRequest(
        name=wire.text("name", name), read_mask=_mask(mask), purpose=_purpose(purpose)
    )
    return Call(_RECORDS + "GetRecord", request, record_pb2.GetRecordResponse, True)


def get_records(
    tenant: str, names: Iterable[str], mask: Collection[str] | None, purpose: str
) -> Call[record_pb2.BatchGetRecordsResponse]:
    request = record_pb2.BatchGetRecordsRequest(
        parent=wire.tenant_name(tenant),
        names=_names(names),
        read_mask=_mask(mask),
        purpose=_purpose(purpose),
    )
    return Call(_RECORDS + "BatchGetRecords", request, record_pb2.BatchGetRecordsResponse, True)


def update_record(
    name: str, fields: Mapping[str, Value], mask: Collection[str] | None, etag: str, id: str | None
) -> Call[record_pb2.UpdateRecordResponse]:
    record = record_pb2.Record(
        name=wire.text("record.name", name),
        etag=wire.text("record.etag", etag),
        fields=wire.fields("record.fields", fields),
    )
    request = record_pb2.UpdateRecordRequest(record=record, update_mask=_mask(mask), request_id=request_id(id))
    return Call(_RECORDS + "UpdateRecord", request, record_pb2.UpdateRecordResponse, True)


def list_records(
    tenant: str, type: str, page_size: int, token: str, mask: Collection[str] | None, purpose: str
) -> Call[record_pb2.ListRecordsResponse]:
    request = record_pb2.ListRecordsRequest(
        parent=wire.tenant_name(tenant),
        schema=wire.schema_name(tenant, type) if type else "",
        page_size=_size(page_size),
        page_token=wire.text("page_token", token),
        read_mask=_mask(mask),
        purpose=_purpose(purpose),
    )
    return Call(_RECORDS + "ListRecords", request, record_pb2.ListRecordsResponse, True)


def find_records(
    tenant: str, type: str, field: str, value: Value, mask: Collection[str] | None, purpose: str
) -> Call[record_pb2.FindRecordsResponse]:
    request = record_pb2.FindRecordsRequest(
        schema=wire.schema_name(tenant, type),
        field=wire.text("field", field),
        value=wire.value("value", value),
        read_mask=_mask(mask),
        purpose=_purpose(purpose),
    )
    return Call(_RECORDS + "FindRecords", request, record_pb2.FindRecordsResponse, True)


def erase_record(name: str, reason: Reason, etag: str) -> Call[record_pb2.EraseRecordResponse]:
    request = record_pb2.EraseRecordRequest(
        name=wire.text("name", name), etag=wire.text("etag", etag), **_reason(reason)
    )
    return Call(_RECORDS + "EraseRecord", request, record_pb2.EraseRecordResponse, False)


def erase_records(tenant: str, names: Iterable[str], reason: Reason) -> Call[record_pb2.BatchEraseRecordsResponse]:
    request = record_pb2.BatchEraseRecordsRequest(
        parent=wire.tenant_name(tenant), names=_names(names), **_reason(reason)
    )
    return Call(_RECORDS + "BatchEraseRecords", request, record_pb2.BatchEraseRecordsResponse, False)


def export_records(
    tenant: str, type: str, token: str, mask: Collection[str] | None, purpose: str
) -> Call[record_pb2.ExportRecordsResponse]:
    request = record_pb2.ExportRecordsRequest(
        parent=wire.tenant_name(tenant),
        schema=wire.schema_name(tenant, type) if type else "",
        page_token=wire.text("page_token", token),
        read_mask=_mask(mask),
        purpose=_purpose(purpose),
    )
    return Call(_RECORDS + "ExportRecords", request, record_pb2.ExportRecordsResponse, True)


def watch_records(tenant: str) -> Call[record_pb2.WatchRecordsResponse]:
    # A watch that breaks off may have missed changes, so it is not begun anew in silence.
    request = record_pb2.WatchRecordsRequest(parent=wire.tenant_name(tenant))
    return Call(_RECORDS + "WatchRecords", request, record_pb2.WatchRecordsResponse, False)


IMPORT_PATH = _RECORDS + "ImportRecords"


def import_start(tenant: str, import_id: str) -> record_pb2.ImportRecordsRequest:
    start = record_pb2.ImportStart(parent=wire.tenant_name(tenant), import_id=wire.text("import_id", import_id))
    return record_pb2.ImportRecordsRequest(start=start)


def import_chunk(first: int, records: Sequence[record_pb2.Record]) -> record_pb2.ImportRecordsRequest:
    chunk = record_pb2.ImportChunk(first_index=first, records=records)
    return record_pb2.ImportRecordsRequest(chunk=chunk)


def _names(names: Iterable[str]) -> list[str]:
    if isinstance(names, str):
        raise InvalidArgument.of("names", "must be a list of names")
    return [wire.text(f"names[{at}]", name) for at, name in enumerate(names)]


def _reason(reason: Reason) -> dict[str, Any]:
    # Generated stubs have their own type for each enum; the numbers are the same.
    return {"reason": int(reason)}

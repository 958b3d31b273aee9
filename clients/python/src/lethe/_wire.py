"""Between Python values and messages.

A fault of a value is told by the path of its field, before anything is sent, and without the value: the protobuf
library's own errors would quote it.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from .admin.v1 import audit_pb2, log_pb2, vault_pb2
from .errors import InvalidArgument, Postponed
from .model import (
    AuditEntry,
    AuditHead,
    AuditKind,
    AuditMember,
    AuditPage,
    Change,
    ChangeKind,
    Checkpoint,
    Classification,
    ConsistencyProof,
    Field,
    Fields,
    ImportedChunk,
    ImportFailure,
    InclusionProof,
    Kind,
    Level,
    Mask,
    NewRecord,
    Reason,
    Receipt,
    Record,
    Schema,
    Subject,
    SubjectErasure,
    Tenant,
    Value,
    VaultStatus,
)
from .retention import (
    ClockState,
    RebucketingState,
    RetentionEffect,
    RetentionExplanation,
    RetentionForecast,
    RetentionLine,
    RetentionPolicy,
    RetentionRun,
    RetentionRuns,
    RetentionStart,
    RetentionStatus,
)
from .v1 import erasure_pb2, record_pb2, retention_pb2, schema_pb2, subject_pb2, tenant_pb2

_INT64 = range(-(1 << 63), 1 << 63)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SLUG = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_E = TypeVar("_E", bound=enum.IntEnum)


def text(field: str, value: object) -> str:
    """A text that protobuf can carry."""
    if not isinstance(value, str):
        raise InvalidArgument.of(field, "must be a text")
    try:
        value.encode()
        return value
    except UnicodeEncodeError:
        # Raised below: this error holds the value, and would come along as the other one's context.
        pass
    raise InvalidArgument.of(field, "is not valid Unicode")


def slug(field: str, value: object) -> str:
    """The id of a tenant or a record type, which becomes part of a name."""
    if not isinstance(value, str) or _SLUG.fullmatch(value) is None:
        raise InvalidArgument.of(field, "must be 1 to 63 of a-z, 0-9 and -, begin with a letter and not end with -")
    return value


def tenant_name(tenant: str) -> str:
    return f"tenants/{slug('tenant', tenant)}"


def schema_name(tenant: str, type: str) -> str:
    return f"{tenant_name(tenant)}/schemas/{slug('type', type)}"


def retention_policy_name(tenant: str, id: str) -> str:
    return f"{tenant_name(tenant)}/retentionPolicies/{slug('id', id)}"


def day(field: str, given: object) -> str:
    """A day. A moment is one too in Python, but of which time zone?"""
    if not isinstance(given, dt.date) or isinstance(given, dt.datetime):
        raise InvalidArgument.of(field, "must be a datetime.date")
    return given.isoformat()


def timestamp(field: str, given: object) -> Timestamp:
    """A moment. Without a time zone it would be another one on another machine."""
    if not isinstance(given, dt.datetime) or given.utcoffset() is None:
        raise InvalidArgument.of(field, "must be a datetime.datetime with a time zone")
    sent = Timestamp()
    sent.FromDatetime(given)
    return sent


def value(path: str, given: object) -> record_pb2.Value:
    # A bool is an int and a datetime is a date in Python, so their order matters.
    if isinstance(given, bool):
        return record_pb2.Value(bool_value=given)
    if isinstance(given, str):
        return record_pb2.Value(string_value=text(path, given))
    if isinstance(given, int):
        if given not in _INT64:
            raise InvalidArgument.of(path, "is not a 64-bit integer")
        return record_pb2.Value(integer_value=given)
    if isinstance(given, float):
        return record_pb2.Value(number_value=given)
    if isinstance(given, (bytes, bytearray, memoryview)):
        return record_pb2.Value(bytes_value=bytes(given))
    if isinstance(given, dt.date) and not isinstance(given, dt.datetime):
        return record_pb2.Value(string_value=given.isoformat())
    raise InvalidArgument.of(path, "must be a str, int, float, bool, bytes or datetime.date")


def fields(path: str, given: Mapping[str, Value]) -> dict[str, record_pb2.Value]:
    sent = {}
    for name, one in given.items():
        # What is no name may be a value that was put into the wrong place.
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise InvalidArgument.of(path, "the name of a field must be 1 to 63 of a-z, 0-9 and _, after a letter")
        sent[name] = value(f"{path}.{name}", one)
    return sent


def new_record(tenant: str, new: NewRecord, path: str) -> record_pb2.Record:
    return record_pb2.Record(
        schema=schema_name(tenant, new.type),
        subject=text(f"{path}.subject", new.subject),
        fields=fields(f"{path}.fields", new.fields),
    )


class DateFields:
    """Which fields of which type are dates: on the wire they are texts. The kind of a field never changes, so what is
    known of a schema holds for ever; only fields that are new to it are asked for."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, Kind]] = {}

    def unknown(self, records: Iterable[record_pb2.Record]) -> list[str]:
        """The schemas to learn before these records can be read."""
        found = dict.fromkeys(
            r.schema for r in records if any(name not in self._kinds.get(r.schema, ()) for name in r.fields)
        )
        return list(found)

    def unlearnt(self, schemas: Iterable[str]) -> list[str]:
        """Those of which nothing is known yet."""
        return [name for name in dict.fromkeys(schemas) if name not in self._kinds]

    def learn(self, schema: Schema) -> None:
        self._kinds[schema.name] = {f.name: f.kind for f in schema.fields}

    def record(self, sent: record_pb2.Record) -> Record:
        kinds = self._kinds.get(sent.schema, {})
        values = {name: plain(one, kinds.get(name)) for name, one in sent.fields.items()}
        return Record(
            name=sent.name,
            schema=sent.schema,
            subject=sent.subject,
            fields=Fields(values),
            etag=sent.etag,
            create_time=time(sent.create_time),
            update_time=time(sent.update_time),
            expire_date=last_day(sent.expire_date),
        )


def plain(sent: record_pb2.Value, kind: Kind | None = None) -> Value:
    which = sent.WhichOneof("kind")
    if which == "string_value" and kind is Kind.DATE:
        try:
            return dt.date.fromisoformat(sent.string_value)
        except ValueError:
            # A masked date, or one beyond Python's years, is handed on as it came.
            return sent.string_value
    if which is None:
        return ""
    got: Value = getattr(sent, which)
    return got


def time(stamp: Timestamp) -> dt.datetime:
    return dt.datetime.fromtimestamp(stamp.seconds, dt.timezone.utc) + dt.timedelta(microseconds=stamp.nanos // 1000)


def last_day(iso: str) -> dt.date | None:
    return dt.date.fromisoformat(iso) if iso else None


def member(kind: type[_E], number: int) -> _E:
    """A number of a later vault is told as UNSPECIFIED rather than refused."""
    try:
        return kind(number)
    except ValueError:
        return kind(0)


def change(sent: record_pb2.WatchRecordsResponse) -> Change:
    kind = member(ChangeKind, sent.kind)
    return Change(kind, sent.name, sent.schema, last_day(sent.expire_date), time(sent.time))


def imported(first: int, sent: record_pb2.ImportRecordsResponse) -> ImportedChunk:
    failures = [ImportFailure(f.index, f.code, [(v.field, v.description) for v in f.violations]) for f in sent.failures]
    return ImportedChunk(first, sent.next_index, list(sent.names), failures)


def tenant(sent: tenant_pb2.Tenant) -> Tenant:
    return Tenant(sent.name, sent.display_name, time(sent.create_time), sent.etag)


def subject(sent: subject_pb2.Subject) -> Subject:
    return Subject(sent.name, time(sent.create_time))


def schema_out(given: Schema, name: str = "") -> schema_pb2.Schema:
    sent = schema_pb2.Schema(
        name=name,
        fields=[_field_out(at, f) for at, f in enumerate(given.fields)],
        erase_old_versions_synchronously=given.erase_old_versions_synchronously,
    )
    if given.retain_for is None:
        sent.open_ended = True
    else:
        sent.retain_for = text("schema.retain_for", given.retain_for)
    return sent


def _field_out(at: int, f: Field) -> schema_pb2.Field:
    path = f"schema.fields[{at}]"
    if f.max_bytes not in range(1 << 31):
        raise InvalidArgument.of(f"{path}.max_bytes", "must be 0 to 2147483647")
    more: dict[str, Any] = {
        "kind": int(f.kind),
        "classification": int(f.classification),
        "mask": int(f.mask),
    }
    return schema_pb2.Field(
        name=text(f"{path}.name", f.name),
        required=f.required,
        unique=f.unique,
        indexed=f.indexed,
        max_bytes=f.max_bytes,
        purposes=[text(f"{path}.purposes", p) for p in f.purposes],
        description=text(f"{path}.description", f.description),
        **more,
    )


def schema(sent: schema_pb2.Schema) -> Schema:
    found = [
        Field(
            name=f.name,
            kind=member(Kind, f.kind),
            classification=member(Classification, f.classification),
            required=f.required,
            unique=f.unique,
            indexed=f.indexed,
            max_bytes=f.max_bytes,
            mask=member(Mask, f.mask),
            purposes=tuple(f.purposes),
            description=f.description,
        )
        for f in sent.fields
    ]
    return Schema(
        fields=tuple(found),
        retain_for=sent.retain_for if sent.HasField("retain_for") else None,
        erase_old_versions_synchronously=sent.erase_old_versions_synchronously,
        name=sent.name,
        revision=sent.revision,
        update_time=time(sent.update_time),
    )


def receipt(sent: erasure_pb2.ErasureReceipt) -> Receipt:
    return Receipt(
        name=sent.name,
        level=member(Level, sent.level),
        reason=member(Reason, sent.reason),
        generation=sent.generation,
        leaf_index=sent.leaf_index,
        request_time=time(sent.request_time),
        erase_time=time(sent.erase_time),
        signed_bytes=sent.signed_bytes,
        signature=sent.signature,
        public_key=sent.public_key,
        caveat=sent.caveat,
    )


def record_erasure(sent: record_pb2.EraseRecordResponse) -> Receipt:
    if sent.HasField("postponed"):
        raise Postponed([sent.postponed.name])
    return receipt(sent.receipt)


def record_erasures(sent: record_pb2.BatchEraseRecordsResponse) -> list[Receipt]:
    receipts = [receipt(r) for r in sent.receipts]
    if sent.postponed:
        raise Postponed([p.name for p in sent.postponed], receipts)
    return receipts


def subject_erasure(sent: subject_pb2.EraseSubjectResponse) -> SubjectErasure:
    receipts = [receipt(r) for r in sent.record_receipts]
    if sent.postponed:
        raise Postponed([p.name for p in sent.postponed], receipts)
    return SubjectErasure(receipt(sent.receipt), receipts)


def retention_policy_out(given: RetentionPolicy, name: str = "", etag: str = "") -> retention_pb2.RetentionPolicy:
    texts = ("purpose", "event_field", "period", "grace_period", "minimum", "maximum", "time_zone", "legal_basis")
    # A text is a collection too, of letters.
    if isinstance(given.schemas, str):
        raise InvalidArgument.of("retention_policy.schemas", "must be a list of names")
    more: dict[str, Any] = {part: text(f"retention_policy.{part}", getattr(given, part)) for part in texts}
    more |= {"classification": int(given.classification), "start": int(given.start)}
    return retention_pb2.RetentionPolicy(
        name=name,
        schemas=[text(f"retention_policy.schemas[{at}]", one) for at, one in enumerate(given.schemas)],
        end_date="" if given.end_date is None else day("retention_policy.end_date", given.end_date),
        open_ended=given.open_ended,
        description=text("retention_policy.description", given.description),
        etag=etag,
        **more,
    )


def retention_policy(sent: retention_pb2.RetentionPolicy) -> RetentionPolicy:
    return RetentionPolicy(
        start=member(RetentionStart, sent.start),
        schemas=tuple(sent.schemas),
        classification=member(Classification, sent.classification),
        purpose=sent.purpose,
        event_field=sent.event_field,
        period=sent.period,
        grace_period=sent.grace_period,
        end_date=last_day(sent.end_date),
        minimum=sent.minimum,
        maximum=sent.maximum,
        open_ended=sent.open_ended,
        time_zone=sent.time_zone,
        legal_basis=sent.legal_basis,
        description=sent.description,
        name=sent.name,
        etag=sent.etag,
        update_time=time(sent.update_time),
    )


def retention_explanation(sent: retention_pb2.ExplainRetentionResponse) -> RetentionExplanation:
    lines = [
        RetentionLine(
            rule=line.rule,
            effect=member(RetentionEffect, line.effect),
            end_date=last_day(line.end_date),
            due_time=time(line.due_time) if line.HasField("due_time") else None,
            decides=line.decides,
            legal_basis=line.legal_basis,
        )
        for line in sent.lines
    ]
    return RetentionExplanation(last_day(sent.expire_date), last_day(sent.present_expire_date), lines)


def retention_forecast(sent: retention_pb2.RetentionForecast) -> RetentionForecast:
    return RetentionForecast(
        schema=sent.schema,
        expire_date=last_day(sent.expire_date),
        record_count=sent.record_count,
        staying_count=sent.staying_count,
        held_count=sent.held_count,
        without_basis_count=sent.without_basis_count,
        damaged_count=sent.damaged_count,
    )


def retention_status(sent: retention_pb2.GetRetentionStatusResponse) -> RetentionStatus:
    return RetentionStatus(
        due_by_time=time(sent.due_by_time),
        clock_state=member(ClockState, sent.clock_state),
        last_sweep_time=time(sent.last_sweep_time) if sent.HasField("last_sweep_time") else None,
        sweep_interval=dt.timedelta(seconds=sent.sweep_interval_seconds),
        due_bucket_count=sent.due_bucket_count,
        closed_bucket_count=sent.closed_bucket_count,
        closed_record_count=sent.closed_record_count,
        erased_bucket_count=sent.erased_bucket_count,
        erased_record_count=sent.erased_record_count,
        lateness_p50=dt.timedelta(milliseconds=sent.lateness_p50_millis),
        lateness_p99=dt.timedelta(milliseconds=sent.lateness_p99_millis),
        rebucketing=[RebucketingState(r.schema, r.percent, r.paused) for r in sent.rebucketing],
        hold_count=sent.hold_count,
        postponed_erasure_count=sent.postponed_erasure_count,
    )


def retention_runs(sent: retention_pb2.RunRetentionResponse) -> RetentionRuns:
    runs = [
        RetentionRun(
            schema=run.schema,
            expire_date=last_day(run.expire_date),
            record_count=run.record_count,
            staying_count=run.staying_count,
            receipt=receipt(run.receipt) if run.HasField("receipt") else None,
        )
        for run in sent.runs
    ]
    return RetentionRuns(runs, sent.failed_bucket_count)


def audit_entry(sent: audit_pb2.AuditEntry) -> AuditEntry:
    return AuditEntry(
        index=sent.index,
        kind=member(AuditKind, sent.kind),
        method=sent.method,
        code=sent.code,
        create_time=time(sent.create_time),
        start_time=time(sent.start_time) if sent.HasField("start_time") else None,
        principal=sent.principal,
        role=sent.role,
        tenant=sent.tenant,
        schema=sent.schema,
        clear=tuple(member(Classification, c) for c in sent.clear),
        masked=tuple(member(Classification, c) for c in sent.masked),
        purpose=sent.purpose,
        total=sent.total,
        part=sent.part,
        members=tuple(AuditMember(m.subject, m.record) for m in sent.members),
        generation=sent.generation,
        leaf=sent.leaf,
    )


def audit_page(sent: audit_pb2.ListAuditEntriesResponse) -> AuditPage:
    return AuditPage([audit_entry(e) for e in sent.entries], sent.next_page_token)


def audit_head(sent: audit_pb2.GetAuditHeadResponse) -> AuditHead:
    return AuditHead(
        vault_id=sent.vault_id,
        size=sent.size,
        root=sent.root,
        generation=sent.generation,
        create_time=time(sent.create_time),
        signed_bytes=sent.signed_bytes,
        signature=sent.signature,
        public_key=sent.public_key,
    )


def checkpoint(sent: log_pb2.GetCheckpointResponse) -> Checkpoint:
    return Checkpoint(sent.checkpoint, sent.size, sent.root, list(sent.cosigned), sent.verifier_key)


def inclusion_proof(index: int, sent: log_pb2.GetInclusionProofResponse) -> InclusionProof:
    return InclusionProof(index, sent.leaf, list(sent.hashes), sent.size, sent.root, sent.checkpoint)


def consistency_proof(old_size: int, sent: log_pb2.GetConsistencyProofResponse) -> ConsistencyProof:
    return ConsistencyProof(old_size, sent.old_root, list(sent.hashes), sent.size, sent.root, sent.checkpoint)


def status(sent: vault_pb2.GetStatusResponse) -> VaultStatus:
    level = member(Level, sent.advertised_level)
    return VaultStatus(sent.vault_id, sent.version, sent.public_key, level, list(sent.warnings))

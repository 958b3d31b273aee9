"""The vault, for programs with threads. `lethe.aio` is the same for asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from . import _calls as calls
from . import _core as core
from . import _wire as wire
from ._evidence import EvidenceCalls
from ._retention import RetentionCalls
from ._retry import DEADLINE_DEFAULT, Attempts
from ._streams import Import, Watch, pause_or_raise, read, to_bytes
from .admin.v1 import audit_pb2
from .errors import DataLoss, LetheError, from_rpc
from .model import (
    AuditEntry,
    AuditHead,
    AuditPage,
    Checkpoint,
    ConsistencyProof,
    Found,
    ImportedChunk,
    InclusionProof,
    Log,
    NewRecord,
    Reason,
    Receipt,
    Record,
    RecordPage,
    Schema,
    Subject,
    SubjectErasure,
    Tenant,
    Value,
    VaultStatus,
)
from .v1 import record_pb2

_A = TypeVar("_A", bound=Message)
_P = TypeVar("_P")


class Vault(EvidenceCalls, RetentionCalls):
    """A connection to a vault. Threads may share it.

    `deadline` (seconds, at most 60) bounds each call with all its attempts; each method takes one of its own too.
    """

    def __init__(self, config_file: str | Path, deadline: float = DEADLINE_DEFAULT) -> None:
        super().__init__(config_file, deadline)
        self._channel = grpc.secure_channel(
            self._identity.target, core.credentials(self._identity), core.options(self._identity)
        )

    @classmethod
    def connect(cls, config_file: str | Path, *, deadline: float = DEADLINE_DEFAULT) -> Vault:
        """From a file such as `client-application.toml`. The files are read now, the vault is called at the first
        call."""
        return cls(config_file, deadline)

    def close(self) -> None:
        """Ends the connection and what is under way on it."""
        self._channel.close()

    def __enter__(self) -> Vault:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _run(self, call: calls.Call[_A], deadline: float | None) -> _A:
        attempts = Attempts(call.again, self._seconds(deadline), time.monotonic())
        send = self._channel.unary_unary(
            call.path, request_serializer=to_bytes, response_deserializer=call.answer.FromString
        )
        while True:
            try:
                return send(call.request, timeout=attempts.remaining(time.monotonic()))
            except grpc.RpcError as error:
                failure = from_rpc(error)
            pause_or_raise(attempts, failure)

    def _open(self, call: calls.Call[_A], seconds: float) -> Any:
        """A stream of answers. gRPC's iterator has more methods than its type says."""
        send = self._channel.unary_stream(
            call.path, request_serializer=to_bytes, response_deserializer=call.answer.FromString
        )
        return send(call.request, timeout=seconds)

    def _export(
        self, export: core.Export[_P], part_of: Callable[[Any], _P], deadline: float | None
    ) -> Iterator[_P]:
        """The parts of an export, over as many streams as it takes."""
        seconds = self._seconds(deadline)
        attempts = Attempts(True, seconds, time.monotonic())
        while True:
            stream = self._open(export.call(), core.STREAM_SECONDS)
            left = attempts.remaining(time.monotonic())
            try:
                while sent := read(stream, left):
                    part = part_of(sent)
                    export.take(part)
                    yield part
                    if export.done:
                        return
                    # It moves: what fails from here on fails for the first time.
                    attempts, left = Attempts(True, seconds, time.monotonic()), seconds
                if export.ends_openly:
                    return
                failure = export.ended()
            except LetheError as error:
                failure = error
            finally:
                stream.cancel()
            if not export.goes_on_after(failure):
                pause_or_raise(attempts, failure)

    def _records(self, sent: Sequence[record_pb2.Record], deadline: float | None) -> list[Record]:
        self._learn(self._dates.unknown(sent), deadline)
        return [self._dates.record(r) for r in sent]

    def _learn(self, schemas: Iterable[str], deadline: float | None) -> None:
        for name in schemas:
            answer = self._run(calls.get_schema(name), deadline)
            self._dates.learn(wire.schema(answer.schema))

    # Tenants and schemas

    def create_tenant(self, tenant: str, display_name: str = "", *, deadline: float | None = None) -> Tenant:
        """`tenant` is its id, such as `shop`. Sent once: after `Unavailable`, look whether it is there."""
        return wire.tenant(self._run(calls.create_tenant(tenant, display_name), deadline).tenant)

    def update_tenant(
        self,
        tenant: str,
        display_name: str,
        *,
        mask: Collection[str] | None = None,
        etag: str = "",
        deadline: float | None = None,
    ) -> Tenant:
        """What people call it; `mask` names the parts to change, `None` the display name. With an etag only if it did
        not change since. Sent once."""
        return wire.tenant(self._run(calls.update_tenant(tenant, display_name, mask, etag), deadline).tenant)

    def get_tenant(self, tenant: str, *, deadline: float | None = None) -> Tenant:
        return wire.tenant(self._run(calls.get_tenant(tenant), deadline).tenant)

    def list_tenants(self, *, deadline: float | None = None) -> Iterator[Tenant]:
        """Those that the caller may see, by name."""
        token = ""
        while True:
            page = self._run(calls.list_tenants(token), deadline)
            yield from map(wire.tenant, page.tenants)
            if not (token := page.next_page_token):
                return

    def create_schema(self, tenant: str, type: str, schema: Schema, *, deadline: float | None = None) -> Schema:
        """The first revision of a record type. Sent once."""
        return wire.schema(self._run(calls.create_schema(tenant, type, schema), deadline).schema)

    def update_schema(
        self,
        tenant: str,
        type: str,
        schema: Schema,
        *,
        mask: Collection[str] | None = None,
        deadline: float | None = None,
    ) -> Schema:
        """Replaces a schema by a compatible newer revision; with `mask` only the parts that it names, such as
        `fields.city`. Sent once."""
        return wire.schema(self._run(calls.update_schema(tenant, type, schema, mask), deadline).schema)

    def get_schema(self, tenant: str, type: str, *, deadline: float | None = None) -> Schema:
        name = wire.schema_name(tenant, type)
        return wire.schema(self._run(calls.get_schema(name), deadline).schema)

    def list_schemas(self, tenant: str, *, deadline: float | None = None) -> Iterator[Schema]:
        token = ""
        while True:
            page = self._run(calls.list_schemas(tenant, token), deadline)
            yield from map(wire.schema, page.schemas)
            if not (token := page.next_page_token):
                return

    # Subjects

    def create_subject(self, tenant: str, *, request_id: str | None = None, deadline: float | None = None) -> Subject:
        """Keep its name: it is the only handle."""
        return wire.subject(self._run(calls.create_subject(tenant, request_id), deadline).subject)

    def get_subject(self, name: str, *, deadline: float | None = None) -> Subject:
        return wire.subject(self._run(calls.get_subject(name), deadline).subject)

    def erase_subject(
        self, name: str, reason: Reason = Reason.SUBJECT_REQUEST, *, deadline: float | None = None
    ) -> SubjectErasure:
        """Erases a subject with all its records. Sent once; made again by hand it gives the same receipt, but no
        receipts of records."""
        return wire.subject_erasure(self._run(calls.erase_subject(name, reason), deadline))

    # Records

    def create_record(
        self,
        tenant: str,
        type: str,
        fields: Mapping[str, Value],
        *,
        subject: str = "",
        request_id: str = "",
        deadline: float | None = None,
    ) -> Record:
        """On disk when this returns. Without `subject` the vault issues a new one. With a `request_id` of the
        caller's own (random UUIDv4) the call may be repeated for a day, also by another process."""
        call = calls.create_record(tenant, NewRecord(type, fields, subject, request_id))
        # Before the change: what is needed to read its answer must not fail after it.
        self._learn(self._dates.unlearnt([wire.schema_name(tenant, type)]), deadline)
        return self._records([self._run(call, deadline).record], deadline)[0]

    def create_records(self, tenant: str, new: Sequence[NewRecord], *, deadline: float | None = None) -> list[Record]:
        """Up to 500 in one durable step: all or none."""
        call = calls.create_records(tenant, new)
        self._learn(self._dates.unlearnt(wire.schema_name(tenant, one.type) for one in new), deadline)
        return self._records(self._run(call, deadline).records, deadline)

    def get_record(
        self,
        name: str,
        *,
        mask: Collection[str] | None = None,
        purpose: str = "",
        deadline: float | None = None,
    ) -> Record:
        """`mask` names the fields to return, `None` all; `purpose` says what for."""
        answer = self._run(calls.get_record(name, mask, purpose), deadline)
        return self._records([answer.record], deadline)[0]

    def get_records(
        self,
        tenant: str,
        names: Iterable[str],
        *,
        mask: Collection[str] | None = None,
        purpose: str = "",
        deadline: float | None = None,
    ) -> list[Record]:
        """Up to 1000, in the order of `names`: all or none, but what legal holds keep, of which `Postponed` tells."""
        answer = self._run(calls.get_records(tenant, names, mask, purpose), deadline)
        return self._records(answer.records, deadline)

    def update_record(
        self,
        name: str,
        fields: Mapping[str, Value],
        *,
        mask: Collection[str] | None = None,
        etag: str = "",
        request_id: str | None = None,
        deadline: float | None = None,
    ) -> Record:
        """Changes the fields that are given. With `mask`: those that it names; one that `fields` lacks is removed.
        With `etag`: only that version."""
        answer = self._run(calls.update_record(name, fields, mask, etag, request_id), deadline)
        return self._records([answer.record], deadline)[0]

    def list_pages(
        self,
        tenant: str,
        type: str = "",
        *,
        page_size: int = 500,
        page_token: str = "",
        mask: Collection[str] | None = None,
        purpose: str = "",
        deadline: float | None = None,
    ) -> Iterator[RecordPage]:
        """The records of a type (or of all), by name, page by page. Tokens expire after an hour and when the vault
        restarts."""
        while True:
            call = calls.list_records(tenant, type, page_size, page_token, mask, purpose)
            sent = self._run(call, deadline)
            page_token = sent.next_page_token
            yield RecordPage(self._records(sent.records, deadline), page_token, list(sent.damaged_names))
            if not page_token:
                return

    def list_records(
        self,
        tenant: str,
        type: str = "",
        *,
        page_size: int = 500,
        mask: Collection[str] | None = None,
        purpose: str = "",
        deadline: float | None = None,
    ) -> Iterator[Record]:
        """The records of a type (or of all), by name. Ends with `DataLoss` if there are some that do not open."""
        damaged: list[str] = []
        for page in self.list_pages(tenant, type, page_size=page_size, mask=mask, purpose=purpose, deadline=deadline):
            yield from page.records
            damaged += page.damaged_names
        if damaged:
            raise DataLoss("records are damaged: restore or erase them", damaged)

    def find_records(
        self,
        tenant: str,
        type: str,
        field: str,
        value: Value,
        *,
        mask: Collection[str] | None = None,
        purpose: str = "",
        deadline: float | None = None,
    ) -> Found:
        """The records that hold exactly this value in an indexed field, at most 1000."""
        sent = self._run(calls.find_records(tenant, type, field, value, mask, purpose), deadline)
        return Found(self._records(sent.records, deadline), sent.incomplete)

    def erase_record(
        self,
        name: str,
        reason: Reason = Reason.SUBJECT_REQUEST,
        *,
        etag: str = "",
        deadline: float | None = None,
    ) -> Receipt:
        """Erases a record with all its versions. Sent once; made again by hand it gives the same receipt. Raises
        `Postponed` if a legal hold keeps it."""
        return wire.record_erasure(self._run(calls.erase_record(name, reason, etag), deadline))

    def erase_records(
        self,
        tenant: str,
        names: Iterable[str],
        reason: Reason = Reason.SUBJECT_REQUEST,
        *,
        deadline: float | None = None,
    ) -> list[Receipt]:
        """Up to 1000, in the order of `names`: all or none."""
        return wire.record_erasures(self._run(calls.erase_records(tenant, names, reason), deadline))

    # Streams

    def export_records(
        self,
        tenant: str,
        type: str = "",
        *,
        page_token: str = "",
        mask: Collection[str] | None = None,
        purpose: str = "",
        deadline: float | None = None,
    ) -> Iterator[RecordPage]:
        """All records of a type (or of all), by name, as fast as they are taken. A stream that breaks off is taken up
        again at its token; the token of the last page that was handled goes on from there later."""
        def page_of(sent: record_pb2.ExportRecordsResponse) -> RecordPage:
            records = self._records(sent.records, deadline)
            return RecordPage(records, sent.next_page_token, list(sent.damaged_names))

        def call_at(token: str) -> calls.Call[record_pb2.ExportRecordsResponse]:
            return calls.export_records(tenant, type, token, mask, purpose)

        return self._export(core.records_export(call_at, page_token), page_of, deadline)

    def import_records(
        self,
        tenant: str,
        records: Iterable[NewRecord],
        *,
        import_id: str,
        done: int | None = None,
        chunk_size: int = 500,
        deadline: float | None = None,
    ) -> Iterator[ImportedChunk]:
        """Creates many records, chunk by chunk; work happens as the answers are taken. A record that is refused stops
        no other.

        `import_id` is a random UUIDv4 that the caller keeps until the import is over. To go on after a crash, within a
        day: the same id and the same records from the first one on; `done` is `next_index` of the last answer that was
        handled, so that the answer to the chunk after it is not lost. `deadline` bounds the wait for
        each answer.
        """
        size = core.check_chunk_size(chunk_size)
        session = Import(self._channel, calls.import_start(tenant, import_id), self._seconds(deadline))
        try:
            chunker = core.Chunker(tenant, session.position(), done, size)
            for new in records:
                if chunk := chunker.add(new):
                    yield session.send(chunk)
            if chunk := chunker.finish():
                yield session.send(chunk)
        finally:
            session.drop()

    def watch_records(
        self, tenant: str, *, seconds: float = core.WATCH_SECONDS_MAX, deadline: float | None = None
    ) -> Watch:
        """What changes from when this returns, for `seconds` (at most an hour): names and kinds, no values."""
        seconds = core.check_watch(seconds)
        end = core.watch_end(seconds, time.monotonic())
        stream = self._open(calls.watch_records(tenant), seconds)
        return Watch(stream, end, self._seconds(deadline))

    # Audit log

    def list_audit_pages(
        self,
        tenant: str = "",
        *,
        subject: str = "",
        principal: str = "",
        page_size: int = 500,
        page_token: str = "",
        deadline: float | None = None,
    ) -> Iterator[AuditPage]:
        """Entries of the audit log, the newest first, page by page: of one tenant, about one subject while it is not
        erased (`tenants/{tenant}/subjects/{uuid}`), of one caller (a URI). For auditors and privacy officers."""
        while True:
            call = calls.list_audit_entries(tenant, subject, principal, page_size, page_token)
            page = wire.audit_page(self._run(call, deadline))
            page_token = page.next_page_token
            yield page
            if not page_token:
                return

    def list_audit_entries(
        self,
        tenant: str = "",
        *,
        subject: str = "",
        principal: str = "",
        page_size: int = 500,
        deadline: float | None = None,
    ) -> Iterator[AuditEntry]:
        """The entries of `list_audit_pages`, one by one."""
        for page in self.list_audit_pages(
            tenant, subject=subject, principal=principal, page_size=page_size, deadline=deadline
        ):
            yield from page.entries

    def export_audit_entries(self, start_index: int = 0, *, deadline: float | None = None) -> Iterator[AuditEntry]:
        """Every entry from an index on, the oldest first. A stream that breaks off is taken up again. Take
        `audit_head` before: `lethe.audit.verify` then says whether all that it is about has come."""

        def entries_of(sent: audit_pb2.ExportAuditEntriesResponse) -> list[AuditEntry]:
            return [wire.audit_entry(e) for e in sent.entries]

        for part in self._export(core.audit_export(start_index), entries_of, deadline):
            yield from part

    def audit_head(self, *, deadline: float | None = None) -> AuditHead:
        """Has the anchor bind the log as it is now. For auditors."""
        return wire.audit_head(self._run(calls.audit_head(), deadline))

    # The logs with their trees

    def checkpoint(self, log: Log, *, fresh: bool = False, deadline: float | None = None) -> Checkpoint:
        """The checkpoint of a log as the anchor has bound it; `fresh`: after it has bound what the audit log holds
        now. For auditors and privacy officers of all tenants; that of the ledger for operators too."""
        return wire.checkpoint(self._run(calls.checkpoint(log, fresh), deadline))

    def inclusion_proof(
        self, log: Log, index: int, *, size: int = 0, deadline: float | None = None
    ) -> InclusionProof:
        """Entry `index` and the proof that it is in the tree of `size` entries (0: the bound one)."""
        return wire.inclusion_proof(index, self._run(calls.inclusion_proof(log, index, size), deadline))

    def consistency_proof(
        self, log: Log, old_size: int, *, size: int = 0, deadline: float | None = None
    ) -> ConsistencyProof:
        """The proof that the tree of `size` entries (0: the bound one) begins with that of `old_size`."""
        call = calls.consistency_proof(log, old_size, size)
        return wire.consistency_proof(old_size, self._run(call, deadline))

    # The vault

    def status(self, *, deadline: float | None = None) -> VaultStatus:
        """For operators and auditors: among others the public key that checks receipts."""
        return wire.status(self._run(calls.status(), deadline))

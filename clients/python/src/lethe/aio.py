"""The vault, for programs with asyncio: the methods of `lethe.vault.Vault`, which says what each does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from . import _calls as calls
from . import _core as core
from . import _wire as wire
from ._aio_evidence import AsyncEvidenceCalls
from ._aio_retention import AsyncRetentionCalls
from ._aio_streams import AsyncWatch, Import, pause_or_raise, read
from ._retry import DEADLINE_DEFAULT, Attempts
from ._streams import to_bytes
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


class AsyncVault(AsyncEvidenceCalls, AsyncRetentionCalls):
    """A connection to a vault, for the event loop that runs when it is made."""

    def __init__(self, config_file: str | Path, deadline: float = DEADLINE_DEFAULT) -> None:
        # Without this gRPC would make a loop of its own, and every call would wait for ever.
        asyncio.get_running_loop()
        super().__init__(config_file, deadline)
        self._channel = grpc.aio.secure_channel(
            self._identity.target, core.credentials(self._identity), core.options(self._identity)
        )

    @classmethod
    def connect(cls, config_file: str | Path, *, deadline: float = DEADLINE_DEFAULT) -> AsyncVault:
        return cls(config_file, deadline)

    async def close(self) -> None:
        await self._channel.close()

    async def __aenter__(self) -> AsyncVault:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def _run(self, call: calls.Call[_A], deadline: float | None) -> _A:
        attempts = Attempts(call.again, self._seconds(deadline), time.monotonic())
        send: Any = self._channel.unary_unary(
            call.path, request_serializer=to_bytes, response_deserializer=call.answer.FromString
        )
        while True:
            try:
                answer: _A = await send(call.request, timeout=attempts.remaining(time.monotonic()))
                return answer
            except grpc.RpcError as error:
                failure = from_rpc(error)
            await pause_or_raise(attempts, failure)

    def _open(self, call: calls.Call[_A], seconds: float) -> Any:
        send: Any = self._channel.unary_stream(
            call.path, request_serializer=to_bytes, response_deserializer=call.answer.FromString
        )
        return send(call.request, timeout=seconds)

    async def _export(
        self, export: core.Export[_P], part_of: Callable[[Any], Awaitable[_P]], deadline: float | None
    ) -> AsyncGenerator[_P, None]:
        """The parts of an export, over as many streams as it takes."""
        seconds = self._seconds(deadline)
        attempts = Attempts(True, seconds, time.monotonic())
        while True:
            stream = self._open(export.call(), core.STREAM_SECONDS)
            left = attempts.remaining(time.monotonic())
            try:
                while sent := await read(stream, left):
                    part = await part_of(sent)
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
                await pause_or_raise(attempts, failure)

    async def _records(self, sent: Sequence[record_pb2.Record], deadline: float | None) -> list[Record]:
        await self._learn(self._dates.unknown(sent), deadline)
        return [self._dates.record(r) for r in sent]

    async def _learn(self, schemas: Iterable[str], deadline: float | None) -> None:
        for name in schemas:
            answer = await self._run(calls.get_schema(name), deadline)
            self._dates.learn(wire.schema(answer.schema))

    # Tenants and schemas

    async def create_tenant(self, tenant: str, display_name: str = "", *, deadline: float | None = None) -> Tenant:
        return wire.tenant((await self._run(calls.create_tenant(tenant, display_name), deadline)).tenant)

    async def update_tenant(
        self,
        tenant: str,
        display_name: str,
        *,
        mask: Collection[str] | None = None,
        etag: str = "",
        deadline: float | None = None,
    ) -> Tenant:
        call = calls.update_tenant(tenant, display_name, mask, etag)
        return wire.tenant((await self._run(call, deadline)).tenant)

    async def get_tenant(self, tenant: str, *, deadline: float | None = None) -> Tenant:
        return wire.tenant((await self._run(calls.get_tenant(tenant), deadline)).tenant)

    async def list_tenants(self, *, deadline: float | None = None) -> AsyncIterator[Tenant]:
        token = ""
        while True:
            page = await self._run(calls.list_tenants(token), deadline)
            for sent in page.tenants:
                yield wire.tenant(sent)
            if not (token := page.next_page_token):
                return

    async def create_schema(self, tenant: str, type: str, schema: Schema, *, deadline: float | None = None) -> Schema:
        return wire.schema((await self._run(calls.create_schema(tenant, type, schema), deadline)).schema)

    async def update_schema(
        self,
        tenant: str,
        type: str,
        schema: Schema,
        *,
        mask: Collection[str] | None = None,
        deadline: float | None = None,
    ) -> Schema:
        return wire.schema((await self._run(calls.update_schema(tenant, type, schema, mask), deadline)).schema)

    async def get_schema(self, tenant: str, type: str, *, deadline: float | None = None) -> Schema:
        name = wire.schema_name(tenant, type)
        return wire.schema((await self._run(calls.get_schema(name), deadline)).schema)

    async def list_schemas(self, tenant: str, *, deadline: float | None = None) -> AsyncIterator[Schema]:
        token = ""
        while True:
            page = await self._run(calls.list_schemas(tenant, token), deadline)
            for sent in page.schemas:
                yield wire.schema(sent)
            if not (token := page.next_page_token):
                return

    # Subjects

    async def create_subject(
        self, tenant: str, *, request_id: str | None = None, deadline: float | None = None
    ) -> Subject:
        return wire.subject((await self._run(calls.create_subject(tenant, request_id), deadline)).subject)

    async def get_subject(self, name: str, *, deadline: float | None = None) -> Subject:
        return wire.subject((await self._run(calls.get_subject(name), deadline)).subject)

    async def erase_subject(
        self, name: str, reason: Reason = Reason.SUBJECT_REQUEST, *, deadline: float | None = None
    ) -> SubjectErasure:
        return wire.subject_erasure(await self._run(calls.erase_subject(name, reason), deadline))

    # Records

    async def create_record(
        self,
        tenant: str,
        type: str,
        fields: Mapping[str, Value],
        *,
        subject: str = "",
        request_id: str = "",
        deadline: float | None = None,
    ) -> Record:
        call = calls.create_record(tenant, NewRecord(type, fields, subject, request_id))
        # Before the change: what is needed to read its answer must not fail after it.
        await self._learn(self._dates.unlearnt([wire.schema_name(tenant, type)]), deadline)
        sent = (await self._run(call, deadline)).record
        return (await self._records([sent], deadline))[0]

    async def create_records(
        self, tenant: str, new: Sequence[NewRecord], *, deadline: float | None = None
    ) -> list[Record]:
        call = calls.create_records(tenant, new)
        await self._learn(self._dates.unlearnt(wire.schema_name(tenant, one.type) for one in new), deadline)
        answer = await self._run(call, deadline)
        return await self._records(answer.records, deadline)

    async def get_record(
        self,
        name: str,
        *,
        mask: Collection[str] | None = None,
        purpose: str = "",
        deadline: float | None = None,
    ) -> Record:
        answer = await self._run(calls.get_record(name, mask, purpose), deadline)
        return (await self._records([answer.record], deadline))[0]

    async def get_records(
        self,
        tenant: str,
        names: Iterable[str],
        *,
        mask: Collection[str] | None = None,
        purpose: str = "",
        deadline: float | None = None,
    ) -> list[Record]:
        answer = await self._run(calls.get_records(tenant, names, mask, purpose), deadline)
        return await self._records(answer.records, deadline)

    async def update_record(
        self,
        name: str,
        fields: Mapping[str, Value],
        *,
        mask: Collection[str] | None = None,
        etag: str = "",
        request_id: str | None = None,
        deadline: float | None = None,
    ) -> Record:
        answer = await self._run(calls.update_record(name, fields, mask, etag, request_id), deadline)
        return (await self._records([answer.record], deadline))[0]

    async def list_pages(
        self,
        tenant: str,
        type: str = "",
        *,
        page_size: int = 500,
        page_token: str = "",
        mask: Collection[str] | None = None,
        purpose: str = "",
        deadline: float | None = None,
    ) -> AsyncIterator[RecordPage]:
        while True:
            call = calls.list_records(tenant, type, page_size, page_token, mask, purpose)
            sent = await self._run(call, deadline)
            page_token = sent.next_page_token
            yield RecordPage(await self._records(sent.records, deadline), page_token, list(sent.damaged_names))
            if not page_token:
                return

    async def list_records(
        self,
        tenant: str,
        type: str = "",
        *,
        page_size: int = 500,
        mask: Collection[str] | None = None,
        purpose: str = "",
        deadline: float | None = None,
    ) -> AsyncIterator[Record]:
        damaged: list[str] = []
        async for page in self.list_pages(
            tenant, type, page_size=page_size, mask=mask, purpose=purpose, deadline=deadline
        ):
            for record in page.records:
                yield record
            damaged += page.damaged_names
        if damaged:
            raise DataLoss("records are damaged: restore or erase them", damaged)

    async def find_records(
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
        sent = await self._run(calls.find_records(tenant, type, field, value, mask, purpose), deadline)
        return Found(await self._records(sent.records, deadline), sent.incomplete)

    async def erase_record(
        self,
        name: str,
        reason: Reason = Reason.SUBJECT_REQUEST,
        *,
        etag: str = "",
        deadline: float | None = None,
    ) -> Receipt:
        return wire.record_erasure(await self._run(calls.erase_record(name, reason, etag), deadline))

    async def erase_records(
        self,
        tenant: str,
        names: Iterable[str],
        reason: Reason = Reason.SUBJECT_REQUEST,
        *,
        deadline: float | None = None,
    ) -> list[Receipt]:
        return wire.record_erasures(await self._run(calls.erase_records(tenant, names, reason), deadline))

    # Streams

    async def export_records(
        self,
        tenant: str,
        type: str = "",
        *,
        page_token: str = "",
        mask: Collection[str] | None = None,
        purpose: str = "",
        deadline: float | None = None,
    ) -> AsyncIterator[RecordPage]:
        async def page_of(sent: record_pb2.ExportRecordsResponse) -> RecordPage:
            records = await self._records(sent.records, deadline)
            return RecordPage(records, sent.next_page_token, list(sent.damaged_names))

        def call_at(token: str) -> calls.Call[record_pb2.ExportRecordsResponse]:
            return calls.export_records(tenant, type, token, mask, purpose)

        async with aclosing(self._export(core.records_export(call_at, page_token), page_of, deadline)) as pages:
            async for page in pages:
                yield page

    async def import_records(
        self,
        tenant: str,
        records: Iterable[NewRecord] | AsyncIterable[NewRecord],
        *,
        import_id: str,
        done: int | None = None,
        chunk_size: int = 500,
        deadline: float | None = None,
    ) -> AsyncIterator[ImportedChunk]:
        size = core.check_chunk_size(chunk_size)
        session = Import(self._channel, calls.import_start(tenant, import_id), self._seconds(deadline))
        try:
            chunker = core.Chunker(tenant, await session.position(), done, size)
            async for new in _each(records):
                if chunk := chunker.add(new):
                    yield await session.send(chunk)
            if chunk := chunker.finish():
                yield await session.send(chunk)
        finally:
            session.drop()

    async def watch_records(
        self, tenant: str, *, seconds: float = core.WATCH_SECONDS_MAX, deadline: float | None = None
    ) -> AsyncWatch:
        seconds = core.check_watch(seconds)
        end = core.watch_end(seconds, time.monotonic())
        watch = AsyncWatch(self._open(calls.watch_records(tenant), seconds), end)
        await watch._begin(self._seconds(deadline))
        return watch

    # Audit log

    async def list_audit_pages(
        self,
        tenant: str = "",
        *,
        subject: str = "",
        principal: str = "",
        page_size: int = 500,
        page_token: str = "",
        deadline: float | None = None,
    ) -> AsyncIterator[AuditPage]:
        while True:
            call = calls.list_audit_entries(tenant, subject, principal, page_size, page_token)
            page = wire.audit_page(await self._run(call, deadline))
            page_token = page.next_page_token
            yield page
            if not page_token:
                return

    async def list_audit_entries(
        self,
        tenant: str = "",
        *,
        subject: str = "",
        principal: str = "",
        page_size: int = 500,
        deadline: float | None = None,
    ) -> AsyncIterator[AuditEntry]:
        async for page in self.list_audit_pages(
            tenant, subject=subject, principal=principal, page_size=page_size, deadline=deadline
        ):
            for entry in page.entries:
                yield entry

    async def export_audit_entries(
        self, start_index: int = 0, *, deadline: float | None = None
    ) -> AsyncIterator[AuditEntry]:
        async def entries_of(sent: audit_pb2.ExportAuditEntriesResponse) -> list[AuditEntry]:
            return [wire.audit_entry(e) for e in sent.entries]

        async with aclosing(self._export(core.audit_export(start_index), entries_of, deadline)) as parts:
            async for part in parts:
                for entry in part:
                    yield entry

    async def audit_head(self, *, deadline: float | None = None) -> AuditHead:
        return wire.audit_head(await self._run(calls.audit_head(), deadline))

    # The logs with their trees

    async def checkpoint(self, log: Log, *, fresh: bool = False, deadline: float | None = None) -> Checkpoint:
        return wire.checkpoint(await self._run(calls.checkpoint(log, fresh), deadline))

    async def inclusion_proof(
        self, log: Log, index: int, *, size: int = 0, deadline: float | None = None
    ) -> InclusionProof:
        return wire.inclusion_proof(index, await self._run(calls.inclusion_proof(log, index, size), deadline))

    async def consistency_proof(
        self, log: Log, old_size: int, *, size: int = 0, deadline: float | None = None
    ) -> ConsistencyProof:
        call = calls.consistency_proof(log, old_size, size)
        return wire.consistency_proof(old_size, await self._run(call, deadline))

    # The vault

    async def status(self, *, deadline: float | None = None) -> VaultStatus:
        return wire.status(await self._run(calls.status(), deadline))


async def _each(records: Iterable[NewRecord] | AsyncIterable[NewRecord]) -> AsyncIterator[NewRecord]:
    if isinstance(records, AsyncIterable):
        async for record in records:
            yield record
    else:
        for record in records:
            yield record

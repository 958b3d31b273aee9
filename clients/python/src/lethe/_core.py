"""What threads and asyncio share: how a channel is made, how an import is cut into chunks, where an export stands.
No socket and no clock in here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from . import _calls as calls
from . import _wire as wire
from ._config import Identity, load
from ._retry import check_deadline
from .errors import Aborted, DeadlineExceeded, InvalidArgument, LetheError, Unavailable
from .model import AuditEntry, NewRecord, RecordPage
from .retention import RetentionForecast
from .v1 import record_pb2

STREAM_SECONDS = 60.0
"""Imports and exports go over streams of at most this long; the next one goes on where the last one ended."""
STREAM_YOUNG = 30.0
"""A stream that is older is not given another chunk, so that each has at least the rest to be answered in."""
WATCH_SECONDS_MAX = 3600.0

_P = TypeVar("_P")


class Base:
    """Configuration and what was learnt of schemas."""

    def __init__(self, config_file: str | Path, deadline: float) -> None:
        self._deadline = check_deadline(deadline)
        self._identity = load(config_file)
        self._dates = wire.DateFields()

    def _seconds(self, deadline: float | None) -> float:
        return self._deadline if deadline is None else check_deadline(deadline)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._identity.target})"


def credentials(identity: Identity) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(identity.ca, identity.key, identity.cert)


def options(identity: Identity) -> list[tuple[str, str | int]]:
    chosen: list[tuple[str, str | int]] = [
        ("grpc.max_send_message_length", calls.MESSAGE_BYTES_MAX),
        ("grpc.max_receive_message_length", calls.MESSAGE_BYTES_MAX),
        # A proxy of the environment is for the web, not for a vault.
        ("grpc.enable_http_proxy", 0),
        # This client decides itself what is made again.
        ("grpc.enable_retries", 0),
        # Between attempts the connection is to be tried anew, not its last failure told again.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # A watch may be silent for long: a peer that is gone is noticed all the same.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # Of two vaults in one process each has its own connection.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if identity.server_name:
        chosen.append(("grpc.ssl_target_name_override", identity.server_name))
    return chosen


def watch_end(seconds: float, now: float) -> float:
    """When a watch's time is up. gRPC counts from a moment of its own, and at either side: it may be a little early."""
    return now + seconds - min(0.25, seconds / 2)


def check_watch(seconds: float) -> float:
    if not 0 < seconds <= WATCH_SECONDS_MAX:
        raise ValueError(f"seconds: must be more than 0 and at most {WATCH_SECONDS_MAX:.0f}")
    return float(seconds)


@dataclass(frozen=True, repr=False)
class Chunk:
    """A part of an import that is sent as a whole, and again as the same whole."""

    first: int
    records: list[record_pb2.Record]

    @property
    def end(self) -> int:
        return self.first + len(self.records)

    def message(self) -> record_pb2.ImportRecordsRequest:
        return calls.import_chunk(self.first, self.records)

    def check_resumed(self, next_index: int) -> None:
        """Whether a vault that goes on here can take this chunk: it has it, or is to have it next."""
        if next_index not in (self.first, self.end):
            raise Aborted("ABORTED", "import_id: another caller goes on with this import")


class Chunker:
    """Cuts records into chunks, by count and by bytes."""

    # Beside the records a message has its frame and their lengths.
    BYTES_MAX = calls.MESSAGE_BYTES_MAX - (64 << 10)

    def __init__(self, tenant: str, next_index: int, done: int | None, chunk_size: int) -> None:
        if done is not None and not 0 <= done <= next_index:
            raise InvalidArgument.of("done", "is beyond what the vault has of this import")
        self._tenant = tenant
        self._size = chunk_size
        self._index = 0
        # The answer to the last chunk may be what the caller lacks: that chunk is sent again, with the same bounds.
        self._first = next_index if done is None else done
        self._bound = next_index
        self._pending: list[record_pb2.Record] = []
        self._bytes = 0

    def add(self, new: NewRecord) -> Chunk | None:
        """Takes the import's next record; gives a chunk when one is full."""
        at = self._index
        self._index += 1
        if at < self._first:
            return None
        record = wire.new_record(self._tenant, new, f"records[{at}]")
        size = record.ByteSize() + 8
        if size > self.BYTES_MAX:
            raise InvalidArgument.of(f"records[{at}]", "is larger than a message can be")
        most = calls.IMPORT_CHUNK_MAX if at < self._bound else self._size
        full = len(self._pending) >= most or self._bytes + size > self.BYTES_MAX or at == self._bound
        chunk = self._take() if full and self._pending else None
        self._pending.append(record)
        self._bytes += size
        return chunk

    def finish(self) -> Chunk | None:
        """The chunk that is not full."""
        if self._index < self._bound:
            raise InvalidArgument.of("records", "are fewer than the vault has of this import")
        return self._take() if self._pending else None

    def _take(self) -> Chunk:
        chunk = Chunk(self._first, self._pending)
        self._first, self._pending, self._bytes = chunk.end, [], 0
        return chunk


def check_chunk_size(size: int) -> int:
    if size not in range(1, calls.IMPORT_CHUNK_MAX + 1):
        raise InvalidArgument.of("chunk_size", f"must be 1 to {calls.IMPORT_CHUNK_MAX}")
    return size


class Export(Generic[_P]):
    """Where an export stands, over all its streams."""

    def __init__(self, call: Callable[[], calls.Call[Any]], take: Callable[[_P], bool], ends_openly: bool) -> None:
        self.call = call
        """The call that goes on after what was taken."""
        self.ends_openly = ends_openly
        """Whether no part says of itself that it is the last."""
        self.done = False
        self._take = take
        self._moved = False

    def take(self, part: _P) -> None:
        self.done = self._take(part)
        self._moved = True

    def ended(self) -> LetheError:
        """What it means that a stream ended before its last part."""
        return Unavailable("UNAVAILABLE", "the export ended before its last part")

    def goes_on_after(self, failure: LetheError) -> bool:
        """The stream's time was up, but it moved: the next one takes over at once."""
        moved, self._moved = self._moved, False
        return moved and isinstance(failure, DeadlineExceeded)


def records_export(call_at: Callable[[str], calls.Call[Any]], token: str) -> Export[RecordPage]:
    def take(page: RecordPage) -> bool:
        nonlocal token
        token = page.next_page_token
        return not token

    return Export(lambda: call_at(token), take, ends_openly=False)


def audit_export(start: int) -> Export[list[AuditEntry]]:
    def take(entries: list[AuditEntry]) -> bool:
        nonlocal start
        if entries:
            start = entries[-1].index + 1
        return False

    return Export(lambda: calls.export_audit_entries(start), take, ends_openly=True)


def add_up(
    found: dict[tuple[str, dt.date | None], RetentionForecast], parts: Iterable[RetentionForecast]
) -> None:
    """Adds parts of a preview to those so far, by type and day."""
    for part in parts:
        at = (part.schema, part.expire_date)
        found[at] = found[at] + part if at in found else part

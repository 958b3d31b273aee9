"""Streams of `Vault`: one message at a time, each within its time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.message import Message

from . import _calls as calls
from . import _core as core
from . import _wire as wire
from ._retry import Attempts
from .errors import DeadlineExceeded, LetheError, Unavailable, from_rpc
from .model import Change, ImportedChunk
from .v1 import record_pb2


def to_bytes(message: Message) -> bytes:
    return message.SerializeToString()


def pause_or_raise(attempts: Attempts, failure: LetheError) -> None:
    pause = attempts.pause_after(failure, time.monotonic())
    if pause is None:
        raise failure
    time.sleep(pause)


def read(stream: Any, seconds: float | None) -> Any:
    """The next message of a stream within `seconds`; `None` at its end. gRPC bounds only a stream as a whole."""
    end = None if seconds is None else time.monotonic() + seconds
    impatient = None if seconds is None else threading.Timer(seconds, stream.cancel)
    if impatient is not None:
        impatient.daemon = True
        impatient.start()
    try:
        return next(stream)
    except StopIteration:
        return None
    except grpc.RpcError as error:
        failure = from_rpc(error)
    finally:
        if impatient is not None:
            impatient.cancel()
    if failure.code == "CANCELLED" and end is not None and time.monotonic() >= end:
        failure = DeadlineExceeded("DEADLINE_EXCEEDED", "no message came in time")
    raise failure


class Watch(Iterator[Change]):
    """Changes of a tenant, in their order. Ends when its time is up or it is closed (from any thread); raises
    `ChangesMissed` when it was too slow and `Unavailable` when the vault left: then list what there is and watch anew.
    """

    def __init__(self, stream: Any, end: float, patience: float) -> None:
        self._stream = stream
        self._end = end
        self._closed = False
        # The first message says that the watch has begun. The stream's own bound is too long to wait for it.
        if read(stream, patience) is None:
            raise Unavailable("UNAVAILABLE", "the watch ended before it began")

    def __next__(self) -> Change:
        try:
            sent = read(self._stream, None)
        except LetheError as error:
            timely = isinstance(error, DeadlineExceeded) and time.monotonic() >= self._end
            if not self._closed and not timely:
                raise
            sent = None
        if sent is None:
            raise StopIteration
        return wire.change(sent)

    def close(self) -> None:
        self._closed = True
        self._stream.cancel()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


class Import:
    """One import, over all its streams. A chunk is answered before the next one is sent."""

    def __init__(self, channel: grpc.Channel, start: record_pb2.ImportRecordsRequest, seconds: float) -> None:
        self._send = channel.stream_stream(
            calls.IMPORT_PATH,
            request_serializer=to_bytes,
            response_deserializer=record_pb2.ImportRecordsResponse.FromString,
        )
        self._start = start
        self._seconds = seconds
        self._stream: Any = None
        self._outgoing: queue.SimpleQueue[record_pb2.ImportRecordsRequest | None] = queue.SimpleQueue()
        self._opened = 0.0

    def position(self) -> int:
        """Where the vault goes on."""
        return self._retried(self._begin).next_index

    def send(self, chunk: core.Chunk) -> ImportedChunk:
        return wire.imported(chunk.first, self._retried(lambda seconds: self._chunk(chunk, seconds)))

    def _retried(self, step: Callable[[float], record_pb2.ImportRecordsResponse]) -> record_pb2.ImportRecordsResponse:
        """Steps may be repeated: a start changes nothing, and of a repeated chunk nothing is doubled."""
        attempts = Attempts(True, self._seconds, time.monotonic())
        while True:
            try:
                return step(attempts.remaining(time.monotonic()))
            except LetheError as error:
                failure = error
            self.drop()
            pause_or_raise(attempts, failure)

    def _begin(self, seconds: float) -> record_pb2.ImportRecordsResponse:
        self._outgoing = queue.SimpleQueue()
        self._outgoing.put(self._start)
        self._opened = time.monotonic()
        self._stream = self._send(iter(self._outgoing.get, None), timeout=core.STREAM_SECONDS)
        return self._answer(seconds)

    def _chunk(self, chunk: core.Chunk, seconds: float) -> record_pb2.ImportRecordsResponse:
        if time.monotonic() - self._opened > core.STREAM_YOUNG:
            self.drop()
        if self._stream is None:
            chunk.check_resumed(self._begin(seconds).next_index)
        self._outgoing.put(chunk.message())
        return self._answer(seconds)

    def _answer(self, seconds: float) -> record_pb2.ImportRecordsResponse:
        answer: record_pb2.ImportRecordsResponse | None = read(self._stream, seconds)
        if answer is None:
            raise Unavailable("UNAVAILABLE", "the import's stream ended before its answer")
        return answer

    def drop(self) -> None:
        """Ends the stream, and with it the thread of gRPC that waits for more to send."""
        if self._stream is not None:
            self._outgoing.put(None)
            self._stream.cancel()
            self._stream = None

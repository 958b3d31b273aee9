"""Streams of `AsyncVault`: one message at a time, each within its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from . import _calls as calls
from . import _core as core
from . import _wire as wire
from ._retry import Attempts
from ._streams import to_bytes
from .errors import DeadlineExceeded, LetheError, Unavailable, from_rpc
from .model import Change, ImportedChunk
from .v1 import record_pb2


async def pause_or_raise(attempts: Attempts, failure: LetheError) -> None:
    pause = attempts.pause_after(failure, time.monotonic())
    if pause is None:
        raise failure
    await asyncio.sleep(pause)


async def read(stream: Any, seconds: float | None) -> Any:
    """The next message of a stream within `seconds`; `None` at its end."""
    try:
        sent = await asyncio.wait_for(stream.read(), seconds)
        return None if sent is grpc.aio.EOF else sent
    except grpc.RpcError as error:
        failure = from_rpc(error)
    except (TimeoutError, asyncio.TimeoutError):
        failure = DeadlineExceeded("DEADLINE_EXCEEDED", "no message came in time")
    raise failure


class AsyncWatch(AsyncIterator[Change]):
    """`lethe.vault.Watch` for asyncio."""

    def __init__(self, stream: Any, end: float) -> None:
        self._stream = stream
        self._end = end
        self._closed = False

    async def _begin(self, patience: float) -> None:
        # The first message says that the watch has begun. The stream's own bound is too long to wait for it.
        if await read(self._stream, patience) is None:
            raise Unavailable("UNAVAILABLE", "the watch ended before it began")

    async def __anext__(self) -> Change:
        if self._closed:
            raise StopAsyncIteration
        try:
            sent = await read(self._stream, None)
        except LetheError as error:
            timely = isinstance(error, DeadlineExceeded) and time.monotonic() >= self._end
            if not self._closed and not timely:
                raise
            sent = None
        if sent is None:
            raise StopAsyncIteration
        return wire.change(sent)

    async def close(self) -> None:
        self._closed = True
        self._stream.cancel()

    async def __aenter__(self) -> AsyncWatch:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()


class Import:
    """One import, over all its streams. A chunk is answered before the next one is sent."""

    def __init__(self, channel: grpc.aio.Channel, start: record_pb2.ImportRecordsRequest, seconds: float) -> None:
        self._send: Any = channel.stream_stream(
            calls.IMPORT_PATH,
            request_serializer=to_bytes,
            response_deserializer=record_pb2.ImportRecordsResponse.FromString,
        )
        self._start = start
        self._seconds = seconds
        self._stream: Any = None
        self._opened = 0.0

    async def position(self) -> int:
        """Where the vault goes on."""
        return (await self._retried(self._begin)).next_index

    async def send(self, chunk: core.Chunk) -> ImportedChunk:
        return wire.imported(chunk.first, await self._retried(lambda seconds: self._chunk(chunk, seconds)))

    async def _retried(
        self, step: Callable[[float], Awaitable[record_pb2.ImportRecordsResponse]]
    ) -> record_pb2.ImportRecordsResponse:
        """Steps may be repeated: a start changes nothing, and of a repeated chunk nothing is doubled."""
        attempts = Attempts(True, self._seconds, time.monotonic())
        while True:
            try:
                return await step(attempts.remaining(time.monotonic()))
            except LetheError as error:
                failure = error
            self.drop()
            await pause_or_raise(attempts, failure)

    async def _begin(self, seconds: float) -> record_pb2.ImportRecordsResponse:
        self._opened = time.monotonic()
        self._stream = self._send(timeout=core.STREAM_SECONDS)
        return await self._exchange(self._start, seconds)

    async def _chunk(self, chunk: core.Chunk, seconds: float) -> record_pb2.ImportRecordsResponse:
        if time.monotonic() - self._opened > core.STREAM_YOUNG:
            self.drop()
        if self._stream is None:
            chunk.check_resumed((await self._begin(seconds)).next_index)
        return await self._exchange(chunk.message(), seconds)

    async def _exchange(
        self, message: record_pb2.ImportRecordsRequest, seconds: float
    ) -> record_pb2.ImportRecordsResponse:
        failure: LetheError | None = None
        try:
            await asyncio.wait_for(self._stream.write(message), seconds)
        except asyncio.InvalidStateError:
            # The stream is over; reading from it says why.
            pass
        except grpc.RpcError as error:
            failure = from_rpc(error)
            # What gRPC says of a stream that ended under a write, instead of why it ended: the next attempt hears it.
            if failure.code == "INTERNAL":
                failure = Unavailable("UNAVAILABLE", "the import's stream ended before its message was sent")
        except (TimeoutError, asyncio.TimeoutError):
            failure = DeadlineExceeded("DEADLINE_EXCEEDED", "a message was not taken in time")
        if failure is not None:
            raise failure
        answer: record_pb2.ImportRecordsResponse | None = await read(self._stream, seconds)
        if answer is None:
            raise Unavailable("UNAVAILABLE", "the import's stream ended before its answer")
        return answer

    def drop(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

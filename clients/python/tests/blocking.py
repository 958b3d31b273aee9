"""One test for both flavours: the one for asyncio gets the looks of the one with threads."""

from __future__ import annotations

import asyncio
import inspect

from lethe import AsyncVault, AsyncWatch, Vault


def connect(flavour, file, **more):
    if flavour == "threads":
        return Vault.connect(file, **more)
    loop = asyncio.new_event_loop()

    async def connected():
        return AsyncVault.connect(file, **more)

    return Blocking(loop, loop.run_until_complete(connected()))


class Blocking:
    """An `AsyncVault` or `AsyncWatch` with the looks of its twin with threads, so that one story tells both."""

    def __init__(self, loop, inner):
        self._loop, self._inner = loop, inner

    def __getattr__(self, name):
        method = getattr(self._inner, name)

        def call(*args, **named):
            result = method(*args, **named)
            if inspect.isasyncgen(result):
                return self._each(result)
            result = self._loop.run_until_complete(result)
            return Blocking(self._loop, result) if isinstance(result, AsyncWatch) else result

        return call

    def __repr__(self):
        return repr(self._inner)

    def _each(self, items):
        try:
            while True:
                try:
                    yield self._loop.run_until_complete(items.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run_until_complete(items.aclose())

    def __next__(self):
        return self._loop.run_until_complete(self._inner.__anext__())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._loop.run_until_complete(self._inner.close())

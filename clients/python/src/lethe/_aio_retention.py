"""The calls about retention, for programs with asyncio: a part of `lethe.AsyncVault`; `lethe.Vault` says what each
does."""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import AsyncIterator, Collection
from typing import TypeVar

from google.protobuf.message import Message

from . import _calls as calls
from . import _core as core
from . import _wire as wire
from .retention import RetentionExplanation, RetentionForecast, RetentionPolicy, RetentionRuns, RetentionStatus

_A = TypeVar("_A", bound=Message)


class AsyncRetentionCalls(core.Base, abc.ABC):
    """How long records are kept, what will go and when, and what went."""

    @abc.abstractmethod
    async def _run(self, call: calls.Call[_A], deadline: float | None) -> _A: ...

    async def create_retention_policy(
        self, tenant: str, id: str, policy: RetentionPolicy, *, deadline: float | None = None
    ) -> RetentionPolicy:
        answer = await self._run(calls.create_retention_policy(tenant, id, policy), deadline)
        return wire.retention_policy(answer.retention_policy)

    async def update_retention_policy(
        self,
        tenant: str,
        id: str,
        policy: RetentionPolicy,
        *,
        mask: Collection[str] | None = None,
        etag: str = "",
        deadline: float | None = None,
    ) -> RetentionPolicy:
        answer = await self._run(calls.update_retention_policy(tenant, id, policy, mask, etag), deadline)
        return wire.retention_policy(answer.retention_policy)

    async def get_retention_policy(self, tenant: str, id: str, *, deadline: float | None = None) -> RetentionPolicy:
        answer = await self._run(calls.get_retention_policy(tenant, id), deadline)
        return wire.retention_policy(answer.retention_policy)

    async def list_retention_policies(
        self, tenant: str, *, deadline: float | None = None
    ) -> AsyncIterator[RetentionPolicy]:
        token = ""
        while True:
            page = await self._run(calls.list_retention_policies(tenant, token), deadline)
            for sent in page.retention_policies:
                yield wire.retention_policy(sent)
            if not (token := page.next_page_token):
                return

    async def delete_retention_policy(
        self, tenant: str, id: str, *, etag: str = "", deadline: float | None = None
    ) -> None:
        await self._run(calls.delete_retention_policy(tenant, id, etag), deadline)

    async def explain_retention(self, name: str, *, deadline: float | None = None) -> RetentionExplanation:
        return wire.retention_explanation(await self._run(calls.explain_retention(name), deadline))

    async def preview_retention(
        self, tenant: str, date: dt.date, *, deadline: float | None = None
    ) -> AsyncIterator[RetentionForecast]:
        found: dict[tuple[str, dt.date | None], RetentionForecast] = {}
        token = ""
        while True:
            page = await self._run(calls.preview_retention(tenant, date, token), deadline)
            core.add_up(found, map(wire.retention_forecast, page.forecasts))
            if not (token := page.next_page_token):
                break
        for forecast in found.values():
            yield forecast

    async def retention_status(self, *, deadline: float | None = None) -> RetentionStatus:
        return wire.retention_status(await self._run(calls.retention_status(), deadline))

    async def run_retention(self, *, dry_run: bool = False, deadline: float | None = None) -> RetentionRuns:
        return wire.retention_runs(await self._run(calls.run_retention(dry_run), deadline))

    async def pause_rebucketing(self, tenant: str, *, deadline: float | None = None) -> bool:
        return (await self._run(calls.pause_rebucketing(tenant), deadline)).unfinished

    async def resume_rebucketing(self, tenant: str, *, deadline: float | None = None) -> bool:
        return (await self._run(calls.resume_rebucketing(tenant), deadline)).unfinished

    async def confirm_clock(self, time: dt.datetime, *, deadline: float | None = None) -> dt.datetime:
        return wire.time((await self._run(calls.confirm_clock(time), deadline)).due_by_time)

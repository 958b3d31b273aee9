"""The calls about legal holds and certificates, for programs with asyncio: a part of `lethe.AsyncVault`; `lethe.Vault`
says what each does."""

from __future__ import annotations

import abc
import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from google.protobuf.message import Message

from . import _core as core
from . import _evidence_calls as evidence
from ._calls import Call
from .evidence import CertificateSummary, Hold, PostponedErasure

_A = TypeVar("_A", bound=Message)


class AsyncEvidenceCalls(core.Base, abc.ABC):
    """What may not be erased, and what shows what was. For privacy officers; auditors read it."""

    @abc.abstractmethod
    async def _run(self, call: Call[_A], deadline: float | None) -> _A: ...

    async def place_hold(
        self, tenant: str, hold: Hold, *, request_id: str | None = None, deadline: float | None = None
    ) -> Hold:
        return evidence.hold((await self._run(evidence.place_hold(tenant, hold, request_id), deadline)).hold)

    async def get_hold(self, name: str, *, deadline: float | None = None) -> Hold:
        return evidence.hold((await self._run(evidence.get_hold(name), deadline)).hold)

    async def list_holds(
        self, tenant: str, *, ended: bool = False, deadline: float | None = None
    ) -> AsyncIterator[Hold]:
        token = ""
        while True:
            page = await self._run(evidence.list_holds(tenant, ended, token), deadline)
            for sent in page.holds:
                yield evidence.hold(sent)
            if not (token := page.next_page_token):
                return

    async def release_hold(self, name: str, note: str, *, deadline: float | None = None) -> Hold:
        return evidence.hold((await self._run(evidence.release_hold(name, note), deadline)).hold)

    async def list_postponed_erasures(
        self, tenant: str, *, deadline: float | None = None
    ) -> AsyncIterator[PostponedErasure]:
        token = ""
        while True:
            page = await self._run(evidence.list_postponed_erasures(tenant, token), deadline)
            for sent in page.postponed:
                yield evidence.postponed_erasure(sent)
            if not (token := page.next_page_token):
                return

    async def certificate(
        self,
        tenant: str,
        *,
        record: str | None = None,
        subject: str | None = None,
        bucket: tuple[str, dt.date] | None = None,
        leaf_index: int | None = None,
        checkpoint_size: int = 0,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        call = evidence.certificate(tenant, record, subject, bucket, leaf_index, checkpoint_size)
        found: dict[str, Any] = json.loads((await self._run(call, deadline)).document)
        return found

    async def list_certificates(
        self,
        tenant: str,
        *,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
        deadline: float | None = None,
    ) -> AsyncIterator[CertificateSummary]:
        token = ""
        while True:
            page = await self._run(evidence.list_certificates(tenant, start, end, token), deadline)
            for sent in page.certificates:
                yield evidence.certificate_summary(sent)
            if not (token := page.next_page_token):
                return

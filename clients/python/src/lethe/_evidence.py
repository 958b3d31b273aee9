"""The calls about legal holds and certificates, for programs with threads: a part of `lethe.Vault`."""

from __future__ import annotations

import abc
import datetime as dt
import json
from collections.abc import Iterator
from typing import Any, TypeVar

from google.protobuf.message import Message

from . import _core as core
from . import _evidence_calls as evidence
from ._calls import Call
from .evidence import CertificateSummary, Hold, PostponedErasure

_A = TypeVar("_A", bound=Message)


class EvidenceCalls(core.Base, abc.ABC):
    """What may not be erased, and what shows what was. For privacy officers; auditors read it."""

    @abc.abstractmethod
    def _run(self, call: Call[_A], deadline: float | None) -> _A: ...

    def place_hold(
        self, tenant: str, hold: Hold, *, request_id: str | None = None, deadline: float | None = None
    ) -> Hold:
        """Keeps a record, a subject with all its records, or what a query reaches from being erased, whoever asks.
        `Erased` if it comes too late. Repeating it with the same `request_id` within a day has no second effect."""
        return evidence.hold(self._run(evidence.place_hold(tenant, hold, request_id), deadline).hold)

    def get_hold(self, name: str, *, deadline: float | None = None) -> Hold:
        """One in force, or one that ended in the last three years."""
        return evidence.hold(self._run(evidence.get_hold(name), deadline).hold)

    def list_holds(self, tenant: str, *, ended: bool = False, deadline: float | None = None) -> Iterator[Hold]:
        """By name; `ended`: also those that ended."""
        token = ""
        while True:
            page = self._run(evidence.list_holds(tenant, ended, token), deadline)
            yield from map(evidence.hold, page.holds)
            if not (token := page.next_page_token):
                return

    def release_hold(self, name: str, note: str, *, deadline: float | None = None) -> Hold:
        """Ends a hold; `note` says why and names no person. What waited for it, and for no other, is then erased. Sent
        once: after `Unavailable`, look whether it ended."""
        return evidence.hold(self._run(evidence.release_hold(name, note), deadline).hold)

    def list_postponed_erasures(self, tenant: str, *, deadline: float | None = None) -> Iterator[PostponedErasure]:
        """What is to be erased as soon as nothing holds it."""
        token = ""
        while True:
            page = self._run(evidence.list_postponed_erasures(tenant, token), deadline)
            yield from map(evidence.postponed_erasure, page.postponed)
            if not (token := page.next_page_token):
                return

    def certificate(
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
        """The certificate of destruction (docs/CERTIFICATES.md) of a record, of a subject, of all records of a type
        that were to be kept until a day (`bucket=("order", date)`), or of the bucket of a leaf of the ledger: exactly
        one. To keep it, write it with `json.dump`; `lethectl verify certificate` checks it without the vault. With
        `checkpoint_size` it is proved to that checkpoint of the ledger."""
        call = evidence.certificate(tenant, record, subject, bucket, leaf_index, checkpoint_size)
        found: dict[str, Any] = json.loads(self._run(call, deadline).document)
        return found

    def list_certificates(
        self,
        tenant: str,
        *,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
        deadline: float | None = None,
    ) -> Iterator[CertificateSummary]:
        """What was erased together, from `start` on and before `end`, in the order in which the buckets were made."""
        token = ""
        while True:
            page = self._run(evidence.list_certificates(tenant, start, end, token), deadline)
            yield from map(evidence.certificate_summary, page.certificates)
            if not (token := page.next_page_token):
                return

"""The calls about retention, for programs with threads: a part of `lethe.Vault`."""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Collection, Iterator
from typing import TypeVar

from google.protobuf.message import Message

from . import _calls as calls
from . import _core as core
from . import _wire as wire
from .retention import RetentionExplanation, RetentionForecast, RetentionPolicy, RetentionRuns, RetentionStatus

_A = TypeVar("_A", bound=Message)


class RetentionCalls(core.Base, abc.ABC):
    """How long records are kept, what will go and when, and what went. Most of it is for privacy officers."""

    @abc.abstractmethod
    def _run(self, call: calls.Call[_A], deadline: float | None) -> _A: ...

    def create_retention_policy(
        self, tenant: str, id: str, policy: RetentionPolicy, *, deadline: float | None = None
    ) -> RetentionPolicy:
        """`id` is the policy's own, such as `customers`. Sent once: after `Unavailable`, look whether it is there."""
        answer = self._run(calls.create_retention_policy(tenant, id, policy), deadline)
        return wire.retention_policy(answer.retention_policy)

    def update_retention_policy(
        self,
        tenant: str,
        id: str,
        policy: RetentionPolicy,
        *,
        mask: Collection[str] | None = None,
        etag: str = "",
        deadline: float | None = None,
    ) -> RetentionPolicy:
        """Replaces a policy; with `mask` only the parts that it names, such as `period`. With `etag` only if it did not
        change since. Sent once."""
        answer = self._run(calls.update_retention_policy(tenant, id, policy, mask, etag), deadline)
        return wire.retention_policy(answer.retention_policy)

    def get_retention_policy(self, tenant: str, id: str, *, deadline: float | None = None) -> RetentionPolicy:
        answer = self._run(calls.get_retention_policy(tenant, id), deadline)
        return wire.retention_policy(answer.retention_policy)

    def list_retention_policies(
        self, tenant: str, *, deadline: float | None = None
    ) -> Iterator[RetentionPolicy]:
        """By name."""
        token = ""
        while True:
            page = self._run(calls.list_retention_policies(tenant, token), deadline)
            yield from map(wire.retention_policy, page.retention_policies)
            if not (token := page.next_page_token):
                return

    def delete_retention_policy(
        self, tenant: str, id: str, *, etag: str = "", deadline: float | None = None
    ) -> None:
        """With `etag` only if it did not change since. Sent once."""
        self._run(calls.delete_retention_policy(tenant, id, etag), deadline)

    def explain_retention(self, name: str, *, deadline: float | None = None) -> RetentionExplanation:
        """What each rule says of a record, and which of them decides. For those who may read the record."""
        return wire.retention_explanation(self._run(calls.explain_retention(name), deadline))

    def preview_retention(
        self, tenant: str, date: dt.date, *, deadline: float | None = None
    ) -> Iterator[RetentionForecast]:
        """What will go by the end of a day (UTC, today or later), and what has no end; changes nothing. All is counted,
        page by page, before the first comes, since parts about one type and day may be pages apart: they are added up.
        `deadline` is for each page."""
        found: dict[tuple[str, dt.date | None], RetentionForecast] = {}
        token = ""
        while True:
            page = self._run(calls.preview_retention(tenant, date, token), deadline)
            core.add_up(found, map(wire.retention_forecast, page.forecasts))
            if not (token := page.next_page_token):
                break
        yield from found.values()

    def retention_status(self, *, deadline: float | None = None) -> RetentionStatus:
        """How sweeps, the clock and the work after changed policies are doing."""
        return wire.retention_status(self._run(calls.retention_status(), deadline))

    def run_retention(self, *, dry_run: bool = False, deadline: float | None = None) -> RetentionRuns:
        """Erases what is due now, of all tenants, without waiting for the next sweep; or only says what would go. Sent
        once, dry or not; made again by hand it erases what is due then."""
        return wire.retention_runs(self._run(calls.run_retention(dry_run), deadline))

    def pause_rebucketing(self, tenant: str, *, deadline: float | None = None) -> bool:
        """Stops bringing a tenant's records to the buckets that changed policies want; whether anything is left to do.
        Nothing goes early meanwhile, but what is to go earlier may go late. Sent once."""
        return self._run(calls.pause_rebucketing(tenant), deadline).unfinished

    def resume_rebucketing(self, tenant: str, *, deadline: float | None = None) -> bool:
        """Goes on with it; whether anything is left to do. Sent once."""
        return self._run(calls.resume_rebucketing(tenant), deadline).unfinished

    def confirm_clock(self, time: dt.datetime, *, deadline: float | None = None) -> dt.datetime:
        """Has the vault believe its clock as it is, if it is no more than a minute from `time`, which somebody read
        from a clock that is right. Answers with what must be due by now to go. Sent once."""
        return wire.time(self._run(calls.confirm_clock(time), deadline).due_by_time)

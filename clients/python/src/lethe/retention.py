"""Retention policies, and what follows from them, as Python values. Nothing here holds the value of a record."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass, field

from .model import Classification, Receipt


class RetentionStart(enum.IntEnum):
    """What a policy's `period` and `minimum` are counted from."""

    UNSPECIFIED = 0
    CREATION = 1
    LAST_USE = 2
    """The last time that an application or support read the record, or changed it."""
    EVENT = 3
    """The date in `event_field`."""


@dataclass(frozen=True)
class RetentionPolicy:
    """A rule on how long records are kept. Durations are ISO 8601, of whole years, months, weeks or days: `P3Y`.

    Of all rules about a record the earliest end counts, unless a `minimum` is later. A record is erased within a
    day after that day, and the grace period, are over in the rule's time zone.
    """

    start: RetentionStart = RetentionStart.UNSPECIFIED
    """The vault creates no policy without one."""
    schemas: tuple[str, ...] = ()
    """Record types that it is about, `tenants/{tenant}/schemas/{type}`; empty: all."""
    classification: Classification = Classification.UNSPECIFIED
    """Only records that hold a value of this class; UNSPECIFIED: of any."""
    purpose: str = ""
    """Only records that hold a value of a field whose `purposes` name this one."""
    event_field: str = ""
    """A DATE field. With EVENT, and only then."""
    period: str = ""
    """From the start: how long the record is kept."""
    grace_period: str = ""
    """How long after the end of `period` or `end_date` the record is erased."""
    end_date: dt.date | None = None
    """Last day, whenever the period ends."""
    minimum: str = ""
    """From the start: not to be erased before. Wins over every end."""
    maximum: str = ""
    """From creation: not to be kept longer."""
    open_ended: bool = False
    """Until its event has come, or if nothing ends it, a record is kept until it is erased by request."""
    time_zone: str = ""
    """IANA name, `Asia/Shanghai`; empty: UTC."""
    legal_basis: str = ""
    """The law or contract that it rests on. Previews count records whose rule names none."""
    description: str = ""
    name: str = ""
    """Output only, as are `etag` and `update_time`: `tenants/{tenant}/retentionPolicies/{policy}`."""
    etag: str = ""
    update_time: dt.datetime | None = field(default=None, compare=False)


class RetentionEffect(enum.IntEnum):
    """What a rule does to a record."""

    UNSPECIFIED = 0
    PERIOD = 1
    """It ends a period after its start."""
    END_DATE = 2
    """It ends on a day."""
    MAXIMUM = 3
    """It may not be kept longer."""
    MINIMUM = 4
    """It may not be erased earlier."""
    OPEN_ENDED = 5
    """It sets no end, or none before its event comes."""


@dataclass(frozen=True)
class RetentionLine:
    """What one rule says of a record."""

    rule: str
    """`tenants/{tenant}/retentionPolicies/{policy}`, or `tenants/{tenant}/schemas/{type}` for the schema's own."""
    effect: RetentionEffect
    end_date: dt.date | None
    """The last day in the rule's time zone, without its grace period; `None` if there is none yet."""
    due_time: dt.datetime | None
    """When that day, and the grace period, is over."""
    decides: bool
    legal_basis: str


@dataclass(frozen=True)
class RetentionExplanation:
    """What each rule says of a record, and what comes of it."""

    expire_date: dt.date | None
    """The day, UTC, after which the record goes by the rules of now; `None` if open-ended."""
    present_expire_date: dt.date | None
    """The day of the bucket that it is in; another one until it is moved there."""
    lines: list[RetentionLine]


@dataclass(frozen=True)
class RetentionForecast:
    """Records of one type that expire on one day."""

    schema: str
    """`tenants/{tenant}/schemas/{type}`"""
    expire_date: dt.date | None
    """UTC; `None` if open-ended."""
    record_count: int
    staying_count: int
    """Of these, records that the rules of now want to keep longer: they move out before the day is over."""
    held_count: int
    """Of these, records under a legal hold: they move out too."""
    without_basis_count: int
    """Of these, records whose deciding rule names no legal basis."""
    damaged_count: int
    """Of these, records that do not open."""

    def __add__(self, more: RetentionForecast) -> RetentionForecast:
        """This part and another one about the same type and day."""
        return RetentionForecast(
            self.schema,
            self.expire_date,
            self.record_count + more.record_count,
            self.staying_count + more.staying_count,
            self.held_count + more.held_count,
            self.without_basis_count + more.without_basis_count,
            self.damaged_count + more.damaged_count,
        )


class ClockState(enum.IntEnum):
    """How the wall clock compares with the vault's own count of time."""

    UNSPECIFIED = 0
    SOUND = 1
    """They agree."""
    AHEAD = 2
    """The wall clock was set forward; the vault goes by its own count."""
    BEHIND = 3
    """The wall clock was set back; nothing is due before it says so too."""
    UNCONFIRMED = 4
    """After a restart of the machine the wall clock is so far ahead that `confirm_clock` must say that it is right."""


@dataclass(frozen=True)
class RebucketingState:
    """The way of a type's records to the buckets that changed rules want."""

    schema: str
    """`tenants/{tenant}/schemas/{type}`"""
    percent: int
    """How much is done, 0 to 99."""
    paused: bool


@dataclass(frozen=True)
class RetentionStatus:
    """How sweeps, the clock and the work after changed policies are doing."""

    due_by_time: dt.datetime
    """What must be due by now to go."""
    clock_state: ClockState
    last_sweep_time: dt.datetime | None
    """`None` before the first."""
    sweep_interval: dt.timedelta
    due_bucket_count: int
    """Buckets that are due and not erased yet."""
    closed_bucket_count: int
    closed_record_count: int
    """Records that will go with the closed buckets."""
    erased_bucket_count: int
    """Since the start of the vault, as is `erased_record_count`."""
    erased_record_count: int
    lateness_p50: dt.timedelta
    """How late buckets went, the median; zero if none went yet."""
    lateness_p99: dt.timedelta
    rebucketing: list[RebucketingState]
    hold_count: int
    """Legal holds in force."""
    postponed_erasure_count: int
    """Erasures that wait for holds to end."""


@dataclass(frozen=True)
class RetentionRun:
    """The records of one type and day that went, or would go."""

    schema: str
    """`tenants/{tenant}/schemas/{type}`"""
    expire_date: dt.date | None
    record_count: int
    staying_count: int
    """Of a dry run: records that would move out before."""
    receipt: Receipt | None
    """`None` in a dry run."""


@dataclass(frozen=True)
class RetentionRuns:
    """What a run erased, or would erase."""

    runs: list[RetentionRun]
    failed_bucket_count: int
    """Buckets that are due and could not be erased; the log of the daemon says why."""

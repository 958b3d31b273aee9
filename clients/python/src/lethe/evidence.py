"""Legal holds, the erasures that wait for them, and what there are certificates for, as Python values."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from .model import Fields, Level, Reason, Value


class HoldReader(enum.IntEnum):
    """Whom a hold lets read what is only kept because of it."""

    UNSPECIFIED = 0
    APPLICATION = 1
    SUPPORT = 2
    PRIVACY_OFFICER = 3


@dataclass(frozen=True)
class HoldQuery:
    """Records of one type by the values of their fields. It is printed without values."""

    schema: str
    """`tenants/{tenant}/schemas/{type}`"""
    fields: Mapping[str, Value] = field(default_factory=dict)
    """A record is reached if it has all of these values, at most 8; none: every record of the type. In answers they are
    masked as records are, a value that cannot be shown is empty, and a date is a text."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", Fields(self.fields))


@dataclass(frozen=True)
class Hold:
    """A legal hold: what it keeps is not erased before it ends. It keeps one of `record`, `subject` and `query`."""

    reason: str
    """Why; required. Name no person here."""
    record: str = ""
    subject: str = ""
    """The subject, and every record about it."""
    query: HoldQuery | None = None
    """Judged when the hold is placed and at every put: what it reached once stays held."""
    issuer: str = ""
    """Who ordered it: a court, say."""
    reference: str = ""
    """A file number, say."""
    expire_time: dt.datetime | None = None
    """The hold ends by itself at this time; `None`: when it is released."""
    readers: tuple[HoldReader, ...] = ()
    """Empty: PRIVACY_OFFICER. What a reader may read at all, the policy says."""
    name: str = ""
    """Output only, as is all that follows: `tenants/{tenant}/holds/{uuid}`."""
    create_time: dt.datetime | None = field(default=None, compare=False)
    creator: str = ""
    """The identity that placed it."""
    end_time: dt.datetime | None = None
    """`None` while it is in force."""
    releaser: str = ""
    """The identity that released it; empty if its time was over."""
    release_note: str = ""


@dataclass(frozen=True)
class PostponedErasure:
    """An erasure that was asked for and waits until nothing is held any more."""

    name: str
    """A record or a subject."""
    reason: Reason
    request_time: dt.datetime
    """When it was first asked for."""
    holds: list[str]
    """The holds in force that keep it; empty for a subject that waits for its records."""


@dataclass(frozen=True)
class CertificateSummary:
    """Records of one type and day that were erased together; `Vault.certificate(tenant, leaf_index=...)` gives the
    certificate."""

    leaf_index: int
    """Position of its leaf in the erasure ledger."""
    schema: str
    """`tenants/{tenant}/schemas/{type}`"""
    expire_date: dt.date | None
    record_count: int
    reason: Reason
    level: Level
    request_time: dt.datetime
    """When it was asked for; of what retention did, when it was due."""
    erase_time: dt.datetime
    generation: int

"""What the vault keeps, as Python values. Nothing here prints the value of a field."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Union

Value = Union[str, int, float, bool, bytes, dt.date]
"""TEXT, EMAIL, PHONE and the like are `str`; DATE is `datetime.date`; NUMBER is `float` (give 3.0, not 3)."""


class Fields(Mapping[str, Value]):
    """The fields of a record: a read-only mapping whose printed form has names only."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Value] | Iterable[tuple[str, Value]] = ()) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Fields({', '.join(sorted(map(str, self._values)))})"


@dataclass(frozen=True)
class Record:
    """The fields of one type about one subject."""

    name: str
    """`tenants/{tenant}/records/{uuid}`"""
    schema: str
    """`tenants/{tenant}/schemas/{type}`"""
    subject: str
    """`tenants/{tenant}/subjects/{uuid}`"""
    fields: Fields
    etag: str
    create_time: dt.datetime
    update_time: dt.datetime
    expire_date: dt.date | None
    """The day, UTC, by which it must be gone; `None` if open-ended."""

    def __getitem__(self, name: str) -> Value:
        return self.fields[name]

    @property
    def type(self) -> str:
        """The record type, the last part of `schema`."""
        return self.schema.rpartition("/")[2]


@dataclass(frozen=True)
class NewRecord:
    """A record to create in a batch or an import."""

    type: str
    fields: Mapping[str, Value]
    subject: str = ""
    """Empty: the vault issues a new one."""
    request_id: str = ""
    """Empty: the client makes one. Not used by imports, which have an id of their own."""

    def __post_init__(self) -> None:
        # Whatever mapping the caller had, it is printed without values from here on.
        object.__setattr__(self, "fields", Fields(self.fields))


@dataclass(frozen=True)
class RecordPage:
    """A page of a list or a part of an export."""

    records: list[Record]
    next_page_token: str
    """Empty on the last page."""
    damaged_names: list[str]
    """Records that are there but do not open: restore or erase them."""


@dataclass(frozen=True)
class Found:
    """The records that hold a value."""

    records: list[Record]
    incomplete: bool
    """Records of this type do not open; they may or may not have the value."""


@dataclass(frozen=True)
class ImportFailure:
    """Why one record of an import was refused. Holds no value."""

    index: int
    code: int
    """A `google.rpc.Code`, such as 3 (INVALID_ARGUMENT) or 6 (ALREADY_EXISTS)."""
    violations: list[tuple[str, str]]
    """(field, description)"""


@dataclass(frozen=True)
class ImportedChunk:
    """What became of one chunk of an import."""

    first_index: int
    next_index: int
    """Everything before it is on disk or was refused. Keep it: `done` of a continued import."""
    names: list[str]
    """One for each record; empty where it was refused."""
    failures: list[ImportFailure]


class ChangeKind(enum.IntEnum):
    """What happened to a record."""

    UNSPECIFIED = 0
    CREATED = 1
    UPDATED = 2
    ERASED = 3
    BUCKET_ERASED = 4


@dataclass(frozen=True)
class Change:
    """One change of a tenant."""

    kind: ChangeKind
    name: str
    """Of the record or subject; empty for a bucket."""
    schema: str
    expire_date: dt.date | None
    time: dt.datetime


@dataclass(frozen=True)
class Tenant:
    """A data controller."""

    name: str
    display_name: str
    create_time: dt.datetime
    etag: str = ""


@dataclass(frozen=True)
class Subject:
    """A person."""

    name: str
    create_time: dt.datetime


class Classification(enum.IntEnum):
    """How sensitive a field is."""

    UNSPECIFIED = 0
    PUBLIC = 1
    GENERAL = 2
    SENSITIVE = 3


class Kind(enum.IntEnum):
    """What a field holds and how it is checked."""

    UNSPECIFIED = 0
    TEXT = 1
    INTEGER = 2
    NUMBER = 3
    BOOLEAN = 4
    DATE = 5
    BYTES = 6
    EMAIL = 7
    PHONE = 8
    RESIDENT_ID = 9
    USCC = 10
    POSTAL_CODE = 11


class Mask(enum.IntEnum):
    """How a value is shown to a reader without the clear right."""

    UNSPECIFIED = 0
    FULL = 1
    NAME = 2
    PHONE = 3
    EMAIL = 4
    ID = 5
    ADDRESS = 6
    CARD = 7


@dataclass(frozen=True)
class Field:
    """One field of a schema."""

    name: str
    kind: Kind
    classification: Classification = Classification.SENSITIVE
    required: bool = False
    unique: bool = False
    indexed: bool = False
    max_bytes: int = 0
    """Of TEXT and BYTES; 0 means 4096. An indexed one needs 1 to 1024."""
    mask: Mask = Mask.UNSPECIFIED
    purposes: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class Schema:
    """The shape of a record type."""

    fields: tuple[Field, ...]
    retain_for: str | None = None
    """ISO 8601 duration of whole years, months, weeks or days, `P3Y`; `None`: kept until erased by request."""
    erase_old_versions_synchronously: bool = False
    name: str = ""
    """Output only, as are `revision` and `update_time`."""
    revision: int = 0
    update_time: dt.datetime | None = field(default=None, compare=False)


class Level(enum.IntEnum):
    """How far an erasure has got."""

    UNSPECIFIED = 0
    E0_TOMBSTONED = 1
    E1_LOCAL_ANCHOR_SCRUBBED = 2
    E2_ALL_ANCHORS_SCRUBBED = 3
    E3_CIPHERTEXT_COLLECTED = 4


class Reason(enum.IntEnum):
    """Why something was erased. Callers give SUBJECT_REQUEST, RETENTION or CONTRACT; the others are the vault's."""

    UNSPECIFIED = 0
    SUBJECT_REQUEST = 1
    RETENTION = 2
    SUPERSEDED = 3
    CONTRACT = 4
    UNACKNOWLEDGED = 5
    MOVED = 6


@dataclass(frozen=True)
class Receipt:
    """The signed evidence of one erasure. Holds no personal data; keep it."""

    name: str
    level: Level
    reason: Reason
    generation: int
    leaf_index: int
    request_time: dt.datetime
    erase_time: dt.datetime
    signed_bytes: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    public_key: bytes = field(repr=False)
    """Trust it only if you know it from elsewhere."""
    caveat: str


@dataclass(frozen=True)
class SubjectErasure:
    """The receipts of a subject's erasure."""

    receipt: Receipt
    """The subject's own."""
    record_receipts: list[Receipt]
    """One for each of its records. An erasure that is repeated has none: erase each record again for its receipt."""


class AuditKind(enum.IntEnum):
    """What kind of thing an entry of the audit log tells."""

    UNSPECIFIED = 0
    CALL = 1
    """A call that was answered."""
    REFUSALS = 2
    """Calls of one principal that were refused or failed, counted over about a minute."""
    GAP = 3
    """The vault was not stopped cleanly: calls answered shortly before may lack their entries."""
    VAULT = 4
    """Something that the vault did of itself: it was opened, or stopped."""
    UNREADABLE = 5
    """Missing or damaged: only the index is known."""


@dataclass(frozen=True)
class AuditMember:
    """A subject and one of its records, by pseudonyms that are destroyed with them."""

    subject: bytes
    """16 bytes; zeros if the record did not open."""
    record: bytes
    """16 bytes; zeros for the subject itself."""


@dataclass(frozen=True)
class AuditEntry:
    """Who did what, and when. Holds no value of a record."""

    index: int
    """Its place in the log, from 0."""
    kind: AuditKind
    method: str
    """`GetRecord`, …; `Open` and `Close` of the vault itself; `Other` where the method is not known."""
    code: int
    """gRPC's status code; 0 of calls that were answered."""
    create_time: dt.datetime
    start_time: dt.datetime | None
    """Of refusals the first one's; of a gap its earliest beginning, `None` if that is not known."""
    principal: str
    """URI of the caller's certificate; its hash in hex if the name is not kept; empty for the vault itself."""
    role: str
    tenant: str
    """`tenants/{tenant}`; empty if it was about none."""
    schema: str
    """`tenants/{tenant}/schemas/{type}`; empty if it was about none, about several, or about subjects alone."""
    clear: tuple[Classification, ...]
    """Classes of fields that the caller saw in clear."""
    masked: tuple[Classification, ...]
    """Classes of fields that the caller saw masked."""
    purpose: str
    """Empty if it was not said; its hash in hex if no schema names it any more."""
    total: int
    """Records and subjects that the call was about, or refused calls."""
    part: int
    """An entry with many members has several parts under indexes that follow each other; the first is 0."""
    members: tuple[AuditMember, ...]
    """Those of this part."""
    generation: int
    """Of an erasure, a rotation, an opening: the anchor's generation."""
    leaf: bytes = field(repr=False)
    """The entry as the signed tree over the log has it."""


@dataclass(frozen=True)
class AuditPage:
    """A page of the audit log, the newest entry first."""

    entries: list[AuditEntry]
    """Fewer than asked for, or none, also where more follow."""
    next_page_token: str
    """Empty on the last page."""


@dataclass(frozen=True)
class AuditHead:
    """How many entries the audit log has and the root of the tree over them, signed. Keep it where the vault's
    operators cannot write."""

    vault_id: str
    size: int
    root: bytes
    generation: int
    """The anchor's generation that bound them."""
    create_time: dt.datetime
    signed_bytes: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    public_key: bytes = field(repr=False)
    """Trust it only if you know it from elsewhere."""


class Log(enum.IntEnum):
    """One of the vault's two logs."""

    LEDGER = 1
    """What was erased, and how far."""
    AUDIT = 2
    """Who did what."""


@dataclass(frozen=True)
class Checkpoint:
    """Size and root of a log, signed; `lethe.logs.verify_checkpoint` checks it. Keep it where the vault's operators
    cannot write."""

    note: str
    """A signed note of C2SP tlog-checkpoint, with the cosignatures of this very checkpoint."""
    size: int
    root: bytes
    cosigned: list[str]
    """The notes of checkpoints that witnesses have cosigned, the largest first."""
    verifier_key: str
    """Trust it only if you know it from elsewhere."""


@dataclass(frozen=True)
class InclusionProof:
    """That the tree of `size` entries has this entry."""

    index: int
    leaf: bytes = field(repr=False)
    hashes: list[bytes] = field(repr=False)
    size: int
    root: bytes
    checkpoint: str = field(repr=False)
    """Of the tree that the anchor has bound its signed checkpoint; else empty."""


@dataclass(frozen=True)
class ConsistencyProof:
    """That the tree of `size` entries begins with that of `old_size`."""

    old_size: int
    old_root: bytes
    hashes: list[bytes] = field(repr=False)
    size: int
    root: bytes
    checkpoint: str = field(repr=False)
    """Of the tree that the anchor has bound its signed checkpoint; else empty."""


@dataclass(frozen=True)
class VaultStatus:
    """The vault's state, as far as clients need it."""

    vault_id: str
    version: str
    public_key: bytes
    """Checks the vault's receipts. Keep it apart from them."""
    advertised_level: Level
    warnings: list[str]

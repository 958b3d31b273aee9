"""Checking receipts without the vault (docs/FORMAT.md, section 7). Needs `pip install 'lethe-vault[receipts]'`.

Only the key that the caller gives is trusted, never the one in the receipt; what the receipt says beside its signed
bytes must agree with them.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from ._proof import Unproven as Unproven
from ._proof import check_claims, check_signature
from ._proof import moment as _time
from .model import Level, Reason, Receipt

_LAYOUT = struct.Struct(">3s16s 4sBBBBQQI16s32s10s32sqqI32s32s6s BBq")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VERSION, _BUCKET = 1, 4
_VERSIONS_MAX = 100_000
"""Versions of a record that are tried when its name is checked against the signed hash."""


@dataclass(frozen=True)
class Proof:
    """What the signed bytes say."""

    name: str
    version: int | None
    """The version of the record that was erased; `None` for a bucket, whose type and day are not signed."""
    vault_id: str
    level: Level
    reason: Reason
    generation: int
    leaf_index: int
    requested: dt.datetime
    removed: dt.datetime
    scrubbed: dt.datetime


def verify(receipt: Receipt, public_key: bytes) -> Proof:
    """What is proven; raises `Unproven` otherwise. `public_key` is from `status().public_key`, kept since before."""
    check_signature(receipt.signed_bytes, receipt.signature, public_key)
    if len(receipt.signed_bytes) != _LAYOUT.size:
        raise Unproven("the signed bytes are not a receipt")
    (tag, vault, magic, kind, reason, _, _, seq, generation, _, _, unit, kid, _, requested, removed, _, _, _, rest,
     level, _, scrubbed) = _LAYOUT.unpack(receipt.signed_bytes)  # fmt: skip
    if (tag, magic, rest) != (b"VE1", b"LTL1", bytes(6)):
        raise Unproven("the signed bytes are not a receipt")
    # On the wire 0 stands for no level at all, so levels are one higher there.
    claims = {
        "level": receipt.level == level + 1,
        "reason": receipt.reason == reason,
        "generation": receipt.generation == generation,
        "leaf_index": receipt.leaf_index == seq,
        "request_time": receipt.request_time == _time(requested),
        "erase_time": receipt.erase_time == _time(scrubbed),
    }
    check_claims(claims)
    return Proof(
        name=receipt.name,
        version=_bound(receipt.name, kind, vault, kid, unit),
        vault_id=vault.hex(),
        level=receipt.level,
        reason=receipt.reason,
        generation=generation,
        leaf_index=seq,
        requested=_time(requested),
        removed=_time(removed),
        scrubbed=_time(scrubbed),
    )


def _bound(name: str, kind: int, vault: bytes, kid: bytes, unit: bytes) -> int | None:
    """Finds what the signed hash is of. A key id begins with the tenant's and the bucket's number."""
    tenant, bucket = kid[0:3], kid[3:6]
    if kind == _BUCKET and hashlib.sha256(b"VB1" + vault + tenant + bucket).digest() == unit:
        return None
    last = name.rpartition("/")[2]
    if kind == _VERSION and _UUID.fullmatch(last):
        # The version is in the hash only: the few that there can be are tried.
        begun = hashlib.sha256(b"VU1" + vault + tenant + bytes.fromhex(last.replace("-", "")))
        for version in range(1, _VERSIONS_MAX + 1):
            whole = begun.copy()
            whole.update(version.to_bytes(8, "big"))
            if whole.digest() == unit:
                return version
    raise Unproven("the name is not what was signed")


def dump(receipts: Iterable[Receipt]) -> str:
    """JSON as `lethectl receipt verify` reads it."""
    return json.dumps({"receipts": [_saved(r) for r in receipts]}, indent=2)


def _saved(r: Receipt) -> dict[str, object]:
    return {
        "name": r.name,
        "level": r.level.name,
        "reason": r.reason.name,
        "generation": r.generation,
        "leaf_index": r.leaf_index,
        "request_time": r.request_time.isoformat(),
        "erase_time": r.erase_time.isoformat(),
        "caveat": r.caveat,
        "signed_bytes": base64.b64encode(r.signed_bytes).decode(),
        "signature": base64.b64encode(r.signature).decode(),
        "public_key": base64.b64encode(r.public_key).decode(),
    }


def load(text: str) -> list[Receipt]:
    """Receipts that were saved by `dump` or by `lethectl`."""
    found: list[Receipt] | None
    try:
        found = [_loaded(r) for r in json.loads(text)["receipts"]]
    except (KeyError, TypeError, ValueError):
        found = None
    if found is None:
        raise Unproven("this is not a file of receipts")
    return found


def _loaded(r: dict[str, str | int]) -> Receipt:
    def moment(name: str) -> dt.datetime:
        # `lethectl` writes as many digits of a second as there are; Python before 3.11 reads just three or six.
        whole, _, fraction = str(r[name]).replace("+00:00", "Z").rstrip("Z").partition(".")
        return dt.datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00")

    return Receipt(
        name=str(r["name"]),
        level=Level[str(r["level"])],
        reason=Reason[str(r["reason"])],
        generation=int(r["generation"]),
        leaf_index=int(r["leaf_index"]),
        request_time=moment("request_time"),
        erase_time=moment("erase_time"),
        signed_bytes=base64.b64decode(str(r["signed_bytes"]), validate=True),
        signature=base64.b64decode(str(r["signature"]), validate=True),
        public_key=base64.b64decode(str(r["public_key"]), validate=True),
        caveat=str(r["caveat"]),
    )

"""Checking checkpoints and proofs of the vault's logs without the vault (docs/FORMAT.md, section 10). Needs
`pip install 'lethe-vault[receipts]'`.

Only the key that the caller gives is trusted. `lethectl log` also exports and verifies whole logs, and cosigns.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ._proof import Unproven as Unproven
from ._proof import check_signature
from .model import ConsistencyProof, InclusionProof, Log

_NAMES = {"ledger": Log.LEDGER, "audit": Log.AUDIT}


@dataclass(frozen=True)
class Head:
    """What a checkpoint says."""

    vault_id: str
    log: Log
    size: int
    root: bytes


def verify_checkpoint(note: str, public_key: bytes) -> Head:
    """What the checkpoint says, if the holder of `public_key` signed it; raises `Unproven` otherwise. `public_key` is
    from `status().public_key`, kept since before."""
    text, found, lines = note.rpartition("\n\n")
    head = _head(text + "\n") if found else None
    if head is None:
        raise Unproven("it is not a checkpoint of a vault's log")
    origin = text.partition("\n")[0]
    name = hashlib.sha256(origin.encode() + b"\n\x01" + public_key).digest()[:4]
    for line in lines.splitlines():
        dash, _, rest = line.partition(" ")
        whose, _, encoded = rest.partition(" ")
        signature = _decoded(encoded)
        if dash == "—" and whose == origin and signature is not None and signature[:4] == name:
            check_signature((text + "\n").encode(), signature[4:], public_key)
            return head
    raise Unproven("it is not signed by the holder of this public key")


def verify_inclusion(proof: InclusionProof, head: Head) -> None:
    """Raises `Unproven` unless the tree of `head` has the entry of `proof` at its index."""
    if proof.index >= head.size:
        raise Unproven("the tree has no such entry")
    at, last, node = proof.index, head.size - 1, _hash(b"\x00", proof.leaf)
    for beside in _proven(proof.hashes):
        if last == 0:
            raise Unproven("the proof is too long")
        if at & 1 or at == last:
            node = _hash(b"\x01", beside, node)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = _hash(b"\x01", node, beside)
        at, last = at >> 1, last >> 1
    if last or node != head.root:
        raise Unproven("the proof does not lead to the root of the tree")


def verify_consistency(proof: ConsistencyProof, old: Head, new: Head) -> None:
    """Raises `Unproven` unless the tree of `new` begins with that of `old`."""
    if (old.vault_id, old.log) != (new.vault_id, new.log) or old.size > new.size:
        raise Unproven("the one is not of the same log as the other, or is the later one")
    hashes = _proven(proof.hashes)
    if old.size in (0, new.size):
        if hashes or old.root != (new.root if old.size else hashlib.sha256(b"").digest()):
            raise Unproven("the log was rewritten, or the proof is too long")
        return
    if old.size & (old.size - 1) == 0:
        hashes.insert(0, old.root)
    if not hashes:
        raise Unproven("the proof is too short")
    at, last = old.size - 1, new.size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    of_old = of_new = hashes[0]
    for beside in hashes[1:]:
        if last == 0:
            raise Unproven("the proof is too long")
        if at & 1 or at == last:
            of_old, of_new = _hash(b"\x01", beside, of_old), _hash(b"\x01", beside, of_new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            of_new = _hash(b"\x01", of_new, beside)
        at, last = at >> 1, last >> 1
    if last or (of_old, of_new) != (old.root, new.root):
        raise Unproven("the proof does not lead from the one root to the other: the log was rewritten")


def _head(text: str) -> Head | None:
    """Only the one spelling that the vault has for it."""
    lines = text.split("\n")
    parts = lines[0].split("/")
    if len(lines) != 4 or len(parts) != 3 or parts[2] not in _NAMES or not lines[1].isdigit():
        return None
    root = _decoded(lines[2])
    if root is None or len(root) != 32:
        return None
    said = f"lethe/{parts[1]}/{parts[2]}\n{int(lines[1])}\n{base64.b64encode(root).decode()}\n"
    return Head(parts[1], _NAMES[parts[2]], int(lines[1]), root) if said == text else None


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _proven(hashes: Sequence[bytes]) -> list[bytes]:
    if len(hashes) > 65 or any(len(h) != 32 for h in hashes):
        raise Unproven("the proof is not made of hashes of 32 bytes")
    return list(hashes)


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()

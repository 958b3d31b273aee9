"""Checking the audit log without the vault (docs/FORMAT.md, section 9). Needs `pip install 'lethe-vault[receipts]'`.

Only the key that the caller gives is trusted, never the one in the head. Of an entry its place and its leaf are
checked; `lethectl audit verify` also checks what is said beside the leaf.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from ._proof import Unproven as Unproven
from ._proof import check_claims, check_signature, moment
from .model import AuditEntry, AuditHead

_HEAD = struct.Struct(">3s16sQ32sQq")
_LEAF_BEGIN = struct.Struct(">4sBHBQ")


def verify_head(head: AuditHead, public_key: bytes) -> None:
    """Raises `Unproven` unless the holder of `public_key` signed this head."""
    check_signature(head.signed_bytes, head.signature, public_key)
    if len(head.signed_bytes) != _HEAD.size:
        raise Unproven("the signed bytes are not a head of an audit log")
    tag, vault, size, root, generation, at = _HEAD.unpack(head.signed_bytes)
    if tag != b"VD1":
        raise Unproven("the signed bytes are not a head of an audit log")
    check_claims(
        {
            "vault_id": head.vault_id == vault.hex(),
            "size": head.size == size,
            "root": head.root == root,
            "generation": head.generation == generation,
            "create_time": head.create_time == moment(at),
        }
    )


def verify(head: AuditHead, entries: Iterable[AuditEntry], public_key: bytes) -> None:
    """Raises `Unproven` unless these are the entries of this head, all of them from index 0 on. Later ones are not
    looked at."""
    verify_head(head, public_key)
    tree = _Tree()
    for entry in entries:
        if tree.size == head.size:
            break
        begin = entry.leaf[: _LEAF_BEGIN.size]
        if entry.index != tree.size or len(begin) < _LEAF_BEGIN.size or _LEAF_BEGIN.unpack(begin)[4] != tree.size:
            raise Unproven(f"what came for entry {tree.size} is not that entry")
        tree.push(entry.leaf)
    if (tree.size, tree.root()) != (head.size, head.root):
        raise Unproven("the entries are not those of the signed head")


class _Tree:
    """RFC 9162, section 2.1: the roots of the perfect subtrees so far, the largest first."""

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def push(self, leaf: bytes) -> None:
        node, full = hashlib.sha256(b"\x00" + leaf).digest(), self.size
        while full & 1:
            node, full = _parent(self._roots.pop(), node), full >> 1
        self._roots.append(node)
        self.size += 1

    def root(self) -> bytes:
        if not self._roots:
            return hashlib.sha256(b"").digest()
        *left, root = self._roots
        for one in reversed(left):
            root = _parent(one, root)
        return root


def _parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()

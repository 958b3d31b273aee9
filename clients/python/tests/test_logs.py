"""Checkpoints and proofs of logs: true ones hold, and each way to spoil one is noticed."""

import base64
import dataclasses
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lethe import ConsistencyProof, InclusionProof, InvalidArgument, Log, logs
from lethe import _calls as calls

VECTORS = Path(__file__).parents[3] / "tests/golden/tlog.txt"
PUBLIC = Ed25519PrivateKey.from_private_bytes(bytes([3]) * 32).public_key().public_bytes_raw()


def leaf(n):
    return str(n).encode()


def mth(start, end):
    """RFC 9162, section 2.1.1."""
    if end - start == 0:
        return hashlib.sha256(b"").digest()
    if end - start == 1:
        return hashlib.sha256(b"\0" + leaf(start)).digest()
    k = split(end - start)
    return hashlib.sha256(b"\1" + mth(start, start + k) + mth(start + k, end)).digest()


def split(n):
    return 1 << (n - 1).bit_length() - 1


def path(m, start, end):
    if end - start == 1:
        return []
    k = start + split(end - start)
    return [*path(m, start, k), mth(k, end)] if m < k else [*path(m, k, end), mth(start, k)]


def subproof(m, start, end, whole):
    if m == end - start:
        return [] if whole else [mth(start, end)]
    k = split(end - start)
    if m <= k:
        return [*subproof(m, start, start + k, whole), mth(start + k, end)]
    return [*subproof(m - k, start + k, end, False), mth(start, start + k)]


def head(size):
    return logs.Head("05" * 16, Log.LEDGER, size, mth(0, size))


def spoilt(hashes):
    for at in range(len(hashes)):
        yield [*hashes[:at], bytes([hashes[at][0] ^ 1]) + hashes[at][1:], *hashes[at + 1 :]]
        yield [*hashes[:at], *hashes[at + 1 :]]
        yield [*hashes[:at], hashes[at][:31], *hashes[at + 1 :]]
    yield [*hashes, bytes(32)]


def refuse(what, *args):
    with pytest.raises(logs.Unproven):
        what(*args)


def test_proofs_of_small_trees_hold_and_no_others():
    for size in range(1, 20):
        for index in range(size):
            proof = InclusionProof(index, leaf(index), path(index, 0, size), size, b"", "")
            logs.verify_inclusion(proof, head(size))
            refuse(logs.verify_inclusion, dataclasses.replace(proof, leaf=b"x"), head(size))
            refuse(logs.verify_inclusion, dataclasses.replace(proof, index=size), head(size))
            for hashes in spoilt(proof.hashes):
                refuse(logs.verify_inclusion, dataclasses.replace(proof, hashes=hashes), head(size))
        for old in range(size + 1):
            hashes = subproof(old, 0, size, True) if old else []
            proof = ConsistencyProof(old, b"", hashes, size, b"", "")
            logs.verify_consistency(proof, head(old), head(size))
            refuse(logs.verify_consistency, proof, dataclasses.replace(head(old), root=bytes(32)), head(size))
            refuse(logs.verify_consistency, proof, dataclasses.replace(head(old), log=Log.AUDIT), head(size))
            if old:
                refuse(logs.verify_consistency, proof, head(old), dataclasses.replace(head(size), root=bytes(32)))
            for hashes in spoilt(proof.hashes):
                refuse(logs.verify_consistency, dataclasses.replace(proof, hashes=hashes), head(old), head(size))


def test_checkpoints_of_another_implementation_hold_and_no_others():
    notes = [line.split(" ")[2] for line in VECTORS.read_text().splitlines() if line.startswith("note ")]
    assert len(notes) == 2
    for note, log in zip(notes, (Log.LEDGER, Log.AUDIT), strict=True):
        note = base64.b64decode(note).decode()
        told = logs.verify_checkpoint(note, PUBLIC)
        assert told == logs.Head("05" * 16, log, 300, mth(0, 300))
        logs.verify_checkpoint(note + "— witness AAAAAAA=\n", PUBLIC)
        refuse(logs.verify_checkpoint, note, bytes(32))
        for old, new in (
            ("\n300\n", "\n301\n"),
            ("\n300\n", "\n0300\n"),
            ("\n300\n", "\n٣\n"),
            ("lethe/", "Lethe/"),
            ("/05", "/06"),
            (told.log.name.lower(), "store"),
            ("\n\n", "\nmore\n\n"),
            ("— ", "- "),
            ("\n\n", "\n"),
        ):
            refuse(logs.verify_checkpoint, note.replace(old, new), PUBLIC)
        for at in range(0, len(note), 7):
            other = note[:at] + chr(ord(note[at]) ^ 1) + note[at + 1 :]
            refuse(logs.verify_checkpoint, other, PUBLIC)


def test_a_log_that_is_none_and_a_place_that_is_none_are_refused_before_anything_is_sent():
    for make in (
        lambda: calls.checkpoint(3, False),
        lambda: calls.inclusion_proof(Log.LEDGER, -1, 0),
        lambda: calls.inclusion_proof(Log.LEDGER, 0, 1 << 64),
        lambda: calls.consistency_proof(Log.AUDIT, -1, 0),
    ):
        with pytest.raises(InvalidArgument):
            make()

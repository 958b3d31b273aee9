#!/usr/bin/env python3
"""Checks a certificate of destruction by docs/CERTIFICATES.md alone: no vault, no code of the vault.

    pip install cryptography
    tests/python/certificate.py CERTIFICATE.json CHECKPOINT PUBLIC-KEY-IN-HEX

Both are proved to one tree: get the certificate with `--checkpoint`. Exit code 0 only if everything holds.
"""

import base64
import hashlib
import json
import pathlib
import struct
import sys
import uuid
from datetime import datetime, timedelta, timezone

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

REASONS = {1: "SUBJECT_REQUEST", 2: "RETENTION", 3: "SUPERSEDED", 4: "CONTRACT", 5: "UNACKNOWLEDGED", 6: "MOVED"}
LEVELS = ["E0_TOMBSTONED", "E1_LOCAL_ANCHOR_SCRUBBED", "E2_ALL_ANCHORS_SCRUBBED", "E3_CIPHERTEXT_COLLECTED"]
MEDIA = {1: "OVERWRITES_IN_PLACE", 2: "MAY_KEEP_OLD_BLOCKS"}
SHAPE = {
    "": "facts statement signature leaves level_leaf membership checkpoint",
    "facts": "format vault destroyed erasure basis asked_by approved_by backups issued sources not_covered",
    "vault": "name public_key",
    "destroyed": "kind name record_type version expire_date records leaves",
    "erasure": "generation reason due requested removed completed level medium level_leaf",
    "basis": "text rules",
    "asked_by": "kind name call",
    "approved_by": "required by text",
    "backups": "inside_window text",
    "sources": "proved_by_ledger stated_by_vault",
}


class Refused(Exception):
    pass


def need(holds, why):
    if not holds:
        raise Refused(why)


def unique(pairs):
    need(len({k for k, _ in pairs}) == len(pairs), "a field is given twice")
    return dict(pairs)


def shaped(value, name):
    need(isinstance(value, dict) and set(value) == set(SHAPE[name].split()), f"fields of {name or 'the file'}")
    return value


def b64(text):
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Refused("base64") from error
    need(base64.b64encode(raw).decode() == text, "base64")
    return raw


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def moment(millis):
    at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=millis)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{millis % 1000:03d}Z"


def signed_by(key, message, signature):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except InvalidSignature:
        return False


def checkpoint(note, key):
    """Origin, size and root of a signed note (C2SP signed-note, tlog-checkpoint)."""
    text, _, lines = note.partition("\n\n")
    parts = (text + "\n").split("\n")
    need(len(parts) == 4 and parts[1].isascii() and parts[1].isdigit() and str(int(parts[1])) == parts[1], "checkpoint")
    origin, size, root = parts[0], int(parts[1]), b64(parts[2])
    need(origin.startswith("lethe/") and origin.endswith("/ledger") and len(root) == 32, "checkpoint")
    ident = sha(origin.encode(), b"\n\x01", key)[:4]
    for line in lines.split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, raw = rest.partition(" ")
        if dash == "\u2014" and name == origin and b64(raw)[:4] == ident:
            need(signed_by(key, (text + "\n").encode(), b64(raw)[4:]), "the checkpoint's signature")
            return origin, size, root
    raise Refused("the checkpoint is not signed by this key")


def included(leaf, index, size, root, path):
    """RFC 9162 §2.1.3.2."""
    need(0 <= index < size, "a place outside the tree")
    fn, sn, found = index, size - 1, sha(b"\x00", leaf)
    for step in path:
        need(sn != 0 and len(step) == 32, "a proof that is too long")
        if fn & 1 or fn == sn:
            found = sha(b"\x01", step, found)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            found = sha(b"\x01", found, step)
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0 and found == root, "a proof that does not lead to the root")


def leaf_of(raw, index):
    need(len(raw) == 208 and raw[:4] == b"LTL1", "a leaf's shape")
    kind, reason, level, medium, seq, generation = struct.unpack_from(">BBBBQQ", raw, 4)
    unit, kid, request = raw[44:76], raw[76:86], raw[86:118]
    requested, removed, count = struct.unpack_from(">qqI", raw, 118)
    need(seq == index and raw[202:] == bytes(6), "a leaf's place or end")
    return dict(kind=kind, reason=reason, level=level, medium=medium, generation=generation, unit=unit, kid=kid,
                request=request, requested=requested, removed=removed, count=count, hash=sha(b"\x00", raw))


def verify(text, held_note, key):
    """The facts, if everything holds; else Refused."""
    try:
        return _verify(text, held_note, key)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, struct.error) as error:
        raise Refused(f"its form: {type(error).__name__}") from error


def _verify(text, held_note, key):
    file = shaped(json.loads(text, object_pairs_hook=unique), "")
    facts = shaped(file["facts"], "facts")
    for part in set(SHAPE) - {"", "facts"}:
        shaped(facts[part], part)
    origin, size, root = checkpoint(file["checkpoint"], key)
    need((origin, size, root) == checkpoint(held_note, key), "another vault's ledger, or another size of it")
    vault = bytes.fromhex(origin.split("/")[1])
    statement = b64(file["statement"])
    need(signed_by(key, b"VC1" + vault + statement, b64(file["signature"])), "the signature")
    need(json.loads(statement, object_pairs_hook=unique) == facts, "what is shown is not what was signed")
    need(facts["format"] == "lethe/certificate/v1", "format")
    need(facts["vault"] == {"name": origin, "public_key": key.hex()}, "vault")
    gone, erasure = facts["destroyed"], facts["erasure"]
    of_bucket = gone["kind"] in ("BUCKET", "RECORD_WITH_BUCKET")

    def proved(one):
        need(set(one) == {"index", "leaf", "path"}, "fields of a leaf")
        raw = b64(one["leaf"])
        included(raw, one["index"], size, root, [b64(h) for h in one["path"]])
        return leaf_of(raw, one["index"])

    need(len(file["leaves"]) == len(gone["leaves"]) >= 1, "leaves")
    need(len(gone["leaves"]) == 1 or gone["kind"] == "BUCKET", "leaves")
    leaves = [proved(one) for one in file["leaves"]]
    places = [one["index"] for one in file["leaves"]]
    need(places == sorted(set(places)) and len({leaf["kid"][:3] for leaf in leaves}) == 1, "leaves")
    parts = gone["name"].split("/")
    for place, leaf, told in zip(places, leaves, gone["leaves"]):
        need(told == {"index": place, "hash": leaf["hash"].hex(), "records": leaf["count"],
                      "root": leaf["request"].hex() if of_bucket else None}, "what is shown of a leaf")
        need(leaf["kind"] == (4 if of_bucket else 1), "kind")
        need(REASONS[leaf["reason"]] == erasure["reason"], "reason")
        need(leaf["generation"] == erasure["generation"], "generation")
        need(moment(leaf["requested"]) == erasure["requested"], "requested")
        need(moment(leaf["removed"]) == erasure["removed"], "removed")
        if of_bucket:
            unit = sha(b"VB1", vault, leaf["kid"][:6])
        else:
            version = struct.pack(">Q", gone["version"])
            unit = sha(b"VU1", vault, leaf["kid"][:3], uuid.UUID(parts[3]).bytes, version)
        need(unit == leaf["unit"], "what was destroyed")
    if gone["kind"] == "BUCKET":
        need(parts == ["tenants", parts[1], "schemas", gone["record_type"], "buckets", gone["expire_date"]], "name")
        need(gone["records"] == sum(leaf["count"] for leaf in leaves), "the number of records")
    else:
        where = "subjects" if gone["kind"] == "SUBJECT" else "records"
        need(parts == ["tenants", parts[1], where, str(uuid.UUID(parts[3]))] and gone["records"] == 1, "name or number")

    need((file["level_leaf"] is None) == (erasure["level_leaf"] is None), "level leaf")
    if file["level_leaf"] is not None:
        level = proved(file["level_leaf"])
        need(file["level_leaf"]["index"] == erasure["level_leaf"] > places[-1] and level["kind"] == 2, "level leaf")
        need(level["generation"] == erasure["generation"] and LEVELS[level["level"]] == erasure["level"], "level")
        need(MEDIA[level["medium"]] == erasure["medium"], "medium")
        need(moment(level["removed"]) == erasure["completed"], "completed")

    need(of_bucket == (gone["expire_date"] is not None), "last day")
    due = None
    if of_bucket:
        day = datetime.strptime(gone["expire_date"], "%Y-%m-%d") + timedelta(days=1)
        due = day.strftime("%Y-%m-%dT00:00:00.000Z")
    need(erasure["due"] == due, "due")
    if facts["asked_by"]["kind"] == "SCHEDULE":
        need(erasure["reason"] == "RETENTION" and erasure["requested"] == due, "asked by")
        need(erasure["removed"] >= due, "done before it was due")

    member = file["membership"]
    need((member is not None) == (gone["kind"] == "RECORD_WITH_BUCKET"), "membership")
    if member is not None:
        need(set(member) == {"index", "salt", "path"}, "fields of the membership")
        salt = b64(member["salt"])
        need(len(salt) == 16, "salt")
        own = b"VX1" + vault + leaves[0]["kid"][:6] + uuid.UUID(parts[3]).bytes + salt
        path = [b64(h) for h in member["path"]]
        included(own, member["index"], leaves[0]["count"], leaves[0]["request"], path)
    return facts


def main():
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 64
    try:
        text, note = (pathlib.Path(p).read_text("utf-8") for p in sys.argv[1:3])
        facts = verify(text, note, bytes.fromhex(sys.argv[3]))
    except Refused as why:
        print(f"refused: {why}", file=sys.stderr)
        return 1
    gone = facts["destroyed"]
    print(f"verified: {gone['name']}, {gone['records']} records, {facts['erasure']['level']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Receipts that were made by hand after docs/FORMAT.md, section 7: a true one verifies, one changed claim does not."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import uuid

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lethe import Level, Reason, Receipt
from lethe.receipts import Unproven, dump, load, verify

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
VAULT, KID = bytes(range(16)), bytes(range(100, 110))
RECORD = uuid.UUID("e08a3c1e-5b89-4c6d-a055-066ba4ed959a")
REQUESTED, REMOVED, SCRUBBED = 1_795_312_944_965, 1_795_312_944_970, 1_795_312_944_980


def moment(millis):
    return dt.datetime.fromtimestamp(millis // 1000, dt.timezone.utc) + dt.timedelta(milliseconds=millis % 1000)


def number(value, size):
    return value.to_bytes(size, "big")


def made(kind=1, unit=None, name=f"tenants/t/records/{RECORD}", reserved=bytes(6), level=1):
    unit = unit or hashlib.sha256(b"VU1" + VAULT + KID[:3] + RECORD.bytes + number(3, 8)).digest()
    leaf = b"LTL1" + bytes([kind, 1, 0, 0]) + number(7, 8) + number(5, 8) + number(0, 4) + bytes(16) + unit + KID
    leaf += bytes(32) + number(REQUESTED, 8) + number(REMOVED, 8) + number(1, 4) + bytes(64) + reserved
    assert len(leaf) == 208
    signed = b"VE1" + VAULT + leaf + bytes([level, 1]) + number(SCRUBBED, 8)
    return Receipt(
        name=name,
        level=Level.E1_LOCAL_ANCHOR_SCRUBBED,
        reason=Reason.SUBJECT_REQUEST,
        generation=5,
        leaf_index=7,
        request_time=moment(REQUESTED),
        erase_time=moment(SCRUBBED),
        signed_bytes=signed,
        signature=KEY.sign(signed),
        public_key=PUBLIC,
        caveat="none",
    )


def test_a_true_receipt_is_proof():
    proof = verify(made(), PUBLIC)
    assert (proof.version, proof.vault_id, proof.generation, proof.leaf_index) == (3, VAULT.hex(), 5, 7)
    assert (proof.level, proof.reason) == (Level.E1_LOCAL_ANCHOR_SCRUBBED, Reason.SUBJECT_REQUEST)
    assert (proof.requested, proof.removed, proof.scrubbed) == (moment(REQUESTED), moment(REMOVED), moment(SCRUBBED))


def test_a_buckets_receipt_says_no_version():
    unit = hashlib.sha256(b"VB1" + VAULT + KID[:6]).digest()
    assert verify(made(kind=4, unit=unit, name="tenants/t/schemas/customer"), PUBLIC).version is None


@pytest.mark.parametrize(
    "claim",
    [
        {"name": f"tenants/t/records/{uuid.uuid4()}"},
        {"name": "tenants/t/records/x"},
        {"name": f"tenants/t/records/{str(RECORD).upper()}"},
        {"level": Level.E2_ALL_ANCHORS_SCRUBBED},
        {"reason": Reason.RETENTION},
        {"generation": 6},
        {"leaf_index": 8},
        {"request_time": moment(REQUESTED + 1)},
        {"erase_time": moment(SCRUBBED - 1)},
        {"signature": bytes(64)},
        {"signature": b""},
    ],
    ids=lambda c: f"{next(iter(c))}",
)
def test_a_claim_that_was_not_signed_is_noticed(claim):
    with pytest.raises(Unproven):
        verify(dataclasses.replace(made(), **claim), PUBLIC)


def test_every_spoilt_byte_is_noticed():
    true = made()
    for at in range(len(true.signed_bytes)):
        spoilt = bytearray(true.signed_bytes)
        spoilt[at] ^= 1
        with pytest.raises(Unproven):
            verify(dataclasses.replace(true, signed_bytes=bytes(spoilt)), PUBLIC)


@pytest.mark.parametrize("wrong", [{"reserved": bytes(5) + b"\1"}, {"kind": 2}, {"unit": bytes(32) + b""}])
def test_what_is_signed_but_no_receipt_of_this_is_none(wrong):
    with pytest.raises(Unproven):
        verify(made(**wrong), PUBLIC)


def test_only_the_key_that_is_given_counts():
    other = Ed25519PrivateKey.generate()
    forged = dataclasses.replace(made(), signature=other.sign(made().signed_bytes))
    forged = dataclasses.replace(forged, public_key=other.public_key().public_bytes_raw())
    with pytest.raises(Unproven):
        verify(forged, PUBLIC)
    for no_key in (b"", bytes(31)):
        with pytest.raises(Unproven):
            verify(made(), no_key)


def test_what_is_saved_is_loaded():
    assert load(dump([made(), made()])) == [made(), made()]
    # `lethectl` writes times with a Z and no more digits than there are.
    file = json.loads(dump([made()]))
    file["receipts"][0]["erase_time"] = "2026-11-22T02:02:24.98Z"
    assert load(json.dumps(file))[0].erase_time == moment(SCRUBBED)
    file["receipts"][0]["erase_time"] = "2026-11-22T02:02:24Z"
    assert load(json.dumps(file))[0].erase_time == moment(SCRUBBED - 980)


@pytest.mark.parametrize("text", ["", "{}", '{"receipts": 3}', '{"receipts": [{}]}', "[]"])
def test_what_is_no_file_of_receipts_is_said_to_be_none(text):
    with pytest.raises(Unproven, match="not a file of receipts"):
        load(text)

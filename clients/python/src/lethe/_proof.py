"""What the checks of receipts and of the audit log share."""

from __future__ import annotations

import datetime as dt

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Unproven(Exception):
    """It is no evidence; the text says why."""


def check_signature(signed_bytes: bytes, signature: bytes, public_key: bytes) -> None:
    genuine = True
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed_bytes)
    except (InvalidSignature, ValueError):
        genuine = False
    if not genuine:
        raise Unproven("the signature is not from the holder of this public key")


def check_claims(claims: dict[str, bool]) -> None:
    """What is said beside the signed bytes, and whether it is what they say."""
    for claim, holds in claims.items():
        if not holds:
            raise Unproven(f"{claim} is not what was signed")


def moment(millis: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(0, dt.timezone.utc) + dt.timedelta(milliseconds=millis)

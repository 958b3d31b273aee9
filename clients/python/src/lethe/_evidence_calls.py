"""The calls about legal holds and certificates of destruction, made of Python values before anything is sent."""

from __future__ import annotations

import datetime as dt
from typing import Any

from . import _calls as calls
from . import _wire as wire
from ._calls import Call
from .errors import InvalidArgument
from .evidence import CertificateSummary, Hold, HoldQuery, HoldReader, PostponedErasure
from .model import Fields, Level, Reason
from .v1 import certificate_pb2, erasure_pb2, hold_pb2

_CERTIFICATES = "/lethe.v1.CertificateService/"
_HOLDS = "/lethe.v1.HoldService/"


def place_hold(tenant: str, hold: Hold, id: str | None) -> Call[hold_pb2.PlaceHoldResponse]:
    request = hold_pb2.PlaceHoldRequest(
        parent=wire.tenant_name(tenant), hold=hold_out(hold), request_id=calls.request_id(id)
    )
    return Call(_HOLDS + "PlaceHold", request, hold_pb2.PlaceHoldResponse, True)


def get_hold(name: str) -> Call[hold_pb2.GetHoldResponse]:
    request = hold_pb2.GetHoldRequest(name=wire.text("name", name))
    return Call(_HOLDS + "GetHold", request, hold_pb2.GetHoldResponse, True)


def list_holds(tenant: str, ended: bool, token: str) -> Call[hold_pb2.ListHoldsResponse]:
    parent = wire.tenant_name(tenant)
    request = hold_pb2.ListHoldsRequest(parent=parent, page_size=1000, page_token=token, show_ended=bool(ended))
    return Call(_HOLDS + "ListHolds", request, hold_pb2.ListHoldsResponse, True)


def release_hold(name: str, note: str) -> Call[hold_pb2.ReleaseHoldResponse]:
    request = hold_pb2.ReleaseHoldRequest(name=wire.text("name", name), note=wire.text("note", note))
    return Call(_HOLDS + "ReleaseHold", request, hold_pb2.ReleaseHoldResponse, False)


def list_postponed_erasures(tenant: str, token: str) -> Call[hold_pb2.ListPostponedErasuresResponse]:
    parent = wire.tenant_name(tenant)
    request = hold_pb2.ListPostponedErasuresRequest(parent=parent, page_size=1000, page_token=token)
    return Call(_HOLDS + "ListPostponedErasures", request, hold_pb2.ListPostponedErasuresResponse, True)


def certificate(
    tenant: str,
    record: str | None,
    subject: str | None,
    bucket: tuple[str, dt.date] | None,
    leaf_index: int | None,
    checkpoint_size: int,
) -> Call[certificate_pb2.GetCertificateResponse]:
    given = [part for part in (record, subject, bucket, leaf_index) if part is not None]
    if len(given) != 1:
        raise InvalidArgument.of("unit", "must be one of record, subject, bucket and leaf_index")
    request = certificate_pb2.GetCertificateRequest(
        parent=wire.tenant_name(tenant), checkpoint_size=_count("checkpoint_size", checkpoint_size)
    )
    if record is not None:
        request.record = wire.text("record", record)
    if subject is not None:
        request.subject = wire.text("subject", subject)
    if bucket is not None:
        type, last = bucket
        day = wire.day("bucket", last)
        request.bucket.CopyFrom(certificate_pb2.BucketUnit(schema=wire.schema_name(tenant, type), expire_date=day))
    if leaf_index is not None:
        request.leaf_index = _count("leaf_index", leaf_index)
    return Call(_CERTIFICATES + "GetCertificate", request, certificate_pb2.GetCertificateResponse, True)


def list_certificates(
    tenant: str, start: dt.datetime | None, end: dt.datetime | None, token: str
) -> Call[certificate_pb2.ListCertificatesResponse]:
    request = certificate_pb2.ListCertificatesRequest(
        parent=wire.tenant_name(tenant),
        start_time=None if start is None else wire.timestamp("start", start),
        end_time=None if end is None else wire.timestamp("end", end),
        page_size=1000,
        page_token=token,
    )
    return Call(_CERTIFICATES + "ListCertificates", request, certificate_pb2.ListCertificatesResponse, True)


def _count(field: str, given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given not in range(1 << 63):
        raise InvalidArgument.of(field, "must be a whole number that is not negative")
    return given


def _reader(given: HoldReader) -> int:
    if given not in list(HoldReader):
        raise InvalidArgument.of("hold.readers", "must be of HoldReader")
    return int(given)


def hold_out(given: Hold) -> hold_pb2.Hold:
    # Generated stubs have their own type for each enum; the numbers are the same.
    numbers: dict[str, Any] = {"readers": [_reader(reader) for reader in given.readers]}
    sent = hold_pb2.Hold(
        reason=wire.text("hold.reason", given.reason),
        issuer=wire.text("hold.issuer", given.issuer),
        reference=wire.text("hold.reference", given.reference),
        **numbers,
    )
    if given.expire_time is not None:
        sent.expire_time.CopyFrom(wire.timestamp("hold.expire_time", given.expire_time))
    named = [scope for scope in (given.record, given.subject, given.query) if scope]
    if len(named) != 1:
        raise InvalidArgument.of("hold.scope", "must be one of record, subject and query")
    if given.record:
        sent.record = wire.text("hold.record", given.record)
    if given.subject:
        sent.subject = wire.text("hold.subject", given.subject)
    if given.query is not None:
        sent.query.schema = wire.text("hold.query.schema", given.query.schema)
        for name, value in wire.fields("hold.query.fields", given.query.fields).items():
            sent.query.fields[name].CopyFrom(value)
    return sent


def hold(sent: hold_pb2.Hold) -> Hold:
    query = None
    if sent.HasField("query"):
        values = {name: wire.plain(one) for name, one in sent.query.fields.items()}
        query = HoldQuery(sent.query.schema, Fields(values))
    return Hold(
        reason=sent.reason,
        record=sent.record,
        subject=sent.subject,
        query=query,
        issuer=sent.issuer,
        reference=sent.reference,
        expire_time=wire.time(sent.expire_time) if sent.HasField("expire_time") else None,
        readers=tuple(wire.member(HoldReader, reader) for reader in sent.readers),
        name=sent.name,
        create_time=wire.time(sent.create_time),
        creator=sent.creator,
        end_time=wire.time(sent.end_time) if sent.HasField("end_time") else None,
        releaser=sent.releaser,
        release_note=sent.release_note,
    )


def postponed_erasure(sent: erasure_pb2.PostponedErasure) -> PostponedErasure:
    reason = wire.member(Reason, sent.reason)
    return PostponedErasure(sent.name, reason, wire.time(sent.request_time), list(sent.holds))


def certificate_summary(sent: certificate_pb2.CertificateSummary) -> CertificateSummary:
    return CertificateSummary(
        leaf_index=sent.leaf_index,
        schema=sent.schema,
        expire_date=wire.last_day(sent.expire_date),
        record_count=sent.record_count,
        reason=wire.member(Reason, sent.reason),
        level=wire.member(Level, sent.level),
        request_time=wire.time(sent.request_time),
        erase_time=wire.time(sent.erase_time),
        generation=sent.generation,
    )

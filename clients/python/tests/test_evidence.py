"""Legal holds and certificates: what goes to the vault and what comes back, for what a real vault does not say on
demand."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

import lethe
from lethe import CertificateSummary, Hold, HoldQuery, HoldReader, PostponedErasure, _evidence_calls, evidence
from lethe.v1 import certificate_pb2, erasure_pb2, hold_pb2

UTC = dt.timezone.utc
NOW = dt.datetime(2030, 12, 31, 1, 2, 3, tzinfo=UTC)
RECORD = "tenants/t/records/r"
# Every part has a value of its own, so that none can stand for another.
WHOLE = Hold(
    reason="litigation",
    query=HoldQuery("tenants/t/schemas/order", {"city": "Bonn", "visits": 3}),
    issuer="court",
    reference="7 O 12/26",
    expire_time=NOW,
    readers=(HoldReader.SUPPORT, HoldReader.PRIVACY_OFFICER),
)


def test_a_hold_comes_back_as_it_was_sent():
    sent = _evidence_calls.hold_out(WHOLE)
    assert _evidence_calls.hold(sent) == WHOLE
    assert "Bonn" not in repr(_evidence_calls.hold(sent)) and "city" in repr(WHOLE)
    for scope in ({"record": RECORD}, {"subject": "tenants/t/subjects/s"}):
        given = dataclasses.replace(WHOLE, query=None, **scope)
        assert _evidence_calls.hold(_evidence_calls.hold_out(given)) == given
    ended = hold_pb2.Hold(
        name="tenants/t/holds/h", record=RECORD, reason="a", creator="b", releaser="c", release_note="d", readers=[9]
    )
    ended.end_time.FromDatetime(NOW)
    told = _evidence_calls.hold(ended)
    assert (told.name, told.creator, told.releaser, told.release_note) == ("tenants/t/holds/h", "b", "c", "d")
    assert (told.end_time, told.expire_time, told.readers) == (NOW, None, (HoldReader.UNSPECIFIED,))


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: _evidence_calls.place_hold("t", Hold("x"), None), "hold.scope"),
        (lambda: _evidence_calls.place_hold("t", Hold("x", record="a", subject="b"), None), "hold.scope"),
        (lambda: _evidence_calls.place_hold("t", Hold(3, record="a"), None), "hold.reason"),
        (lambda: _evidence_calls.place_hold("t", Hold("x", record="a", expire_time=dt.datetime(2030, 1, 1)), None),
         "hold.expire_time"),
        (lambda: _evidence_calls.place_hold("t", Hold("x", query=HoldQuery("s", {"No": 1})), None),
         "hold.query.fields"),
        (lambda: _evidence_calls.place_hold("t", Hold("x", query=HoldQuery("s", {"a": object()})), None),
         "hold.query.fields.a"),
        (lambda: _evidence_calls.place_hold("t", Hold("x", record="a", readers=(9,)), None), "hold.readers"),
        (lambda: _evidence_calls.place_hold("t", Hold("x", record="a", readers=("SUPPORT",)), None), "hold.readers"),
        (lambda: _evidence_calls.release_hold("n", None), "note"),
        (lambda: _evidence_calls.certificate("t", None, None, None, None, 0), "unit"),
        (lambda: _evidence_calls.certificate("t", "r", "s", None, None, 0), "unit"),
        (lambda: _evidence_calls.certificate("t", None, None, None, -1, 0), "leaf_index"),
        (lambda: _evidence_calls.certificate("t", "r", None, None, None, True), "checkpoint_size"),
        (lambda: _evidence_calls.certificate("t", None, None, ("order", "2030-01-01"), None, 0), "bucket"),
        (lambda: _evidence_calls.certificate("t", None, None, ("No", dt.date(2030, 1, 1)), None, 0), "type"),
        (lambda: _evidence_calls.list_certificates("t", dt.date(2030, 1, 1), None, ""), "start"),
    ],
)  # fmt: skip
def test_a_fault_is_told_by_its_field_before_anything_is_sent(call, field):
    with pytest.raises(lethe.InvalidArgument) as caught:
        call()
    assert [v.field for v in caught.value.violations] == [field]


def test_lists_go_over_all_pages(fake, client):
    def page(token, *names):
        return hold_pb2.ListHoldsResponse(holds=[hold_pb2.Hold(name=n) for n in names], next_page_token=token)

    fake.answer("ListHolds", page("a", "p", "q"), page("", "r"))
    assert [h.name for h in client.list_holds("t", ended=True)] == ["p", "q", "r"]
    assert [(r.page_token, r.show_ended) for r in fake.requests("ListHolds")] == [("", True), ("a", True)]

    waits = erasure_pb2.PostponedErasure(name=RECORD, reason=erasure_pb2.ERASURE_REASON_CONTRACT, holds=["h"])
    waits.request_time.FromDatetime(NOW)
    fake.answer(
        "ListPostponedErasures",
        hold_pb2.ListPostponedErasuresResponse(postponed=[waits], next_page_token="b"),
        hold_pb2.ListPostponedErasuresResponse(),
    )
    told = PostponedErasure(RECORD, lethe.Reason.CONTRACT, NOW, ["h"])
    assert list(client.list_postponed_erasures("t")) == [told]
    assert [r.page_token for r in fake.requests("ListPostponedErasures")] == ["", "b"]

    sent = certificate_pb2.CertificateSummary(
        leaf_index=1, schema="s", expire_date="2030-12-31", record_count=2, reason=2, level=1, generation=3
    )
    sent.request_time.FromDatetime(NOW)
    sent.erase_time.FromDatetime(NOW + dt.timedelta(seconds=1))
    fake.answer(
        "ListCertificates",
        certificate_pb2.ListCertificatesResponse(certificates=[sent], next_page_token="c"),
        certificate_pb2.ListCertificatesResponse(),
    )
    level, reason = lethe.Level(1), lethe.Reason.RETENTION
    second = NOW + dt.timedelta(seconds=1)
    summary = CertificateSummary(1, "s", dt.date(2030, 12, 31), 2, reason, level, NOW, second, 3)
    assert list(client.list_certificates("t", start=NOW, end=second)) == [summary]
    first, after = fake.requests("ListCertificates")
    assert (first.page_token, after.page_token) == ("", "c")
    assert first.start_time.ToDatetime(UTC) == NOW and first.end_time.ToDatetime(UTC) == second


def test_a_certificate_is_asked_for_by_what_was_destroyed(fake, client):
    fake.answer("GetCertificate", certificate_pb2.GetCertificateResponse(document='{"facts": {"a": 1}}'))
    day = dt.date(2030, 12, 31)
    for given in ({"record": "r"}, {"subject": "s"}, {"bucket": ("order", day)}, {"leaf_index": 0}):
        assert client.certificate("t", checkpoint_size=7, **given) == {"facts": {"a": 1}}
    asked = fake.requests("GetCertificate")
    assert [r.WhichOneof("unit") for r in asked] == ["record", "subject", "bucket", "leaf_index"]
    assert (asked[2].bucket.schema, asked[2].bucket.expire_date) == ("tenants/t/schemas/order", "2030-12-31")
    assert {r.checkpoint_size for r in asked} == {7}


def test_the_enums_are_those_of_the_contract():
    sent = {name.removeprefix("HOLD_READER_"): number for name, number in hold_pb2.HoldReader.items()}
    assert sent == {reader.name: int(reader) for reader in evidence.HoldReader}

"""Values on their way to the vault and back, and that none is told by accident."""

from __future__ import annotations

import copy
import datetime as dt
import logging
import pickle
import traceback

import pytest

import lethe
from lethe import Field, Fields, Kind, NewRecord, Schema, _calls, _wire
from lethe.v1 import record_pb2

CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("x", "string_value"),
        (dt.date(2026, 1, 31), "string_value"),
        (3, "integer_value"),
        (-(1 << 63), "integer_value"),
        (1.5, "number_value"),
        (True, "bool_value"),
        (b"\x00\xff", "bytes_value"),
        (bytearray(b"\x00"), "bytes_value"),
    ],
)
def test_a_type_has_its_place_on_the_wire(value, kind):
    assert _wire.value("p", value).WhichOneof("kind") == kind


def test_dates_come_back_as_dates_and_texts_that_look_like_dates_do_not():
    dates = _wire.DateFields()
    name = "tenants/t/schemas/s"
    sent = record_pb2.Record(
        schema=name,
        fields={
            "born": _wire.value("", dt.date(1815, 12, 10)),
            "note": _wire.value("", "1815-12-10"),
            "hidden": _wire.value("", "****-**-**"),
        },
    )
    assert dates.unknown([sent, sent]) == [name]
    fields = (Field("born", Kind.DATE), Field("note", Kind.TEXT), Field("hidden", Kind.DATE))
    dates.learn(Schema(fields, name=name))
    assert dates.unknown([sent]) == []
    got = dates.record(sent)
    assert dict(got.fields) == {"born": dt.date(1815, 12, 10), "note": "1815-12-10", "hidden": "****-**-**"}
    # A field that a later revision added is asked for.
    sent.fields["new"].string_value = "x"
    assert dates.unknown([sent]) == [name]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"x": 1 << 63}, "record.fields.x"),
        ({"x": CANARY + "\ud800"}, "record.fields.x"),
        ({"x": None}, "record.fields.x"),
        ({"x": [CANARY]}, "record.fields.x"),
        ({"x": dt.datetime(2026, 1, 1)}, "record.fields.x"),
        ({CANARY: "x"}, "record.fields"),
        ({3: "x"}, "record.fields"),
    ],
)
def test_a_fault_is_told_by_its_path_and_without_the_value(fields, path):
    with pytest.raises(lethe.InvalidArgument) as caught:
        _calls.create_record("t", NewRecord("customer", fields))
    assert [v.field for v in caught.value.violations] == [path]
    told = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    # The source line of this test is in the traceback, its values are not.
    assert CANARY not in told and str(1 << 63) not in told
    assert caught.value.__context__ is None


def test_nothing_that_holds_values_prints_them(caplog):
    fields = Fields({"email": CANARY})
    new = NewRecord("customer", {"email": CANARY})
    moment = dt.datetime(2026, 1, 1)
    record = lethe.Record("n", "s", "p", fields, "1", moment, moment, None)
    page = lethe.RecordPage([record], "", [])
    call = _calls.create_record("t", new)
    with caplog.at_level(logging.DEBUG):
        logging.warning("%s %r %s", record, new, page)
    for one in (fields, new, record, page, lethe.Found([record], False), call):
        for told in (repr(one), str(one), f"{one}"):
            assert CANARY not in told
    assert CANARY not in caplog.text
    assert "email" in repr(record)
    # The values are there all the same, also after a copy.
    assert record["email"] == copy.deepcopy(record)["email"] == pickle.loads(pickle.dumps(record))["email"] == CANARY


def test_a_record_cannot_be_changed_by_who_made_it():
    mine = {"email": "a@example.org"}
    new = NewRecord("customer", mine)
    mine["email"] = "b@example.org"
    assert new.fields["email"] == "a@example.org"


@pytest.mark.parametrize("mask", [[], "city", iter(["city"])])
def test_a_mask_that_would_mean_something_else_is_refused(mask):
    with pytest.raises(lethe.InvalidArgument) as caught:
        _calls.get_record("n", mask, "")
    assert caught.value.violations[0].field == "mask"


@pytest.mark.parametrize("tenant", ["", "A", "a/b", "tenants/a", "a" * 64, "a-", None])
def test_an_id_that_would_make_another_name_is_refused(tenant):
    with pytest.raises(lethe.InvalidArgument):
        _calls.get_tenant(tenant)


def test_a_message_of_more_than_four_mebibytes_is_not_sent():
    assert _calls.create_record("t", NewRecord("customer", {"photo": bytes((4 << 20) - 200)}))
    with pytest.raises(lethe.InvalidArgument) as caught:
        _calls.create_record("t", NewRecord("customer", {"photo": bytes(4 << 20)}))
    assert caught.value.violations[0].field == "request"


def test_numbers_of_a_later_vault_are_not_refused():
    sent = record_pb2.WatchRecordsResponse(kind=99, name="n")  # type: ignore[arg-type]
    assert _wire.change(sent).kind is lethe.ChangeKind.UNSPECIFIED

"""Retention: what goes to the vault and what comes back, for what a real vault does not say on demand."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from fake import EXHAUSTED, UNAVAILABLE

import lethe
from lethe import RetentionForecast, RetentionPolicy, RetentionStart, _calls, _wire, model, retention
from lethe.v1 import erasure_pb2, record_pb2, retention_pb2, subject_pb2

UTC = dt.timezone.utc
DAY = dt.date(2030, 12, 31)
# Every part has a value of its own, so that none can stand for another.
WHOLE = RetentionPolicy(
    start=RetentionStart.EVENT,
    schemas=("tenants/t/schemas/order", "tenants/t/schemas/person"),
    classification=lethe.Classification.SENSITIVE,
    purpose="billing",
    event_field="closed",
    period="P3Y",
    grace_period="P30D",
    end_date=DAY,
    minimum="P1Y",
    maximum="P9Y",
    open_ended=True,
    time_zone="Asia/Shanghai",
    legal_basis="PIPL 19",
    description="for people",
    name="tenants/t/retentionPolicies/p",
    etag="7",
    update_time=dt.datetime(2026, 1, 2, tzinfo=UTC),
)


def test_a_policy_comes_back_as_it_was_sent():
    sent = _wire.retention_policy_out(WHOLE, WHOLE.name, "7")
    assert {field.name for field, _ in sent.ListFields()} == set(sent.DESCRIPTOR.fields_by_name) - {"update_time"}
    sent.update_time.FromDatetime(WHOLE.update_time)
    got = _wire.retention_policy(sent)
    assert got == WHOLE and got.update_time == WHOLE.update_time
    # Which version and which policy it is, the call says, not a policy that was read earlier.
    request = _calls.update_retention_policy("t", "other", WHOLE, ["period"], "").request
    assert (request.retention_policy.name, request.retention_policy.etag) == ("tenants/t/retentionPolicies/other", "")
    assert list(request.update_mask.paths) == ["period"]
    assert not _calls.update_retention_policy("t", "p", WHOLE, None, "").request.HasField("update_mask")


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: _calls.create_retention_policy("t", "No", WHOLE), "id"),
        (lambda: _calls.get_retention_policy("t", "a/b"), "id"),
        (lambda: _calls.create_retention_policy("t", "p", RetentionPolicy(schemas="tenants/t/schemas/s")),
         "retention_policy.schemas"),
        (lambda: _calls.create_retention_policy("t", "p", dataclasses.replace(WHOLE, period=3)),
         "retention_policy.period"),
        (lambda: _calls.create_retention_policy("t", "p", dataclasses.replace(WHOLE, end_date="2030-12-31")),
         "retention_policy.end_date"),
        (lambda: _calls.update_retention_policy("t", "p", WHOLE, [], ""), "mask"),
        (lambda: _calls.preview_retention("t", dt.datetime(2030, 12, 31, tzinfo=UTC), ""), "date"),
        (lambda: _calls.confirm_clock(dt.datetime(2030, 12, 31)), "time"),
        (lambda: _calls.run_retention("no"), "dry_run"),
    ],
)
def test_what_would_mean_something_else_is_refused(call, field):
    with pytest.raises(lethe.InvalidArgument) as caught:
        call()
    assert [v.field for v in caught.value.violations] == [field]


def part(schema, date, *counts):
    return retention_pb2.RetentionForecast(
        schema=f"tenants/t/schemas/{schema}",
        expire_date=date,
        **dict(zip(("record_count", "staying_count", "held_count", "without_basis_count", "damaged_count"), counts)),
    )


def test_a_preview_adds_up_its_parts_over_all_pages(fake, client):
    def page(token, *parts):
        return retention_pb2.PreviewRetentionResponse(forecasts=parts, next_page_token=token)

    fake.answer(
        "PreviewRetention",
        page("a", part("order", "2030-01-01", 5, 4, 3, 2, 1), part("order", "2030-01-01", 10, 20, 30, 40, 50)),
        UNAVAILABLE,
        page("b"),
        # The same day once more after another one: nothing says that the parts of a day follow each other.
        page("c", part("order", "", 7), part("person", "2030-01-01", 1, 0, 0, 1)),
        page("", part("order", "2030-01-01", 100, 0, 0, 0, 0)),
    )
    order, person = "tenants/t/schemas/order", "tenants/t/schemas/person"
    first = dt.date(2030, 1, 1)
    assert list(client.preview_retention("t", DAY)) == [
        RetentionForecast(order, first, 115, 24, 33, 42, 51),
        RetentionForecast(order, None, 7, 0, 0, 0, 0),
        RetentionForecast(person, first, 1, 0, 0, 1, 0),
    ]
    asked = fake.requests("PreviewRetention")
    assert [r.page_token for r in asked] == ["", "a", "a", "b", "c"]
    assert {(r.parent, r.date) for r in asked} == {("tenants/t", "2030-12-31")}


def test_a_preview_that_breaks_gives_no_sums_of_a_part(fake, client):
    fake.answer(
        "PreviewRetention",
        retention_pb2.PreviewRetentionResponse(forecasts=[part("order", "2030-01-01", 5)], next_page_token="a"),
        EXHAUSTED,
    )
    seen = []
    with pytest.raises(lethe.ResourceExhausted):
        for forecast in client.preview_retention("t", DAY):
            seen.append(forecast)
    assert seen == [] and len(fake.seen) == 5


def test_policies_are_listed_over_all_pages(fake, client):
    def page(token, *names):
        policies = [retention_pb2.RetentionPolicy(name=name) for name in names]
        return retention_pb2.ListRetentionPoliciesResponse(retention_policies=policies, next_page_token=token)

    fake.answer("ListRetentionPolicies", page("a", "p", "q"), page("", "r"))
    assert [p.name for p in client.list_retention_policies("t")] == ["p", "q", "r"]
    assert [r.page_token for r in fake.requests("ListRetentionPolicies")] == ["", "a"]


def test_a_dry_run_is_told_from_a_run(fake, client):
    run = retention_pb2.RetentionRun(
        schema="tenants/t/schemas/s", expire_date="2030-12-31", record_count=3, staying_count=2
    )
    erased = retention_pb2.RetentionRun(
        schema="tenants/t/schemas/s",
        expire_date="2030-12-31",
        record_count=3,
        receipt=erasure_pb2.ErasureReceipt(name="b", reason=erasure_pb2.ERASURE_REASON_RETENTION),
    )
    fake.answer(
        "RunRetention",
        retention_pb2.RunRetentionResponse(runs=[run]),
        retention_pb2.RunRetentionResponse(runs=[erased], failed_bucket_count=4),
    )
    dry, wet = client.run_retention(dry_run=True), client.run_retention()
    assert [r.dry_run for r in fake.requests("RunRetention")] == [True, False]
    assert dry == retention.RetentionRuns([retention.RetentionRun("tenants/t/schemas/s", DAY, 3, 2, None)], 0)
    (gone,) = wet.runs
    assert (gone.receipt.name, gone.receipt.reason, wet.failed_bucket_count) == ("b", lethe.Reason.RETENTION, 4)


def test_pausing_and_resuming_are_two_calls_and_a_clock_is_confirmed_in_utc(fake, client):
    fake.answer("PauseRebucketing", retention_pb2.PauseRebucketingResponse(unfinished=True))
    fake.answer("ResumeRebucketing", retention_pb2.ResumeRebucketingResponse())
    assert client.pause_rebucketing("t") is True and client.resume_rebucketing("t") is False
    answer = retention_pb2.ConfirmClockResponse()
    answer.due_by_time.seconds = 5
    fake.answer("ConfirmClock", answer)
    here = dt.datetime(2030, 12, 31, 8, 30, 0, 250_000, dt.timezone(dt.timedelta(hours=8)))
    assert client.confirm_clock(here) == dt.datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    (asked,) = fake.requests("ConfirmClock")
    assert (asked.time.ToJsonString(), here.utcoffset()) == ("2030-12-31T00:30:00.250Z", dt.timedelta(hours=8))


def test_an_explanation_has_its_days_and_its_absences(fake, client):
    sent = retention_pb2.ExplainRetentionResponse(expire_date="2031-01-01", present_expire_date="2030-12-31")
    line = sent.lines.add(
        rule="r", effect=retention_pb2.RETENTION_EFFECT_END_DATE, end_date="2030-12-31", decides=True, legal_basis="b"
    )
    line.due_time.FromJsonString("2031-01-30T16:00:00Z")
    sent.lines.add(rule="s", effect=retention_pb2.RETENTION_EFFECT_OPEN_ENDED)
    fake.answer("ExplainRetention", sent, retention_pb2.ExplainRetentionResponse())
    effect = retention.RetentionEffect
    assert client.explain_retention("n") == retention.RetentionExplanation(
        dt.date(2031, 1, 1),
        DAY,
        [
            retention.RetentionLine("r", effect.END_DATE, DAY, dt.datetime(2031, 1, 30, 16, tzinfo=UTC), True, "b"),
            retention.RetentionLine("s", effect.OPEN_ENDED, None, None, False, ""),
        ],
    )
    assert client.explain_retention("n") == retention.RetentionExplanation(None, None, [])
    assert [r.name for r in fake.requests("ExplainRetention")] == ["n", "n"]


def test_a_status_has_its_times_and_its_absences(fake, client):
    sent = retention_pb2.GetRetentionStatusResponse(
        clock_state=retention_pb2.CLOCK_STATE_UNCONFIRMED,
        sweep_interval_seconds=60,
        due_bucket_count=1,
        closed_bucket_count=2,
        closed_record_count=3,
        erased_bucket_count=4,
        erased_record_count=5,
        lateness_p50_millis=1500,
        lateness_p99_millis=2500,
        rebucketing=[retention_pb2.RebucketingState(schema="s", percent=40, paused=True)],
        hold_count=6,
        postponed_erasure_count=7,
    )
    sent.due_by_time.seconds = 7
    fake.answer("GetRetentionStatus", sent)
    assert client.retention_status() == retention.RetentionStatus(
        dt.datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC), retention.ClockState.UNCONFIRMED, None,
        dt.timedelta(minutes=1), 1, 2, 3, 4, 5, dt.timedelta(seconds=1.5), dt.timedelta(seconds=2.5),
        [retention.RebucketingState("s", 40, True)], 6, 7,
    )  # fmt: skip


def test_an_erasure_that_a_hold_postpones_is_told_as_that_with_what_was_erased(fake, client):
    waits = erasure_pb2.PostponedErasure(name="tenants/t/records/held")
    fake.answer("EraseRecord", record_pb2.EraseRecordResponse(postponed=waits))
    with pytest.raises(lethe.Postponed) as told:
        client.erase_record("tenants/t/records/held")
    assert (told.value.names, told.value.receipts) == (["tenants/t/records/held"], [])
    gone = erasure_pb2.ErasureReceipt(name="tenants/t/records/free", level=2, reason=1)
    fake.answer("BatchEraseRecords", record_pb2.BatchEraseRecordsResponse(receipts=[gone], postponed=[waits]))
    with pytest.raises(lethe.Postponed) as told:
        client.erase_records("t", ["tenants/t/records/held", "tenants/t/records/free"])
    assert [r.name for r in told.value.receipts] == ["tenants/t/records/free"]
    fake.answer("EraseSubject", subject_pb2.EraseSubjectResponse(record_receipts=[gone], postponed=[waits]))
    with pytest.raises(lethe.Postponed) as told:
        client.erase_subject("tenants/t/subjects/s")
    assert len(told.value.names) == len(told.value.receipts) == 1


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (retention.RetentionStart, retention_pb2.RetentionStart, "RETENTION_START_"),
        (retention.RetentionEffect, retention_pb2.RetentionEffect, "RETENTION_EFFECT_"),
        (retention.ClockState, retention_pb2.ClockState, "CLOCK_STATE_"),
        (model.Reason, erasure_pb2.ErasureReason, "ERASURE_REASON_"),
        (model.Level, erasure_pb2.ErasureLevel, "ERASURE_LEVEL_"),
    ],
)
def test_enums_are_those_of_the_contract(ours, theirs, prefix):
    assert {prefix + one.name: one.value for one in ours} == dict(theirs.items())

"""Steps 43 and 44 of clients/CONFORMANCE.md, legal holds and certificates, as methods of the class that tells the
story."""

from __future__ import annotations

import datetime as dt
import time
import uuid

import lethe
from lethe import Hold, HoldQuery, HoldReader, Reason
from lethe._calls import Call
from lethe.admin.v1 import vault_pb2


def gone(story, name):
    """Waits until it was erased by itself."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            story.officer.get_record(name)
        except lethe.Erased:
            return
        except lethe.FailedPrecondition:
            pass
        time.sleep(0.05)
    raise AssertionError("it is still there")


def holds(self, story):
    place, reason = story.officer.place_hold, "litigation"
    held = story.create("held@example.org", city="Genoa")
    request_id = str(uuid.uuid4())
    made = place(story.tenant, Hold(reason, record=held.name, reference="7 O 12/26"), request_id=request_id)
    assert made.name.startswith(f"tenants/{story.tenant}/holds/") and made.end_time is None
    assert (made.record, made.reason, made.reference) == (held.name, reason, "7 O 12/26")
    assert made.readers == (HoldReader.PRIVACY_OFFICER,)
    assert place(
        story.tenant, Hold(reason, record=held.name, reference="7 O 12/26"), request_id=request_id
    ).name == made.name
    assert story.officer.get_hold(made.name) == made
    query = HoldQuery(f"tenants/{story.tenant}/schemas/customer", {"city": "Genoa"})
    by_query = place(story.tenant, Hold("audit", query=query, expire_time=later(days=2)))
    # Masked, as records are for who may not see them.
    assert by_query.query.schema == query.schema and list(by_query.query.fields) == ["city"]
    story.printed.append(repr(by_query))
    assert "Genoa" not in repr(by_query)
    assert sorted(h.name for h in story.auditor.list_holds(story.tenant)) == sorted([made.name, by_query.name])
    # What is wrong is named.
    assert story.violated(place, story.tenant, Hold("", record=held.name)) == ["hold.reason"]
    assert story.violated(place, story.tenant, Hold(reason)) == ["hold.scope"]
    assert story.violated(place, story.tenant, Hold(reason, record=held.name, subject=held.subject)) == ["hold.scope"]
    past = Hold(reason, record=held.name, expire_time=later(days=-2))
    assert story.violated(place, story.tenant, past) == ["hold.expire_time"]
    story.refused(lethe.NotFound, place, story.tenant, Hold(reason, record=story.no_record()))
    story.refused(lethe.PermissionDenied, story.app.place_hold, story.tenant, Hold(reason, record=held.name))
    story.refused(lethe.PermissionDenied, story.operator.list_holds, story.tenant)
    # An erasure waits; only the officer reads what is restricted.
    told = story.refused(lethe.Postponed, story.app.erase_record, held.name)
    assert told.names == [held.name]
    story.refused(lethe.FailedPrecondition, story.app.get_record, held.name)
    assert story.officer.get_record(held.name).name == held.name
    (waits,) = story.officer.list_postponed_erasures(story.tenant)
    assert (waits.name, waits.reason) == (held.name, Reason.SUBJECT_REQUEST)
    assert sorted(waits.holds) == sorted([made.name, by_query.name])
    # It runs when the last of them ends.
    ended = story.officer.release_hold(made.name, "the case is closed")
    assert (ended.release_note, ended.releaser) == ("the case is closed", "spiffe://dev.lethe/privacy-officer")
    assert ended.end_time is not None
    story.refused(lethe.FailedPrecondition, story.officer.release_hold, made.name, "again")
    assert [h.name for h in story.officer.list_holds(story.tenant)] == [by_query.name]
    assert {h.name for h in story.officer.list_holds(story.tenant, ended=True)} == {made.name, by_query.name}
    story.officer.release_hold(by_query.name, "the audit is over")
    gone(story, held.name)
    assert list(story.officer.list_postponed_erasures(story.tenant)) == []
    story.refused(lethe.Erased, place, story.tenant, Hold(reason, record=held.name))
    story.erased = held.name


def later(**more):
    return dt.datetime.now(dt.timezone.utc).replace(microsecond=0) + dt.timedelta(**more)


def erase_bucket(story, record):
    request = vault_pb2.EraseBucketRequest(
        schema=record.schema, expire_date=record.expire_date.isoformat(), reason=int(Reason.CONTRACT)
    )
    path = "/lethe.admin.v1.VaultService/EraseBucket"
    story.operator._run(Call(path, request, vault_pb2.EraseBucketResponse, False), 30)


def certificates(self, story):
    told = story.officer.certificate(story.tenant, record=story.erased)
    assert told["facts"]["destroyed"]["kind"] == "RECORD" and len(told["leaves"]) == 1
    assert "example.org" not in str(told)
    ledger = story.auditor.checkpoint(lethe.Log.LEDGER)
    proved = story.auditor.certificate(story.tenant, record=story.erased, checkpoint_size=ledger.size)
    assert proved["leaves"][0]["leaf"] == told["leaves"][0]["leaf"]
    alive = story.create("alive@example.org").name
    story.refused(lethe.FailedPrecondition, story.officer.certificate, story.tenant, record=alive)
    story.refused(lethe.NotFound, story.officer.certificate, story.tenant, record=story.no_record())
    story.refused(lethe.PermissionDenied, story.app.certificate, story.tenant, record=story.erased)
    assert story.violated(story.officer.certificate, story.tenant) == ["unit"]
    assert list(story.officer.list_certificates(story.tenant)) == []
    # All of a type and day at once.
    record = story.app.get_record(alive)
    erase_bucket(story, record)
    (summary,) = story.officer.list_certificates(story.tenant, start=later(hours=-1))
    assert (summary.schema, summary.expire_date) == (record.schema, record.expire_date)
    assert summary.record_count >= 1
    assert list(story.officer.list_certificates(story.tenant, end=later(hours=-1))) == []
    by_leaf = story.auditor.certificate(story.tenant, leaf_index=summary.leaf_index)
    by_day = story.auditor.certificate(story.tenant, bucket=("customer", record.expire_date))
    assert by_leaf["leaves"][0]["leaf"] == by_day["leaves"][0]["leaf"]
    member = story.auditor.certificate(story.tenant, record=alive)
    assert member["membership"]["index"] < summary.record_count

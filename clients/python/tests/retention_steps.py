"""Steps 35 to 40 of clients/CONFORMANCE.md, retention, as methods of the class that tells the story."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time

import lethe
from lethe import ClockState, RetentionEffect, RetentionPolicy, RetentionStart

MINUTE = dt.timedelta(minutes=1)


def now():
    return dt.datetime.now(dt.timezone.utc)


def customers(story):
    return f"tenants/{story.tenant}/schemas/customer"


def law(story):
    return RetentionPolicy(
        RetentionStart.CREATION, schemas=(customers(story),), minimum="P2Y", legal_basis="tax law"
    )


def policies(self, story):
    create, named = story.officer.create_retention_policy, f"tenants/{story.tenant}/retentionPolicies/law"
    made = create(story.tenant, "law", law(story))
    # An empty time zone comes back as what it stands for.
    assert made == dataclasses.replace(law(story), name=named, etag=made.etag, time_zone="UTC") and made.etag
    assert abs(made.update_time - now()) < MINUTE
    story.law = story.first_law = made
    assert story.officer.get_retention_policy(story.tenant, "law") == made
    story.refused(lethe.AlreadyExists, create, story.tenant, "law", law(story))
    self_contradicting = RetentionPolicy(RetentionStart.CREATION, minimum="P3Y", maximum="P1Y")
    assert story.violated(create, story.tenant, "odd", self_contradicting) == ["retention_policy.minimum"]
    no_period = RetentionPolicy(RetentionStart.CREATION, period="canary")
    assert story.violated(create, story.tenant, "odd", no_period) == ["retention_policy.period"]
    for odd, field, told in (
        (RetentionPolicy(RetentionStart.CREATION, maximum="P1Y"), "retention_policy.maximum", "law"),
        (dataclasses.replace(law(story), schemas=(f"tenants/{story.tenant}/schemas/none",)),
         "retention_policy.schemas", ""),
    ):
        error = story.refused(lethe.FailedPrecondition, create, story.tenant, "odd", odd)
        (violation,) = error.violations
        assert violation.field == field and told in violation.description
    story.refused(lethe.PermissionDenied, story.app.create_retention_policy, story.tenant, "odd", law(story))
    story.refused(lethe.PermissionDenied, story.app.list_retention_policies, story.tenant)
    assert list(story.officer.list_retention_policies(story.tenant)) == [made]


def update_a_part(self, story):
    update, part = story.officer.update_retention_policy, RetentionPolicy(legal_basis="trade law")
    changed = update(story.tenant, "law", part, mask=["legal_basis"], etag=story.law.etag)
    assert changed == dataclasses.replace(story.law, legal_basis="trade law", etag=changed.etag)
    assert changed.etag != story.law.etag
    story.refused(lethe.Stale, update, story.tenant, "law", part, mask=["legal_basis"], etag=story.law.etag)
    paths = story.violated(update, story.tenant, "law", part, mask=["legal_basis", "canary"])
    assert paths == ["update_mask.paths[1]"]
    denied = story.app.update_retention_policy
    story.refused(lethe.PermissionDenied, denied, story.tenant, "law", part, mask=["legal_basis"])
    assert story.officer.get_retention_policy(story.tenant, "law") == changed
    story.law = changed


def settled(story):
    """Waits until every record of the tenant is in the bucket that the rules want."""
    end = time.monotonic() + 30
    while customers(story) in {r.schema for r in story.officer.retention_status().rebucketing}:
        assert time.monotonic() < end, "records are not moved"
        time.sleep(0.1)
    while True:
        told = [story.app.explain_retention(name) for name in story.names()]
        if all(t.present_expire_date == t.expire_date for t in told):
            return
        assert time.monotonic() < end, "records are not moved"
        time.sleep(0.1)


def previewed(story, date):
    return list(story.officer.preview_retention(story.tenant, date))


def explain_and_preview(self, story):
    story.kept = made = story.create("keep@example.org")
    told = story.app.explain_retention(made.name)
    by_schema, by_law = told.lines
    assert (by_schema.rule, by_schema.effect) == (customers(story), RetentionEffect.PERIOD)
    assert (by_law.rule, by_law.effect) == (story.law.name, RetentionEffect.MINIMUM)
    assert (by_schema.decides, by_schema.legal_basis) == (False, "")
    assert (by_law.decides, by_law.legal_basis) == (True, "trade law")
    assert 365 <= (by_law.end_date - by_schema.end_date).days <= 366
    for line in told.lines:
        # The day is over when the next one begins.
        assert line.due_time == dt.datetime.combine(line.end_date, dt.time(), dt.timezone.utc) + dt.timedelta(days=1)
    assert told.expire_date == told.present_expire_date == by_law.end_date == made.expire_date
    story.refused(lethe.PermissionDenied, story.operator.explain_retention, made.name)
    story.refused(lethe.NotFound, story.app.explain_retention, story.no_record())
    settled(story)
    preview = story.officer.preview_retention
    assert story.violated(preview, story.tenant, dt.date(2000, 1, 1)) == ["date"]
    assert previewed(story, now().date()) == []
    forecasts = previewed(story, made.expire_date)
    assert sum(f.record_count for f in forecasts) == len(story.names()) > 5
    for f in forecasts:
        assert f == lethe.RetentionForecast(customers(story), f.expire_date, f.record_count, 0, 0, 0, 0)
    assert len({f.expire_date for f in forecasts}) == len(forecasts)
    story.refused(lethe.PermissionDenied, story.app.preview_retention, story.tenant, made.expire_date)


def pause_and_resume(self, story):
    before = story.kept.expire_date
    assert story.officer.pause_rebucketing(story.tenant) is False
    longer = RetentionPolicy(minimum="P3Y")
    story.law = story.officer.update_retention_policy(story.tenant, "law", longer, mask=["minimum"])
    paused = {r.schema: r.paused for r in story.officer.retention_status().rebucketing}
    assert paused.get(customers(story)) is True
    told = story.app.explain_retention(story.kept.name)
    assert told.present_expire_date == before and 365 <= (told.expire_date - before).days <= 366
    (staying,) = [f for f in previewed(story, before) if f.expire_date == before]
    assert staying.record_count == staying.staying_count >= 1
    assert story.officer.resume_rebucketing(story.tenant) is True
    settled(story)
    again = story.app.explain_retention(story.kept.name)
    assert again.present_expire_date == again.expire_date == told.expire_date


def status_run_clock(self, story):
    status = story.officer.retention_status()
    assert status.clock_state is ClockState.SOUND and abs(status.due_by_time - now()) < MINUTE
    assert status.sweep_interval > dt.timedelta(0) and status.due_bucket_count == 0
    run = story.officer.run_retention(dry_run=True)
    assert (run.runs, run.failed_bucket_count) == ([], 0)
    assert abs(story.officer.confirm_clock(now()) - now()) < MINUTE
    story.refused(lethe.FailedPrecondition, story.officer.confirm_clock, now() + dt.timedelta(hours=1))
    story.refused(lethe.PermissionDenied, story.app.retention_status)
    story.refused(lethe.PermissionDenied, story.app.run_retention, dry_run=True)
    story.refused(lethe.PermissionDenied, story.app.confirm_clock, now())


def delete_a_policy(self, story):
    delete = story.officer.delete_retention_policy
    story.refused(lethe.Stale, delete, story.tenant, "law", etag=story.first_law.etag)
    story.refused(lethe.PermissionDenied, story.app.delete_retention_policy, story.tenant, "law")
    assert delete(story.tenant, "law", etag=story.law.etag) is None
    story.refused(lethe.NotFound, story.officer.get_retention_policy, story.tenant, "law")
    story.refused(lethe.NotFound, delete, story.tenant, "law")
    assert list(story.officer.list_retention_policies(story.tenant)) == []
    (line,) = story.app.explain_retention(story.kept.name).lines
    assert (line.rule, line.decides) == (customers(story), True)
    entries = list(story.auditor.list_audit_entries(story.tenant))
    done = {e.method for e in entries if e.role == "privacy-officer"}
    assert done >= {
        "CreateRetentionPolicy", "UpdateRetentionPolicy", "GetRetentionPolicy", "ListRetentionPolicies",
        "PreviewRetention", "PauseRebucketing", "ResumeRebucketing", "DeleteRetentionPolicy",
    }  # fmt: skip
    explained = {(e.role, e.schema) for e in entries if e.method == "ExplainRetention"}
    assert explained == {("application", customers(story))}

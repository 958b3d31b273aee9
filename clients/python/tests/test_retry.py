"""What is sent again and what is not: in the policy, over the wire, and for every method there is."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid

import grpc
import pytest
from fake import EXHAUSTED, METHODS, UNAVAILABLE, Fail

import lethe
from lethe import NewRecord, Reason, _calls, _evidence_calls, _retry
from lethe.v1 import hold_pb2, record_pb2, retention_pb2, schema_pb2, subject_pb2, tenant_pb2

SCHEMA = lethe.Schema((lethe.Field("x", lethe.Kind.TEXT),))
NEW = NewRecord("customer", {"x": "y"})
HOLD = lethe.Hold("litigation", record="r")
POLICY = lethe.RetentionPolicy(lethe.RetentionStart.CREATION, period="P3Y")
DAY, NOW = dt.date(2030, 12, 31), dt.datetime(2030, 12, 31, tzinfo=dt.timezone.utc)
CALLS = [
    _calls.create_tenant("t", ""),
    _calls.get_tenant("t"),
    _calls.update_tenant("t", "", None, ""),
    _calls.list_tenants(""),
    _calls.create_schema("t", "s", SCHEMA),
    _calls.update_schema("t", "s", SCHEMA, None),
    _calls.get_schema("n"),
    _calls.list_schemas("t", ""),
    _calls.create_subject("t", None),
    _calls.get_subject("n"),
    _calls.erase_subject("n", Reason.SUBJECT_REQUEST),
    _calls.status(),
    _calls.create_record("t", NEW),
    _calls.create_records("t", [NEW, NEW]),
    _calls.get_record("n", None, ""),
    _calls.get_records("t", ["n"], None, ""),
    _calls.update_record("n", {"x": "y"}, None, "", None),
    _calls.list_records("t", "", 0, "", None, ""),
    _calls.find_records("t", "s", "x", "y", None, ""),
    _calls.erase_record("n", Reason.SUBJECT_REQUEST, ""),
    _calls.erase_records("t", ["n"], Reason.SUBJECT_REQUEST),
    _calls.export_records("t", "", "", None, ""),
    _calls.watch_records("t"),
    _calls.list_audit_entries("", "", "", 0, ""),
    _calls.export_audit_entries(0),
    _calls.audit_head(),
    _calls.checkpoint(lethe.Log.LEDGER, True),
    _calls.inclusion_proof(lethe.Log.LEDGER, 1, 2),
    _calls.consistency_proof(lethe.Log.AUDIT, 1, 2),
    _calls.create_retention_policy("t", "p", POLICY),
    _calls.update_retention_policy("t", "p", POLICY, None, ""),
    _calls.get_retention_policy("t", "p"),
    _calls.list_retention_policies("t", ""),
    _calls.delete_retention_policy("t", "p", ""),
    _calls.explain_retention("n"),
    _calls.preview_retention("t", DAY, ""),
    _calls.retention_status(),
    _calls.run_retention(False),
    _calls.run_retention(True),
    _calls.pause_rebucketing("t"),
    _calls.resume_rebucketing("t"),
    _calls.confirm_clock(NOW),
    _evidence_calls.place_hold("t", HOLD, None),
    _evidence_calls.get_hold("n"),
    _evidence_calls.list_holds("t", False, ""),
    _evidence_calls.release_hold("n", "over"),
    _evidence_calls.list_postponed_erasures("t", ""),
    _evidence_calls.certificate("t", "r", None, None, None, 0),
    _evidence_calls.list_certificates("t", None, None, ""),
]
READS = ("Get", "BatchGet", "List", "Find", "Export", "Explain", "Preview")
# Keys and buckets are for operators, who have lethectl, as do those who export, witness and follow logs.
NOT_HERE = {
    "GetMetrics", "RotateKey", "GetKeyStatus", "ListBuckets", "EraseBucket", "GetTiles", "AddCosignature",
    "TailAuditEntries", "ListSubjectAuditEntries",
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=lambda c: c.path.rpartition("/")[2])
def test_only_reads_and_changes_with_a_request_id_are_sent_again(call):
    ids = [one.request_id for one in getattr(call.request, "requests", [call.request]) if hasattr(one, "request_id")]
    assert call.again == (call.path.rpartition("/")[2].startswith(READS) or bool(ids))
    for one in ids:
        assert uuid.UUID(one).version == 4 and str(uuid.UUID(one)) == one
    assert len(set(ids)) == len(ids)


def test_every_method_of_the_contract_has_its_call_with_the_right_types():
    for call in CALLS:
        method = METHODS[call.path]
        assert call.request.DESCRIPTOR is method.input_type
        assert call.answer.DESCRIPTOR is method.output_type
    reached = {call.path for call in CALLS} | {_calls.IMPORT_PATH}
    assert {path.rpartition("/")[2] for path in METHODS.keys() - reached} == NOT_HERE


def test_pauses_double_and_half_of_each_is_random():
    for share, expected in ((lambda: 0.0, [0.05, 0.1, 0.2, None]), (lambda: 1.0, [0.1, 0.2, 0.4, None])):
        attempts, pauses = _retry.Attempts(True, 30, 0, share), []
        for _ in range(4):
            attempts.remaining(0)
            pauses.append(attempts.pause_after(lethe.Unavailable("UNAVAILABLE", ""), 0))
        assert pauses == expected


def test_no_attempt_begins_after_the_deadline():
    attempts = _retry.Attempts(True, 1, 100, lambda: 1.0)
    assert attempts.remaining(100.25) == 0.75
    assert attempts.pause_after(lethe.Unavailable("UNAVAILABLE", ""), 100.85) == 0.1
    assert attempts.pause_after(lethe.Unavailable("UNAVAILABLE", ""), 100.95) is None


def record():
    return record_pb2.Record(name="tenants/t/records/r", schema="tenants/t/schemas/customer")


@pytest.mark.parametrize("failure", [UNAVAILABLE, EXHAUSTED], ids=["unavailable", "exhausted"])
def test_a_read_comes_back(fake, client, failure):
    fake.answer("GetRecord", failure, failure, record_pb2.GetRecordResponse(record=record()))
    assert client.get_record("n").name == record().name
    assert len(fake.seen) == 3


def test_it_gives_up_after_four(fake, client):
    fake.answer("GetRecord", UNAVAILABLE)
    start = time.monotonic()
    with pytest.raises(lethe.Unavailable) as caught:
        client.get_record("n")
    assert len(fake.seen) == 4
    assert 0.35 <= time.monotonic() - start < 3
    assert caught.value.__context__ is None


def test_what_is_needed_to_read_an_answer_is_asked_for_before_the_change(fake, client):
    """Else a change that was made would be told as one that failed."""
    fake.answer("CreateRecord", record_pb2.CreateRecordResponse(record=record()))
    fake.answer("BatchCreateRecords", record_pb2.BatchCreateRecordsResponse(records=[record()]))
    fake.answer("GetSchema", Fail(grpc.StatusCode.PERMISSION_DENIED))
    for create in (
        lambda: client.create_record("t", "customer", {"x": "y"}),
        lambda: client.create_records("t", [NEW]),
    ):
        with pytest.raises(lethe.PermissionDenied):
            create()
    assert fake.requests("CreateRecord") == fake.requests("BatchCreateRecords") == []
    fake.answer("GetSchema", schema())
    client.create_record("t", "customer", {"x": "y"})
    client.create_record("t", "customer", {"x": "y"})
    assert len(fake.requests("GetSchema")) == 3


def schema():
    field = schema_pb2.Field(name="x", kind=schema_pb2.FIELD_KIND_TEXT)
    return schema_pb2.GetSchemaResponse(schema=schema_pb2.Schema(name=record().schema, fields=[field]))


def test_a_change_is_repeated_with_the_same_id(fake, client):
    fake.answer("GetSchema", schema())
    made = record_pb2.CreateRecordResponse(record=record())
    fake.answer("CreateRecord", UNAVAILABLE, EXHAUSTED, made)
    client.create_record("t", "customer", {"x": "y"})
    client.create_record("t", "customer", {"x": "y"})
    ids = [r.request_id for r in fake.requests("CreateRecord")]
    assert len(ids) == 4 and len(set(ids[:3])) == 1 and ids[3] != ids[0]

    fake.answer("UpdateRecord", UNAVAILABLE, record_pb2.UpdateRecordResponse(record=record()))
    client.update_record("n", {"x": "y"})
    first, second = fake.requests("UpdateRecord")
    assert first == second and uuid.UUID(first.request_id).version == 4

    fake.answer("BatchCreateRecords", UNAVAILABLE, record_pb2.BatchCreateRecordsResponse(records=[record()]))
    client.create_records("t", [NEW, NEW])
    first, second = fake.requests("BatchCreateRecords")
    assert first == second

    fake.answer("CreateSubject", UNAVAILABLE, subject_pb2.CreateSubjectResponse())
    client.create_subject("t", request_id="mine")
    assert [r.request_id for r in fake.requests("CreateSubject")] == ["mine", "mine"]


def test_what_carries_no_request_id_is_sent_once(fake, client):
    fake.answer("EraseRecord", UNAVAILABLE)
    fake.answer("BatchEraseRecords", EXHAUSTED)
    fake.answer("EraseSubject", UNAVAILABLE)
    fake.answer("CreateTenant", UNAVAILABLE, tenant_pb2.CreateTenantResponse())
    fake.answer("CreateSchema", UNAVAILABLE, schema_pb2.CreateSchemaResponse())
    fake.answer("UpdateSchema", UNAVAILABLE, schema_pb2.UpdateSchemaResponse())
    fake.answer("CreateRetentionPolicy", UNAVAILABLE, retention_pb2.CreateRetentionPolicyResponse())
    fake.answer("UpdateRetentionPolicy", EXHAUSTED, retention_pb2.UpdateRetentionPolicyResponse())
    fake.answer("DeleteRetentionPolicy", UNAVAILABLE, retention_pb2.DeleteRetentionPolicyResponse())
    fake.answer("RunRetention", UNAVAILABLE, retention_pb2.RunRetentionResponse())
    fake.answer("PauseRebucketing", UNAVAILABLE, retention_pb2.PauseRebucketingResponse())
    fake.answer("ResumeRebucketing", EXHAUSTED, retention_pb2.ResumeRebucketingResponse())
    fake.answer("ConfirmClock", UNAVAILABLE, retention_pb2.ConfirmClockResponse())
    fake.answer("ReleaseHold", UNAVAILABLE, hold_pb2.ReleaseHoldResponse())
    for call in (
        lambda: client.erase_record("n"),
        lambda: client.erase_records("t", ["n"]),
        lambda: client.erase_subject("n"),
        lambda: client.create_tenant("t"),
        lambda: client.create_schema("t", "s", SCHEMA),
        lambda: client.update_schema("t", "s", SCHEMA),
        lambda: client.create_retention_policy("t", "p", POLICY),
        lambda: client.update_retention_policy("t", "p", POLICY),
        lambda: client.delete_retention_policy("t", "p"),
        lambda: client.run_retention(),
        lambda: client.pause_rebucketing("t"),
        lambda: client.resume_rebucketing("t"),
        lambda: client.confirm_clock(NOW),
        lambda: client.release_hold("n", "over"),
    ):
        with pytest.raises((lethe.Unavailable, lethe.ResourceExhausted)):
            call()
    assert len(fake.seen) == 14


@pytest.mark.parametrize(
    "code", ["ABORTED", "NOT_FOUND", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "DATA_LOSS", "CANCELLED"]
)
def test_other_failures_are_final(fake, client, code):
    fake.answer("GetRecord", Fail(grpc.StatusCode[code]))
    with pytest.raises(lethe.LetheError) as caught:
        client.get_record("n")
    assert caught.value.code == code and len(fake.seen) == 1


def test_the_vault_hears_of_the_deadline(fake, client):
    fake.answer("GetRecord", record_pb2.GetRecordResponse(record=record()))
    client.get_record("n")
    client.get_record("n", deadline=5)
    granted = [seconds for _, _, seconds in fake.seen]
    assert 25 < granted[0] <= 30.1 and 3 < granted[1] <= 5.1
    with pytest.raises(ValueError, match="at most 60"):
        client.get_record("n", deadline=60.1)


def test_all_attempts_share_one_deadline(fake, client):
    def slow(request, context):
        time.sleep(0.4)
        context.abort(grpc.StatusCode.UNAVAILABLE, "")

    fake.answer("GetRecord", slow)
    start = time.monotonic()
    with pytest.raises((lethe.Unavailable, lethe.DeadlineExceeded)):
        client.get_record("n", deadline=0.7)
    assert time.monotonic() - start < 1.2
    assert len(fake.seen) == 2


def test_a_vault_that_comes_back_is_reached(fake, client):
    """Between attempts the connection is tried anew: gRPC by itself would tell its last failure for a second."""
    fake.answer("GetRecord", record_pb2.GetRecordResponse(record=record()))
    client.get_record("n")
    fake.stop()
    back = threading.Timer(0.12, fake.start)
    back.start()
    client.get_record("n")
    back.join()


def test_a_restart_of_the_vault_is_not_noticed(own_lethed):
    with lethe.Vault.connect(own_lethed.folder / "client-application.toml") as vault:
        assert list(vault.list_tenants()) == []
        own_lethed.stop()
        own_lethed.start()
        assert list(vault.list_tenants()) == []

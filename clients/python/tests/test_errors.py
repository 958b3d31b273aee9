"""The table of clients/CONFORMANCE.md, from bytes as the vault sends them."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

import lethe
from lethe.errors import from_status


def status(*parts):
    packed = []
    for part in parts:
        packed.append(Any())
        packed[-1].Pack(part)
    return Status(details=packed).SerializeToString()


def reason(text, domain="lethe", **metadata):
    return details.ErrorInfo(reason=text, domain=domain, metadata=metadata)


@pytest.mark.parametrize(
    ("code", "why", "kind"),
    [
        ("INVALID_ARGUMENT", "", lethe.InvalidArgument),
        ("NOT_FOUND", "NOT_FOUND", lethe.NotFound),
        ("NOT_FOUND", "ERASED", lethe.Erased),
        ("ALREADY_EXISTS", "EXISTS", lethe.AlreadyExists),
        ("ALREADY_EXISTS", "DUPLICATE_VALUE", lethe.Duplicate),
        ("ABORTED", "ETAG_MISMATCH", lethe.Stale),
        ("ABORTED", "REQUEST_ID_REUSED", lethe.RequestIdReused),
        ("ABORTED", "CHANGES_MISSED", lethe.ChangesMissed),
        ("ABORTED", "CONFLICT", lethe.Aborted),
        ("FAILED_PRECONDITION", "PRECONDITION", lethe.FailedPrecondition),
        ("PERMISSION_DENIED", "", lethe.PermissionDenied),
        ("RESOURCE_EXHAUSTED", "LIMIT", lethe.ResourceExhausted),
        ("UNAVAILABLE", "UNAVAILABLE", lethe.Unavailable),
        ("DEADLINE_EXCEEDED", "STALLED", lethe.DeadlineExceeded),
        ("DATA_LOSS", "DAMAGED", lethe.DataLoss),
        ("INTERNAL", "", lethe.LetheError),
        ("OUT_OF_RANGE", "ERASED", lethe.LetheError),
    ],
)
def test_each_kind_of_failure_has_its_type(code, why, kind):
    error = from_status(code, "what it says", status(reason(why)))
    assert type(error) is kind
    assert (error.code, error.message, str(error)) == (code, "what it says", f"{code}: what it says")


def test_details_are_carried():
    bad = details.BadRequest()
    bad.field_violations.add(field="record.fields.email", description="must have exactly one @")
    error = from_status("INVALID_ARGUMENT", "", status(bad, details.RequestInfo(request_id="requests[1]")))
    assert error.violations == [("record.fields.email", "must have exactly one @")]
    assert error.violations[0].field == "record.fields.email" and error.part == "requests[1]"

    failed = details.PreconditionFailure()
    failed.violations.add(type="SCHEMA_REVISION", subject="schema.retention", description="cannot change")
    error = from_status("FAILED_PRECONDITION", "", status(failed))
    assert error.violations == [("schema.retention", "cannot change")]

    resource = details.ResourceInfo(resource_name="tenants/t/records/1")
    error = from_status("ALREADY_EXISTS", "", status(reason("DUPLICATE_VALUE", field="email"), resource))
    assert (error.field, error.name) == ("email", "tenants/t/records/1")


def test_the_word_of_somebody_else_is_not_the_vaults():
    assert type(from_status("NOT_FOUND", "", status(reason("ERASED", domain="proxy")))) is lethe.NotFound


def test_details_that_do_not_parse_leave_the_code():
    assert type(from_status("NOT_FOUND", "", b"\xff\xff\xff")) is lethe.NotFound


def test_an_erased_record_is_one_that_is_not_found():
    assert issubclass(lethe.Erased, lethe.NotFound)
    assert issubclass(lethe.Duplicate, lethe.AlreadyExists)
    for kind in (lethe.Stale, lethe.RequestIdReused, lethe.ChangesMissed):
        assert issubclass(kind, lethe.Aborted)

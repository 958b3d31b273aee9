"""What a call may fail with.

An error names fields, parts and resources, never a value: its text is made here from what the vault says of names, and
what the vault says holds no values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import grpc
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"
_DOMAIN = "lethe"


class Violation(NamedTuple):
    """One fault of a request."""

    field: str
    description: str


class LetheError(Exception):
    """A call failed. `code` is gRPC's name of the kind of failure, such as `NOT_FOUND`."""

    def __init__(self, code: str, message: str, part: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.part = part
        """Which of several, such as `names[1]` of a batch; empty if the call was about one."""


class ConfigError(LetheError):
    """The client's configuration cannot be used."""

    def __init__(self, message: str) -> None:
        super().__init__("CONFIG", message)


class InvalidArgument(LetheError):
    """The request is wrong. Nothing was changed."""

    def __init__(self, message: str, violations: Sequence[Violation] = (), part: str = "") -> None:
        super().__init__("INVALID_ARGUMENT", message, part)
        self.violations = list(violations)

    @classmethod
    def of(cls, field: str, description: str) -> InvalidArgument:
        """Of one field."""
        return cls(f"{field}: {description}", [Violation(field, description)])


class NotFound(LetheError):
    """It never was, or not under this name."""


class Erased(NotFound):
    """It was there. Its keys are destroyed."""


class AlreadyExists(LetheError):
    """Something has this id already."""


class Duplicate(AlreadyExists):
    """Another record has this value of a unique field."""

    def __init__(self, code: str, message: str, part: str, field: str, name: str) -> None:
        super().__init__(code, message, part)
        self.field = field
        self.name = name
        """The record that has it."""


class Aborted(LetheError):
    """The call lost against another. Begin again from what is there now."""


class Stale(Aborted):
    """The record changed since this etag was given: read it, decide anew."""


class RequestIdReused(Aborted):
    """The request id stands for another call."""


class ChangesMissed(Aborted):
    """A watch was too far behind: list what there is, and watch anew."""


class FailedPrecondition(LetheError):
    """The state does not allow it, such as a schema that does not follow from its present revision."""

    def __init__(self, message: str, violations: Sequence[Violation] = (), part: str = "") -> None:
        super().__init__("FAILED_PRECONDITION", message, part)
        self.violations = list(violations)


class Postponed(LetheError):
    """A legal hold keeps what was to be erased. It is erased by itself when the last hold ends. What no hold keeps is
    erased: `receipts` has the evidence."""

    def __init__(self, names: Sequence[str], receipts: Sequence[Any] = ()) -> None:
        super().__init__("POSTPONED", f"{len(names)} erasures wait until legal holds end")
        self.names = list(names)
        self.receipts = list(receipts)


class PermissionDenied(LetheError):
    """This identity has no right to it."""


class ResourceExhausted(LetheError):
    """The vault is full or at a bound. It did nothing."""


class Unavailable(LetheError):
    """The vault was not reached, or left. Whether a change took effect is unknown."""


class DeadlineExceeded(LetheError):
    """The time was up. Whether a change took effect is unknown."""


class DataLoss(LetheError):
    """Rows are damaged. `names` says which records, where that is known."""

    def __init__(self, message: str, names: Sequence[str] = (), part: str = "") -> None:
        super().__init__("DATA_LOSS", message, part)
        self.names = list(names)


_PLAIN: dict[str, type[LetheError]] = {
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": AlreadyExists,
    "ABORTED": Aborted,
    "PERMISSION_DENIED": PermissionDenied,
    "RESOURCE_EXHAUSTED": ResourceExhausted,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
}
_BY_REASON: dict[tuple[str, str], type[LetheError]] = {
    ("NOT_FOUND", "ERASED"): Erased,
    ("ABORTED", "ETAG_MISMATCH"): Stale,
    ("ABORTED", "REQUEST_ID_REUSED"): RequestIdReused,
    ("ABORTED", "CHANGES_MISSED"): ChangesMissed,
}


class _Details:
    """The `google.rpc` messages of a status that this client knows."""

    def __init__(self, status: bytes) -> None:
        self.violations: list[Violation] = []
        self.reason = self.field = self.name = self.part = ""
        parsed = status_pb2.Status()
        try:
            parsed.ParseFromString(status)
        except Exception:
            # A status of somebody in between: its code still says what happened.
            return
        for detail in parsed.details:
            self._take(detail)

    def _take(self, detail: Any) -> None:
        bad = error_details_pb2.BadRequest()
        info = error_details_pb2.ErrorInfo()
        failed = error_details_pb2.PreconditionFailure()
        resource = error_details_pb2.ResourceInfo()
        request = error_details_pb2.RequestInfo()
        if detail.Unpack(bad):
            self.violations += [Violation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(failed):
            self.violations += [Violation(v.subject, v.description) for v in failed.violations]
        elif detail.Unpack(info) and info.domain == _DOMAIN:
            self.reason = info.reason
            self.field = info.metadata.get("field", "")
        elif detail.Unpack(resource):
            self.name = resource.resource_name
        elif detail.Unpack(request):
            self.part = request.request_id


def from_status(code: str, message: str, details: bytes = b"") -> LetheError:
    """The error of a gRPC status."""
    found = _Details(details)
    if code == "INVALID_ARGUMENT":
        return InvalidArgument(message, found.violations, found.part)
    if code == "FAILED_PRECONDITION":
        return FailedPrecondition(message, found.violations, found.part)
    if code == "DATA_LOSS":
        return DataLoss(message, (), found.part)
    if (code, found.reason) == ("ALREADY_EXISTS", "DUPLICATE_VALUE"):
        return Duplicate(code, message, found.part, found.field, found.name)
    kind = _BY_REASON.get((code, found.reason)) or _PLAIN.get(code, LetheError)
    return kind(code, message, found.part)


def from_rpc(error: grpc.RpcError) -> LetheError:
    """The error of a call that gRPC gave up. What both of its flavours have is asked for."""
    call: Any = error
    details = b""
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            details = value
    return from_status(call.code().name, call.details() or "", details)

import datetime

from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lethe.v1 import erasure_pb2 as _erasure_pb2
from lethe.v1 import schema_pb2 as _schema_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RetentionStart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETENTION_START_UNSPECIFIED: _ClassVar[RetentionStart]
    RETENTION_START_CREATION: _ClassVar[RetentionStart]
    RETENTION_START_LAST_USE: _ClassVar[RetentionStart]
    RETENTION_START_EVENT: _ClassVar[RetentionStart]

class RetentionEffect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETENTION_EFFECT_UNSPECIFIED: _ClassVar[RetentionEffect]
    RETENTION_EFFECT_PERIOD: _ClassVar[RetentionEffect]
    RETENTION_EFFECT_END_DATE: _ClassVar[RetentionEffect]
    RETENTION_EFFECT_MAXIMUM: _ClassVar[RetentionEffect]
    RETENTION_EFFECT_MINIMUM: _ClassVar[RetentionEffect]
    RETENTION_EFFECT_OPEN_ENDED: _ClassVar[RetentionEffect]

class ClockState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLOCK_STATE_UNSPECIFIED: _ClassVar[ClockState]
    CLOCK_STATE_SOUND: _ClassVar[ClockState]
    CLOCK_STATE_AHEAD: _ClassVar[ClockState]
    CLOCK_STATE_BEHIND: _ClassVar[ClockState]
    CLOCK_STATE_UNCONFIRMED: _ClassVar[ClockState]
RETENTION_START_UNSPECIFIED: RetentionStart
RETENTION_START_CREATION: RetentionStart
RETENTION_START_LAST_USE: RetentionStart
RETENTION_START_EVENT: RetentionStart
RETENTION_EFFECT_UNSPECIFIED: RetentionEffect
RETENTION_EFFECT_PERIOD: RetentionEffect
RETENTION_EFFECT_END_DATE: RetentionEffect
RETENTION_EFFECT_MAXIMUM: RetentionEffect
RETENTION_EFFECT_MINIMUM: RetentionEffect
RETENTION_EFFECT_OPEN_ENDED: RetentionEffect
CLOCK_STATE_UNSPECIFIED: ClockState
CLOCK_STATE_SOUND: ClockState
CLOCK_STATE_AHEAD: ClockState
CLOCK_STATE_BEHIND: ClockState
CLOCK_STATE_UNCONFIRMED: ClockState

class RetentionPolicy(_message.Message):
    __slots__ = ("name", "schemas", "classification", "purpose", "start", "event_field", "period", "grace_period", "end_date", "minimum", "maximum", "open_ended", "time_zone", "legal_basis", "description", "etag", "update_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEMAS_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    END_DATE_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    OPEN_ENDED_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    LEGAL_BASIS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    schemas: _containers.RepeatedScalarFieldContainer[str]
    classification: _schema_pb2.Classification
    purpose: str
    start: RetentionStart
    event_field: str
    period: str
    grace_period: str
    end_date: str
    minimum: str
    maximum: str
    open_ended: bool
    time_zone: str
    legal_basis: str
    description: str
    etag: str
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., schemas: _Optional[_Iterable[str]] = ..., classification: _Optional[_Union[_schema_pb2.Classification, str]] = ..., purpose: _Optional[str] = ..., start: _Optional[_Union[RetentionStart, str]] = ..., event_field: _Optional[str] = ..., period: _Optional[str] = ..., grace_period: _Optional[str] = ..., end_date: _Optional[str] = ..., minimum: _Optional[str] = ..., maximum: _Optional[str] = ..., open_ended: bool = ..., time_zone: _Optional[str] = ..., legal_basis: _Optional[str] = ..., description: _Optional[str] = ..., etag: _Optional[str] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateRetentionPolicyRequest(_message.Message):
    __slots__ = ("parent", "retention_policy_id", "retention_policy")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    RETENTION_POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    RETENTION_POLICY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    retention_policy_id: str
    retention_policy: RetentionPolicy
    def __init__(self, parent: _Optional[str] = ..., retention_policy_id: _Optional[str] = ..., retention_policy: _Optional[_Union[RetentionPolicy, _Mapping]] = ...) -> None: ...

class CreateRetentionPolicyResponse(_message.Message):
    __slots__ = ("retention_policy",)
    RETENTION_POLICY_FIELD_NUMBER: _ClassVar[int]
    retention_policy: RetentionPolicy
    def __init__(self, retention_policy: _Optional[_Union[RetentionPolicy, _Mapping]] = ...) -> None: ...

class UpdateRetentionPolicyRequest(_message.Message):
    __slots__ = ("retention_policy", "update_mask")
    RETENTION_POLICY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    retention_policy: RetentionPolicy
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, retention_policy: _Optional[_Union[RetentionPolicy, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateRetentionPolicyResponse(_message.Message):
    __slots__ = ("retention_policy",)
    RETENTION_POLICY_FIELD_NUMBER: _ClassVar[int]
    retention_policy: RetentionPolicy
    def __init__(self, retention_policy: _Optional[_Union[RetentionPolicy, _Mapping]] = ...) -> None: ...

class GetRetentionPolicyRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetRetentionPolicyResponse(_message.Message):
    __slots__ = ("retention_policy",)
    RETENTION_POLICY_FIELD_NUMBER: _ClassVar[int]
    retention_policy: RetentionPolicy
    def __init__(self, retention_policy: _Optional[_Union[RetentionPolicy, _Mapping]] = ...) -> None: ...

class ListRetentionPoliciesRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRetentionPoliciesResponse(_message.Message):
    __slots__ = ("retention_policies", "next_page_token")
    RETENTION_POLICIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    retention_policies: _containers.RepeatedCompositeFieldContainer[RetentionPolicy]
    next_page_token: str
    def __init__(self, retention_policies: _Optional[_Iterable[_Union[RetentionPolicy, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteRetentionPolicyRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteRetentionPolicyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExplainRetentionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RetentionLine(_message.Message):
    __slots__ = ("rule", "effect", "end_date", "due_time", "decides", "legal_basis")
    RULE_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    END_DATE_FIELD_NUMBER: _ClassVar[int]
    DUE_TIME_FIELD_NUMBER: _ClassVar[int]
    DECIDES_FIELD_NUMBER: _ClassVar[int]
    LEGAL_BASIS_FIELD_NUMBER: _ClassVar[int]
    rule: str
    effect: RetentionEffect
    end_date: str
    due_time: _timestamp_pb2.Timestamp
    decides: bool
    legal_basis: str
    def __init__(self, rule: _Optional[str] = ..., effect: _Optional[_Union[RetentionEffect, str]] = ..., end_date: _Optional[str] = ..., due_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., decides: bool = ..., legal_basis: _Optional[str] = ...) -> None: ...

class ExplainRetentionResponse(_message.Message):
    __slots__ = ("expire_date", "present_expire_date", "lines")
    EXPIRE_DATE_FIELD_NUMBER: _ClassVar[int]
    PRESENT_EXPIRE_DATE_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    expire_date: str
    present_expire_date: str
    lines: _containers.RepeatedCompositeFieldContainer[RetentionLine]
    def __init__(self, expire_date: _Optional[str] = ..., present_expire_date: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[RetentionLine, _Mapping]]] = ...) -> None: ...

class PreviewRetentionRequest(_message.Message):
    __slots__ = ("parent", "date", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    DATE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    date: str
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., date: _Optional[str] = ..., page_token: _Optional[str] = ...) -> None: ...

class RetentionForecast(_message.Message):
    __slots__ = ("schema", "expire_date", "record_count", "staying_count", "held_count", "without_basis_count", "damaged_count")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_DATE_FIELD_NUMBER: _ClassVar[int]
    RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    STAYING_COUNT_FIELD_NUMBER: _ClassVar[int]
    HELD_COUNT_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_BASIS_COUNT_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_COUNT_FIELD_NUMBER: _ClassVar[int]
    schema: str
    expire_date: str
    record_count: int
    staying_count: int
    held_count: int
    without_basis_count: int
    damaged_count: int
    def __init__(self, schema: _Optional[str] = ..., expire_date: _Optional[str] = ..., record_count: _Optional[int] = ..., staying_count: _Optional[int] = ..., held_count: _Optional[int] = ..., without_basis_count: _Optional[int] = ..., damaged_count: _Optional[int] = ...) -> None: ...

class PreviewRetentionResponse(_message.Message):
    __slots__ = ("forecasts", "next_page_token")
    FORECASTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    forecasts: _containers.RepeatedCompositeFieldContainer[RetentionForecast]
    next_page_token: str
    def __init__(self, forecasts: _Optional[_Iterable[_Union[RetentionForecast, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetRetentionStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RebucketingState(_message.Message):
    __slots__ = ("schema", "percent", "paused")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    schema: str
    percent: int
    paused: bool
    def __init__(self, schema: _Optional[str] = ..., percent: _Optional[int] = ..., paused: bool = ...) -> None: ...

class GetRetentionStatusResponse(_message.Message):
    __slots__ = ("due_by_time", "clock_state", "last_sweep_time", "sweep_interval_seconds", "due_bucket_count", "closed_bucket_count", "closed_record_count", "erased_bucket_count", "erased_record_count", "lateness_p50_millis", "lateness_p99_millis", "rebucketing", "hold_count", "postponed_erasure_count")
    DUE_BY_TIME_FIELD_NUMBER: _ClassVar[int]
    CLOCK_STATE_FIELD_NUMBER: _ClassVar[int]
    LAST_SWEEP_TIME_FIELD_NUMBER: _ClassVar[int]
    SWEEP_INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DUE_BUCKET_COUNT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_BUCKET_COUNT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    ERASED_BUCKET_COUNT_FIELD_NUMBER: _ClassVar[int]
    ERASED_RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    LATENESS_P50_MILLIS_FIELD_NUMBER: _ClassVar[int]
    LATENESS_P99_MILLIS_FIELD_NUMBER: _ClassVar[int]
    REBUCKETING_FIELD_NUMBER: _ClassVar[int]
    HOLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    POSTPONED_ERASURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    due_by_time: _timestamp_pb2.Timestamp
    clock_state: ClockState
    last_sweep_time: _timestamp_pb2.Timestamp
    sweep_interval_seconds: int
    due_bucket_count: int
    closed_bucket_count: int
    closed_record_count: int
    erased_bucket_count: int
    erased_record_count: int
    lateness_p50_millis: int
    lateness_p99_millis: int
    rebucketing: _containers.RepeatedCompositeFieldContainer[RebucketingState]
    hold_count: int
    postponed_erasure_count: int
    def __init__(self, due_by_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., clock_state: _Optional[_Union[ClockState, str]] = ..., last_sweep_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sweep_interval_seconds: _Optional[int] = ..., due_bucket_count: _Optional[int] = ..., closed_bucket_count: _Optional[int] = ..., closed_record_count: _Optional[int] = ..., erased_bucket_count: _Optional[int] = ..., erased_record_count: _Optional[int] = ..., lateness_p50_millis: _Optional[int] = ..., lateness_p99_millis: _Optional[int] = ..., rebucketing: _Optional[_Iterable[_Union[RebucketingState, _Mapping]]] = ..., hold_count: _Optional[int] = ..., postponed_erasure_count: _Optional[int] = ...) -> None: ...

class RunRetentionRequest(_message.Message):
    __slots__ = ("dry_run",)
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    dry_run: bool
    def __init__(self, dry_run: bool = ...) -> None: ...

class RetentionRun(_message.Message):
    __slots__ = ("schema", "expire_date", "record_count", "staying_count", "receipt")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_DATE_FIELD_NUMBER: _ClassVar[int]
    RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    STAYING_COUNT_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    schema: str
    expire_date: str
    record_count: int
    staying_count: int
    receipt: _erasure_pb2.ErasureReceipt
    def __init__(self, schema: _Optional[str] = ..., expire_date: _Optional[str] = ..., record_count: _Optional[int] = ..., staying_count: _Optional[int] = ..., receipt: _Optional[_Union[_erasure_pb2.ErasureReceipt, _Mapping]] = ...) -> None: ...

class RunRetentionResponse(_message.Message):
    __slots__ = ("runs", "failed_bucket_count")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    FAILED_BUCKET_COUNT_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[RetentionRun]
    failed_bucket_count: int
    def __init__(self, runs: _Optional[_Iterable[_Union[RetentionRun, _Mapping]]] = ..., failed_bucket_count: _Optional[int] = ...) -> None: ...

class PauseRebucketingRequest(_message.Message):
    __slots__ = ("parent",)
    PARENT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    def __init__(self, parent: _Optional[str] = ...) -> None: ...

class PauseRebucketingResponse(_message.Message):
    __slots__ = ("unfinished",)
    UNFINISHED_FIELD_NUMBER: _ClassVar[int]
    unfinished: bool
    def __init__(self, unfinished: bool = ...) -> None: ...

class ResumeRebucketingRequest(_message.Message):
    __slots__ = ("parent",)
    PARENT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    def __init__(self, parent: _Optional[str] = ...) -> None: ...

class ResumeRebucketingResponse(_message.Message):
    __slots__ = ("unfinished",)
    UNFINISHED_FIELD_NUMBER: _ClassVar[int]
    unfinished: bool
    def __init__(self, unfinished: bool = ...) -> None: ...

class ConfirmClockRequest(_message.Message):
    __slots__ = ("time",)
    TIME_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ConfirmClockResponse(_message.Message):
    __slots__ = ("due_by_time",)
    DUE_BY_TIME_FIELD_NUMBER: _ClassVar[int]
    due_by_time: _timestamp_pb2.Timestamp
    def __init__(self, due_by_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

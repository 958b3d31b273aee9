import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ErasureLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERASURE_LEVEL_UNSPECIFIED: _ClassVar[ErasureLevel]
    ERASURE_LEVEL_E0_TOMBSTONED: _ClassVar[ErasureLevel]
    ERASURE_LEVEL_E1_LOCAL_ANCHOR_SCRUBBED: _ClassVar[ErasureLevel]
    ERASURE_LEVEL_E2_ALL_ANCHORS_SCRUBBED: _ClassVar[ErasureLevel]
    ERASURE_LEVEL_E3_CIPHERTEXT_COLLECTED: _ClassVar[ErasureLevel]

class ErasureReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERASURE_REASON_UNSPECIFIED: _ClassVar[ErasureReason]
    ERASURE_REASON_SUBJECT_REQUEST: _ClassVar[ErasureReason]
    ERASURE_REASON_RETENTION: _ClassVar[ErasureReason]
    ERASURE_REASON_SUPERSEDED: _ClassVar[ErasureReason]
    ERASURE_REASON_CONTRACT: _ClassVar[ErasureReason]
    ERASURE_REASON_UNACKNOWLEDGED: _ClassVar[ErasureReason]
    ERASURE_REASON_MOVED: _ClassVar[ErasureReason]
ERASURE_LEVEL_UNSPECIFIED: ErasureLevel
ERASURE_LEVEL_E0_TOMBSTONED: ErasureLevel
ERASURE_LEVEL_E1_LOCAL_ANCHOR_SCRUBBED: ErasureLevel
ERASURE_LEVEL_E2_ALL_ANCHORS_SCRUBBED: ErasureLevel
ERASURE_LEVEL_E3_CIPHERTEXT_COLLECTED: ErasureLevel
ERASURE_REASON_UNSPECIFIED: ErasureReason
ERASURE_REASON_SUBJECT_REQUEST: ErasureReason
ERASURE_REASON_RETENTION: ErasureReason
ERASURE_REASON_SUPERSEDED: ErasureReason
ERASURE_REASON_CONTRACT: ErasureReason
ERASURE_REASON_UNACKNOWLEDGED: ErasureReason
ERASURE_REASON_MOVED: ErasureReason

class ErasureReceipt(_message.Message):
    __slots__ = ("name", "level", "reason", "generation", "leaf_index", "request_time", "erase_time", "signed_bytes", "signature", "public_key", "caveat")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    LEAF_INDEX_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIME_FIELD_NUMBER: _ClassVar[int]
    ERASE_TIME_FIELD_NUMBER: _ClassVar[int]
    SIGNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    CAVEAT_FIELD_NUMBER: _ClassVar[int]
    name: str
    level: ErasureLevel
    reason: ErasureReason
    generation: int
    leaf_index: int
    request_time: _timestamp_pb2.Timestamp
    erase_time: _timestamp_pb2.Timestamp
    signed_bytes: bytes
    signature: bytes
    public_key: bytes
    caveat: str
    def __init__(self, name: _Optional[str] = ..., level: _Optional[_Union[ErasureLevel, str]] = ..., reason: _Optional[_Union[ErasureReason, str]] = ..., generation: _Optional[int] = ..., leaf_index: _Optional[int] = ..., request_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., erase_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., signed_bytes: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., caveat: _Optional[str] = ...) -> None: ...

class PostponedErasure(_message.Message):
    __slots__ = ("name", "reason", "request_time", "holds")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIME_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: ErasureReason
    request_time: _timestamp_pb2.Timestamp
    holds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[_Union[ErasureReason, str]] = ..., request_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., holds: _Optional[_Iterable[str]] = ...) -> None: ...

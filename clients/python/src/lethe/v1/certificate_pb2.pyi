import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lethe.v1 import erasure_pb2 as _erasure_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetCertificateRequest(_message.Message):
    __slots__ = ("parent", "record", "subject", "bucket", "leaf_index", "checkpoint_size")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    LEAF_INDEX_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_SIZE_FIELD_NUMBER: _ClassVar[int]
    parent: str
    record: str
    subject: str
    bucket: BucketUnit
    leaf_index: int
    checkpoint_size: int
    def __init__(self, parent: _Optional[str] = ..., record: _Optional[str] = ..., subject: _Optional[str] = ..., bucket: _Optional[_Union[BucketUnit, _Mapping]] = ..., leaf_index: _Optional[int] = ..., checkpoint_size: _Optional[int] = ...) -> None: ...

class BucketUnit(_message.Message):
    __slots__ = ("schema", "expire_date")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_DATE_FIELD_NUMBER: _ClassVar[int]
    schema: str
    expire_date: str
    def __init__(self, schema: _Optional[str] = ..., expire_date: _Optional[str] = ...) -> None: ...

class GetCertificateResponse(_message.Message):
    __slots__ = ("document",)
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    document: str
    def __init__(self, document: _Optional[str] = ...) -> None: ...

class ListCertificatesRequest(_message.Message):
    __slots__ = ("parent", "start_time", "end_time", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCertificatesResponse(_message.Message):
    __slots__ = ("certificates", "next_page_token")
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    certificates: _containers.RepeatedCompositeFieldContainer[CertificateSummary]
    next_page_token: str
    def __init__(self, certificates: _Optional[_Iterable[_Union[CertificateSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CertificateSummary(_message.Message):
    __slots__ = ("leaf_index", "schema", "expire_date", "record_count", "reason", "level", "request_time", "erase_time", "generation")
    LEAF_INDEX_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_DATE_FIELD_NUMBER: _ClassVar[int]
    RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIME_FIELD_NUMBER: _ClassVar[int]
    ERASE_TIME_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    leaf_index: int
    schema: str
    expire_date: str
    record_count: int
    reason: _erasure_pb2.ErasureReason
    level: _erasure_pb2.ErasureLevel
    request_time: _timestamp_pb2.Timestamp
    erase_time: _timestamp_pb2.Timestamp
    generation: int
    def __init__(self, leaf_index: _Optional[int] = ..., schema: _Optional[str] = ..., expire_date: _Optional[str] = ..., record_count: _Optional[int] = ..., reason: _Optional[_Union[_erasure_pb2.ErasureReason, str]] = ..., level: _Optional[_Union[_erasure_pb2.ErasureLevel, str]] = ..., request_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., erase_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., generation: _Optional[int] = ...) -> None: ...

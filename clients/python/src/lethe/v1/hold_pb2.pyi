import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lethe.v1 import erasure_pb2 as _erasure_pb2
from lethe.v1 import record_pb2 as _record_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HoldReader(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOLD_READER_UNSPECIFIED: _ClassVar[HoldReader]
    HOLD_READER_APPLICATION: _ClassVar[HoldReader]
    HOLD_READER_SUPPORT: _ClassVar[HoldReader]
    HOLD_READER_PRIVACY_OFFICER: _ClassVar[HoldReader]
HOLD_READER_UNSPECIFIED: HoldReader
HOLD_READER_APPLICATION: HoldReader
HOLD_READER_SUPPORT: HoldReader
HOLD_READER_PRIVACY_OFFICER: HoldReader

class HoldQuery(_message.Message):
    __slots__ = ("schema", "fields")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _record_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_record_pb2.Value, _Mapping]] = ...) -> None: ...
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    schema: str
    fields: _containers.MessageMap[str, _record_pb2.Value]
    def __init__(self, schema: _Optional[str] = ..., fields: _Optional[_Mapping[str, _record_pb2.Value]] = ...) -> None: ...

class Hold(_message.Message):
    __slots__ = ("name", "record", "subject", "query", "reason", "issuer", "reference", "expire_time", "readers", "create_time", "creator", "end_time", "releaser", "release_note")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    READERS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATOR_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    RELEASER_FIELD_NUMBER: _ClassVar[int]
    RELEASE_NOTE_FIELD_NUMBER: _ClassVar[int]
    name: str
    record: str
    subject: str
    query: HoldQuery
    reason: str
    issuer: str
    reference: str
    expire_time: _timestamp_pb2.Timestamp
    readers: _containers.RepeatedScalarFieldContainer[HoldReader]
    create_time: _timestamp_pb2.Timestamp
    creator: str
    end_time: _timestamp_pb2.Timestamp
    releaser: str
    release_note: str
    def __init__(self, name: _Optional[str] = ..., record: _Optional[str] = ..., subject: _Optional[str] = ..., query: _Optional[_Union[HoldQuery, _Mapping]] = ..., reason: _Optional[str] = ..., issuer: _Optional[str] = ..., reference: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., readers: _Optional[_Iterable[_Union[HoldReader, str]]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., creator: _Optional[str] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., releaser: _Optional[str] = ..., release_note: _Optional[str] = ...) -> None: ...

class PlaceHoldRequest(_message.Message):
    __slots__ = ("parent", "hold", "request_id")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    parent: str
    hold: Hold
    request_id: str
    def __init__(self, parent: _Optional[str] = ..., hold: _Optional[_Union[Hold, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class PlaceHoldResponse(_message.Message):
    __slots__ = ("hold",)
    HOLD_FIELD_NUMBER: _ClassVar[int]
    hold: Hold
    def __init__(self, hold: _Optional[_Union[Hold, _Mapping]] = ...) -> None: ...

class GetHoldRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetHoldResponse(_message.Message):
    __slots__ = ("hold",)
    HOLD_FIELD_NUMBER: _ClassVar[int]
    hold: Hold
    def __init__(self, hold: _Optional[_Union[Hold, _Mapping]] = ...) -> None: ...

class ListHoldsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "show_ended")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SHOW_ENDED_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    show_ended: bool
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., show_ended: bool = ...) -> None: ...

class ListHoldsResponse(_message.Message):
    __slots__ = ("holds", "next_page_token")
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    holds: _containers.RepeatedCompositeFieldContainer[Hold]
    next_page_token: str
    def __init__(self, holds: _Optional[_Iterable[_Union[Hold, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ReleaseHoldRequest(_message.Message):
    __slots__ = ("name", "note")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    name: str
    note: str
    def __init__(self, name: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...

class ReleaseHoldResponse(_message.Message):
    __slots__ = ("hold",)
    HOLD_FIELD_NUMBER: _ClassVar[int]
    hold: Hold
    def __init__(self, hold: _Optional[_Union[Hold, _Mapping]] = ...) -> None: ...

class ListPostponedErasuresRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPostponedErasuresResponse(_message.Message):
    __slots__ = ("postponed", "next_page_token")
    POSTPONED_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    postponed: _containers.RepeatedCompositeFieldContainer[_erasure_pb2.PostponedErasure]
    next_page_token: str
    def __init__(self, postponed: _Optional[_Iterable[_Union[_erasure_pb2.PostponedErasure, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

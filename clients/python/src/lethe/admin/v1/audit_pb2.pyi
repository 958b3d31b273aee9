import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lethe.v1 import schema_pb2 as _schema_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuditEntryKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUDIT_ENTRY_KIND_UNSPECIFIED: _ClassVar[AuditEntryKind]
    AUDIT_ENTRY_KIND_CALL: _ClassVar[AuditEntryKind]
    AUDIT_ENTRY_KIND_REFUSALS: _ClassVar[AuditEntryKind]
    AUDIT_ENTRY_KIND_GAP: _ClassVar[AuditEntryKind]
    AUDIT_ENTRY_KIND_VAULT: _ClassVar[AuditEntryKind]
    AUDIT_ENTRY_KIND_UNREADABLE: _ClassVar[AuditEntryKind]
AUDIT_ENTRY_KIND_UNSPECIFIED: AuditEntryKind
AUDIT_ENTRY_KIND_CALL: AuditEntryKind
AUDIT_ENTRY_KIND_REFUSALS: AuditEntryKind
AUDIT_ENTRY_KIND_GAP: AuditEntryKind
AUDIT_ENTRY_KIND_VAULT: AuditEntryKind
AUDIT_ENTRY_KIND_UNREADABLE: AuditEntryKind

class AuditMember(_message.Message):
    __slots__ = ("subject", "record")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    subject: bytes
    record: bytes
    def __init__(self, subject: _Optional[bytes] = ..., record: _Optional[bytes] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("index", "kind", "method", "code", "create_time", "start_time", "principal", "role", "tenant", "schema", "clear", "masked", "purpose", "total", "part", "members", "generation", "leaf", "minimum_index")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    MASKED_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    kind: AuditEntryKind
    method: str
    code: int
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    principal: str
    role: str
    tenant: str
    schema: str
    clear: _containers.RepeatedScalarFieldContainer[_schema_pb2.Classification]
    masked: _containers.RepeatedScalarFieldContainer[_schema_pb2.Classification]
    purpose: str
    total: int
    part: int
    members: _containers.RepeatedCompositeFieldContainer[AuditMember]
    generation: int
    leaf: bytes
    minimum_index: int
    def __init__(self, index: _Optional[int] = ..., kind: _Optional[_Union[AuditEntryKind, str]] = ..., method: _Optional[str] = ..., code: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., principal: _Optional[str] = ..., role: _Optional[str] = ..., tenant: _Optional[str] = ..., schema: _Optional[str] = ..., clear: _Optional[_Iterable[_Union[_schema_pb2.Classification, str]]] = ..., masked: _Optional[_Iterable[_Union[_schema_pb2.Classification, str]]] = ..., purpose: _Optional[str] = ..., total: _Optional[int] = ..., part: _Optional[int] = ..., members: _Optional[_Iterable[_Union[AuditMember, _Mapping]]] = ..., generation: _Optional[int] = ..., leaf: _Optional[bytes] = ..., minimum_index: _Optional[int] = ...) -> None: ...

class ListAuditEntriesRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "subject", "principal")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    subject: str
    principal: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., subject: _Optional[str] = ..., principal: _Optional[str] = ...) -> None: ...

class ListAuditEntriesResponse(_message.Message):
    __slots__ = ("entries", "next_page_token", "minimum_index")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_INDEX_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    next_page_token: str
    minimum_index: int
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., minimum_index: _Optional[int] = ...) -> None: ...

class ListSubjectAuditEntriesRequest(_message.Message):
    __slots__ = ("parent", "record", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    record: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., record: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSubjectAuditEntriesResponse(_message.Message):
    __slots__ = ("entries", "next_page_token", "minimum_index")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_INDEX_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    next_page_token: str
    minimum_index: int
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., minimum_index: _Optional[int] = ...) -> None: ...

class ExportAuditEntriesRequest(_message.Message):
    __slots__ = ("start_index",)
    START_INDEX_FIELD_NUMBER: _ClassVar[int]
    start_index: int
    def __init__(self, start_index: _Optional[int] = ...) -> None: ...

class ExportAuditEntriesResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ...) -> None: ...

class TailAuditEntriesRequest(_message.Message):
    __slots__ = ("parent", "start_index", "subject", "principal")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    START_INDEX_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    parent: str
    start_index: int
    subject: str
    principal: str
    def __init__(self, parent: _Optional[str] = ..., start_index: _Optional[int] = ..., subject: _Optional[str] = ..., principal: _Optional[str] = ...) -> None: ...

class TailAuditEntriesResponse(_message.Message):
    __slots__ = ("entries", "next_index")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_INDEX_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    next_index: int
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ..., next_index: _Optional[int] = ...) -> None: ...

class GetAuditHeadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetAuditHeadResponse(_message.Message):
    __slots__ = ("vault_id", "size", "root", "generation", "create_time", "signed_bytes", "signature", "public_key", "minimum_index", "minimum_peaks")
    VAULT_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SIGNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_INDEX_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_PEAKS_FIELD_NUMBER: _ClassVar[int]
    vault_id: str
    size: int
    root: bytes
    generation: int
    create_time: _timestamp_pb2.Timestamp
    signed_bytes: bytes
    signature: bytes
    public_key: bytes
    minimum_index: int
    minimum_peaks: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, vault_id: _Optional[str] = ..., size: _Optional[int] = ..., root: _Optional[bytes] = ..., generation: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., signed_bytes: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., minimum_index: _Optional[int] = ..., minimum_peaks: _Optional[_Iterable[bytes]] = ...) -> None: ...

import datetime

from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Classification(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLASSIFICATION_UNSPECIFIED: _ClassVar[Classification]
    CLASSIFICATION_PUBLIC: _ClassVar[Classification]
    CLASSIFICATION_GENERAL: _ClassVar[Classification]
    CLASSIFICATION_SENSITIVE: _ClassVar[Classification]

class FieldKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FIELD_KIND_UNSPECIFIED: _ClassVar[FieldKind]
    FIELD_KIND_TEXT: _ClassVar[FieldKind]
    FIELD_KIND_INTEGER: _ClassVar[FieldKind]
    FIELD_KIND_NUMBER: _ClassVar[FieldKind]
    FIELD_KIND_BOOLEAN: _ClassVar[FieldKind]
    FIELD_KIND_DATE: _ClassVar[FieldKind]
    FIELD_KIND_BYTES: _ClassVar[FieldKind]
    FIELD_KIND_EMAIL: _ClassVar[FieldKind]
    FIELD_KIND_PHONE: _ClassVar[FieldKind]
    FIELD_KIND_RESIDENT_ID: _ClassVar[FieldKind]
    FIELD_KIND_USCC: _ClassVar[FieldKind]
    FIELD_KIND_POSTAL_CODE: _ClassVar[FieldKind]

class IndexState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INDEX_STATE_UNSPECIFIED: _ClassVar[IndexState]
    INDEX_STATE_READY: _ClassVar[IndexState]
    INDEX_STATE_BUILDING: _ClassVar[IndexState]
    INDEX_STATE_DROPPING: _ClassVar[IndexState]

class MaskKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MASK_KIND_UNSPECIFIED: _ClassVar[MaskKind]
    MASK_KIND_FULL: _ClassVar[MaskKind]
    MASK_KIND_NAME: _ClassVar[MaskKind]
    MASK_KIND_PHONE: _ClassVar[MaskKind]
    MASK_KIND_EMAIL: _ClassVar[MaskKind]
    MASK_KIND_ID: _ClassVar[MaskKind]
    MASK_KIND_ADDRESS: _ClassVar[MaskKind]
    MASK_KIND_CARD: _ClassVar[MaskKind]
CLASSIFICATION_UNSPECIFIED: Classification
CLASSIFICATION_PUBLIC: Classification
CLASSIFICATION_GENERAL: Classification
CLASSIFICATION_SENSITIVE: Classification
FIELD_KIND_UNSPECIFIED: FieldKind
FIELD_KIND_TEXT: FieldKind
FIELD_KIND_INTEGER: FieldKind
FIELD_KIND_NUMBER: FieldKind
FIELD_KIND_BOOLEAN: FieldKind
FIELD_KIND_DATE: FieldKind
FIELD_KIND_BYTES: FieldKind
FIELD_KIND_EMAIL: FieldKind
FIELD_KIND_PHONE: FieldKind
FIELD_KIND_RESIDENT_ID: FieldKind
FIELD_KIND_USCC: FieldKind
FIELD_KIND_POSTAL_CODE: FieldKind
INDEX_STATE_UNSPECIFIED: IndexState
INDEX_STATE_READY: IndexState
INDEX_STATE_BUILDING: IndexState
INDEX_STATE_DROPPING: IndexState
MASK_KIND_UNSPECIFIED: MaskKind
MASK_KIND_FULL: MaskKind
MASK_KIND_NAME: MaskKind
MASK_KIND_PHONE: MaskKind
MASK_KIND_EMAIL: MaskKind
MASK_KIND_ID: MaskKind
MASK_KIND_ADDRESS: MaskKind
MASK_KIND_CARD: MaskKind

class Field(_message.Message):
    __slots__ = ("name", "kind", "classification", "required", "unique", "indexed", "max_bytes", "mask", "purposes", "description", "index_state", "index_percent")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    UNIQUE_FIELD_NUMBER: _ClassVar[int]
    INDEXED_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    INDEX_STATE_FIELD_NUMBER: _ClassVar[int]
    INDEX_PERCENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: FieldKind
    classification: Classification
    required: bool
    unique: bool
    indexed: bool
    max_bytes: int
    mask: MaskKind
    purposes: _containers.RepeatedScalarFieldContainer[str]
    description: str
    index_state: IndexState
    index_percent: int
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[FieldKind, str]] = ..., classification: _Optional[_Union[Classification, str]] = ..., required: bool = ..., unique: bool = ..., indexed: bool = ..., max_bytes: _Optional[int] = ..., mask: _Optional[_Union[MaskKind, str]] = ..., purposes: _Optional[_Iterable[str]] = ..., description: _Optional[str] = ..., index_state: _Optional[_Union[IndexState, str]] = ..., index_percent: _Optional[int] = ...) -> None: ...

class Schema(_message.Message):
    __slots__ = ("name", "fields", "retain_for", "open_ended", "erase_old_versions_synchronously", "revision", "update_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    RETAIN_FOR_FIELD_NUMBER: _ClassVar[int]
    OPEN_ENDED_FIELD_NUMBER: _ClassVar[int]
    ERASE_OLD_VERSIONS_SYNCHRONOUSLY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    fields: _containers.RepeatedCompositeFieldContainer[Field]
    retain_for: str
    open_ended: bool
    erase_old_versions_synchronously: bool
    revision: int
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., fields: _Optional[_Iterable[_Union[Field, _Mapping]]] = ..., retain_for: _Optional[str] = ..., open_ended: bool = ..., erase_old_versions_synchronously: bool = ..., revision: _Optional[int] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateSchemaRequest(_message.Message):
    __slots__ = ("parent", "schema_id", "schema")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    parent: str
    schema_id: str
    schema: Schema
    def __init__(self, parent: _Optional[str] = ..., schema_id: _Optional[str] = ..., schema: _Optional[_Union[Schema, _Mapping]] = ...) -> None: ...

class CreateSchemaResponse(_message.Message):
    __slots__ = ("schema",)
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    schema: Schema
    def __init__(self, schema: _Optional[_Union[Schema, _Mapping]] = ...) -> None: ...

class UpdateSchemaRequest(_message.Message):
    __slots__ = ("schema", "update_mask")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    schema: Schema
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, schema: _Optional[_Union[Schema, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateSchemaResponse(_message.Message):
    __slots__ = ("schema",)
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    schema: Schema
    def __init__(self, schema: _Optional[_Union[Schema, _Mapping]] = ...) -> None: ...

class GetSchemaRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetSchemaResponse(_message.Message):
    __slots__ = ("schema",)
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    schema: Schema
    def __init__(self, schema: _Optional[_Union[Schema, _Mapping]] = ...) -> None: ...

class ListSchemasRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSchemasResponse(_message.Message):
    __slots__ = ("schemas", "next_page_token")
    SCHEMAS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    schemas: _containers.RepeatedCompositeFieldContainer[Schema]
    next_page_token: str
    def __init__(self, schemas: _Optional[_Iterable[_Union[Schema, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

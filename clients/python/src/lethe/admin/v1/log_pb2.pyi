from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Log(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOG_UNSPECIFIED: _ClassVar[Log]
    LOG_LEDGER: _ClassVar[Log]
    LOG_AUDIT: _ClassVar[Log]
LOG_UNSPECIFIED: Log
LOG_LEDGER: Log
LOG_AUDIT: Log

class GetCheckpointRequest(_message.Message):
    __slots__ = ("log", "fresh")
    LOG_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    log: Log
    fresh: bool
    def __init__(self, log: _Optional[_Union[Log, str]] = ..., fresh: bool = ...) -> None: ...

class GetCheckpointResponse(_message.Message):
    __slots__ = ("checkpoint", "size", "root", "cosigned", "verifier_key", "minimum_index")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    COSIGNED_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_KEY_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_INDEX_FIELD_NUMBER: _ClassVar[int]
    checkpoint: str
    size: int
    root: bytes
    cosigned: _containers.RepeatedScalarFieldContainer[str]
    verifier_key: str
    minimum_index: int
    def __init__(self, checkpoint: _Optional[str] = ..., size: _Optional[int] = ..., root: _Optional[bytes] = ..., cosigned: _Optional[_Iterable[str]] = ..., verifier_key: _Optional[str] = ..., minimum_index: _Optional[int] = ...) -> None: ...

class GetTilesRequest(_message.Message):
    __slots__ = ("log", "paths")
    LOG_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    log: Log
    paths: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, log: _Optional[_Union[Log, str]] = ..., paths: _Optional[_Iterable[str]] = ...) -> None: ...

class GetTilesResponse(_message.Message):
    __slots__ = ("tiles",)
    TILES_FIELD_NUMBER: _ClassVar[int]
    tiles: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, tiles: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetInclusionProofRequest(_message.Message):
    __slots__ = ("log", "index", "size")
    LOG_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    log: Log
    index: int
    size: int
    def __init__(self, log: _Optional[_Union[Log, str]] = ..., index: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class GetInclusionProofResponse(_message.Message):
    __slots__ = ("leaf", "hashes", "size", "root", "checkpoint")
    LEAF_FIELD_NUMBER: _ClassVar[int]
    HASHES_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    leaf: bytes
    hashes: _containers.RepeatedScalarFieldContainer[bytes]
    size: int
    root: bytes
    checkpoint: str
    def __init__(self, leaf: _Optional[bytes] = ..., hashes: _Optional[_Iterable[bytes]] = ..., size: _Optional[int] = ..., root: _Optional[bytes] = ..., checkpoint: _Optional[str] = ...) -> None: ...

class GetConsistencyProofRequest(_message.Message):
    __slots__ = ("log", "old_size", "size")
    LOG_FIELD_NUMBER: _ClassVar[int]
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    log: Log
    old_size: int
    size: int
    def __init__(self, log: _Optional[_Union[Log, str]] = ..., old_size: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class GetConsistencyProofResponse(_message.Message):
    __slots__ = ("old_root", "hashes", "size", "root", "checkpoint")
    OLD_ROOT_FIELD_NUMBER: _ClassVar[int]
    HASHES_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    old_root: bytes
    hashes: _containers.RepeatedScalarFieldContainer[bytes]
    size: int
    root: bytes
    checkpoint: str
    def __init__(self, old_root: _Optional[bytes] = ..., hashes: _Optional[_Iterable[bytes]] = ..., size: _Optional[int] = ..., root: _Optional[bytes] = ..., checkpoint: _Optional[str] = ...) -> None: ...

class AddCosignatureRequest(_message.Message):
    __slots__ = ("checkpoint",)
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    checkpoint: str
    def __init__(self, checkpoint: _Optional[str] = ...) -> None: ...

class AddCosignatureResponse(_message.Message):
    __slots__ = ("witnesses",)
    WITNESSES_FIELD_NUMBER: _ClassVar[int]
    witnesses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, witnesses: _Optional[_Iterable[str]] = ...) -> None: ...

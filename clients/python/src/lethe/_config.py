"""The client's configuration file: where the vault is and who the client is.

Unknown keys are refused, relative paths start at the file's own folder, a private key that every user can read is
refused, and no file of more than 1 MiB is read. Messages name files and keys, never their contents.
"""

from __future__ import annotations

import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FILE_BYTES_MAX = 1 << 20
_REQUIRED = ("endpoint", "ca", "cert", "key")
_ALLOWED = {*_REQUIRED, "server_name"}
_NEXT = 'it needs endpoint = "https://host:port", ca, cert and key, and may have server_name'
_ENDPOINT = re.compile(r"https://(\[[0-9a-fA-F:.]+\]|[^\[\]/:]+):([0-9]{1,5})/?")


@dataclass(frozen=True, repr=False)
class Identity:
    """What a connection is made of."""

    target: str
    server_name: str
    ca: bytes
    cert: bytes
    key: bytes


def load(path: str | Path) -> Identity:
    """Reads a file such as `client-application.toml` and the files that it names."""
    file = Path(path)
    values = _parse(_read("the configuration", file), file)
    endpoint = _ENDPOINT.fullmatch(values["endpoint"])
    if endpoint is None or int(endpoint[2]) > 65535:
        raise ConfigError(f"{file}: endpoint: is not https://host:port, there is no other way in; {_NEXT}")
    key_file = file.parent / values["key"]
    key = _read("key", key_file)
    if key_file.stat().st_mode & stat.S_IROTH:
        raise ConfigError(f"{key_file}: every user can read this private key: chmod 600 it")
    return Identity(
        target=f"{endpoint[1]}:{endpoint[2]}",
        server_name=values.get("server_name", ""),
        ca=_read("ca", file.parent / values["ca"]),
        cert=_read("cert", file.parent / values["cert"]),
        key=key,
    )


def _parse(text: bytes, file: Path) -> dict[str, str]:
    parsed: dict[str, Any] | None
    try:
        parsed = tomllib.loads(text.decode())
    except (ValueError, RecursionError):
        # A parser's message may quote the text.
        parsed = None
    if parsed is None:
        raise ConfigError(f"{file}: is not a TOML file; {_NEXT}")
    if unknown := sorted(parsed.keys() - _ALLOWED):
        raise ConfigError(f"{file}: {unknown[0]}: is not a known key; {_NEXT}")
    for name in _REQUIRED:
        if name not in parsed:
            raise ConfigError(f"{file}: {name}: is missing; {_NEXT}")
    for name, value in parsed.items():
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{file}: {name}: is not a text; {_NEXT}")
    return parsed


def _read(what: str, file: Path) -> bytes:
    fault = ""
    try:
        with file.open("rb") as opened:
            text = opened.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        fault = error.strerror or "cannot be read"
    if fault:
        raise ConfigError(f"{file}: {what} cannot be read: {fault}")
    if len(text) > _FILE_BYTES_MAX:
        raise ConfigError(f"{file}: {what} is larger than 1 MiB")
    return text

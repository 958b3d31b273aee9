"""The configuration file: the rules that `lethectl` has too."""

from __future__ import annotations

import pytest

from lethe import AsyncVault, ConfigError, Unavailable, Vault
from lethe._config import load
from lethe.v1 import tenant_pb2

GOOD = 'endpoint = "https://127.0.0.1:8443"\nca = "ca.pem"\ncert = "c.pem"\nkey = "pki/c.key"\n'


@pytest.fixture
def write(tmp_path):
    (tmp_path / "pki").mkdir()
    for name in ("ca.pem", "c.pem", "pki/c.key"):
        (tmp_path / name).write_text(f"canary {name}")
        (tmp_path / name).chmod(0o600)

    def write(text):
        file = tmp_path / "client.toml"
        file.write_text(text)
        return file

    return write


def test_relative_paths_start_at_the_file(write, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    found = load(write(GOOD))
    assert (found.target, found.server_name) == ("127.0.0.1:8443", "")
    assert (found.ca, found.cert, found.key) == (b"canary ca.pem", b"canary c.pem", b"canary pki/c.key")
    absolute = GOOD.replace("pki/c.key", str(tmp_path / "pki" / "c.key"))
    assert load(write(absolute)).key == b"canary pki/c.key"


def test_a_server_name_and_an_address_of_version_six(write):
    text = GOOD.replace("127.0.0.1", "[::1]") + 'server_name = "vault.internal"\n'
    assert (load(write(text)).target, load(write(text)).server_name) == ("[::1]:8443", "vault.internal")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("https", "http", "endpoint"),
        (":8443", "", "endpoint"),
        (":8443", ":84430", "endpoint"),
        (":8443", ":8443/v1", "endpoint"),
        ("ca = ", "cacert = ", "cacert: is not a known key"),
        ('ca = "ca.pem"\n', "", "ca: is missing"),
        ('ca = "ca.pem"', "ca = 1", "ca: is not a text"),
        ('"ca.pem"', '"', "not a TOML file"),
        ("ca.pem", "no.pem", "no.pem: ca cannot be read"),
        ("pki/c.key", "pki", "key cannot be read"),
    ],
)
def test_each_mistake_is_named(write, old, new, expected):
    with pytest.raises(ConfigError) as caught:
        load(write(GOOD.replace(old, new)))
    assert expected in caught.value.message
    assert "canary" not in str(caught.value)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.toml"):
        load(tmp_path / "no.toml")


def test_an_open_key_is_refused(write, tmp_path):
    file = write(GOOD)
    (tmp_path / "pki" / "c.key").chmod(0o604)
    with pytest.raises(ConfigError, match="every user can read"):
        load(file)
    (tmp_path / "pki" / "c.key").chmod(0o640)
    assert load(file)


def test_a_file_of_more_than_a_mebibyte_is_refused(write, tmp_path):
    file = write(GOOD)
    (tmp_path / "ca.pem").write_bytes(bytes(1 << 20))
    assert load(file)
    (tmp_path / "ca.pem").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(file)


def test_a_connection_prints_neither_key_nor_certificate(write):
    with Vault.connect(write(GOOD)) as vault:
        assert repr(vault) == "Vault(127.0.0.1:8443)"
        assert "canary" not in repr(vault._identity)


def test_the_server_must_have_the_name_that_is_given(fake):
    fake.answer("ListTenants", tenant_pb2.ListTenantsResponse())
    text = fake.config.read_text()
    for name, right in (("vault.internal", True), ("other.internal", False)):
        fake.config.write_text(f'{text}server_name = "{name}"\n')
        with Vault.connect(fake.config) as vault:
            if right:
                assert list(vault.list_tenants()) == []
                continue
            with pytest.raises(Unavailable):
                list(vault.list_tenants())


def test_no_proxy_of_the_environment_comes_in_between(fake, monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    fake.answer("ListTenants", tenant_pb2.ListTenantsResponse())
    with Vault.connect(fake.config) as vault:
        assert list(vault.list_tenants()) == []


def test_asyncio_needs_its_loop(write):
    with pytest.raises(RuntimeError):
        AsyncVault.connect(write(GOOD))


@pytest.mark.parametrize("deadline", [0, -1, 61, float("nan"), True, "30"])
def test_a_deadline_is_within_a_minute(write, deadline):
    with pytest.raises(ValueError, match="deadline"):
        Vault.connect(write(GOOD), deadline=deadline)

"""A real vault for the tests that need one: env LETHE_DEV_DIR names the folder of a running `lethed dev`, or env LETHED
names the program, which is then started for the tests and ended after them."""

from __future__ import annotations

import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import time

import pytest

from lethe import Classification, Field, Kind, LetheError, Mask, Schema, Vault

ROOT = pathlib.Path(__file__).resolve().parents[1]

SCHEMA = Schema(
    retain_for="P1Y",
    erase_old_versions_synchronously=True,
    fields=(
        Field("email", Kind.EMAIL, required=True, unique=True, indexed=True, mask=Mask.EMAIL),
        Field("city", Kind.TEXT, indexed=True, max_bytes=200),
        Field("visits", Kind.INTEGER),
        Field("score", Kind.NUMBER),
        Field("member", Kind.BOOLEAN),
        Field("born", Kind.DATE),
        Field("photo", Kind.BYTES),
        Field("phone", Kind.PHONE, classification=Classification.SENSITIVE, purposes=("delivery",)),
    ),
)


class Lethed:
    """A vault of the test's own, which may be stopped and started."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        with open(self.folder.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen(
                [os.environ["LETHED"], "dev", "--dir", self.folder, "--listen", f"127.0.0.1:{self.port}"],
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 30
        while True:
            assert self.process.poll() is None, "lethed ended"
            assert time.monotonic() < end, "lethed does not answer within 30 s"
            try:
                with Vault.connect(self.folder / "client-application.toml", deadline=2) as vault:
                    list(vault.list_tenants())
                return
            except LetheError:
                time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
            self.process = None


@pytest.fixture(scope="session")
def dev_dir(tmp_path_factory):
    """The folder of a vault that runs."""
    if given := os.environ.get("LETHE_DEV_DIR"):
        yield pathlib.Path(given)
        return
    if "LETHED" not in os.environ:
        pytest.skip("neither LETHE_DEV_DIR nor LETHED is set: no vault to test against")
    lethed = Lethed(tmp_path_factory.mktemp("vault") / "dev")
    yield lethed.folder
    lethed.stop()


@pytest.fixture
def own_lethed(tmp_path):
    """A vault that this test alone uses and may stop."""
    if "LETHED" not in os.environ:
        pytest.skip("LETHED is not set: no vault that may be stopped")
    lethed = Lethed(tmp_path / "dev")
    yield lethed
    lethed.stop()


def lethectl():
    """The program: that of env LETHECTL, or the one beside LETHED; `None` if there is none."""
    return os.environ.get("LETHECTL") or shutil.which("lethectl", path=os.path.dirname(os.environ.get("LETHED", "")))


def support(folder):
    """The configuration of a caller in the role `support`, who is let in within seconds; made where there is none."""
    file, uri = folder / "client-support.toml", "spiffe://dev.lethe/support"
    if not file.exists():
        issue = [lethectl(), "pki", "issue", "--dir", folder / "pki", "--uri", uri, "--out", "support", "--force"]
        subprocess.run(issue, check=True, capture_output=True, timeout=30)
        daemon, changed = folder / "lethed.toml", folder / "lethed.toml.new"
        if uri not in (text := daemon.read_text()):
            changed.write_text(f'{text}\n[[identity]]\nuri = "{uri}"\nrole = "support"\ntenants = ["*"]\n')
            changed.replace(daemon)
        file.write_text((folder / "client-application.toml").read_text().replace("/application.", "/support."))
    return file


def new_tenant(folder, prefix="conf"):
    """A tenant with the schema of the story; its id."""
    tenant = f"{prefix}-{secrets.token_hex(6)}"
    with Vault.connect(folder / "client-operator.toml") as operator:
        operator.create_tenant(tenant)
        operator.create_schema(tenant, "customer", SCHEMA)
    return tenant


@pytest.fixture
def tenant(dev_dir):
    return new_tenant(dev_dir)


@pytest.fixture
def python():
    return sys.executable


@pytest.fixture
def fake(tmp_path):
    from fake import FakeVault

    vault = FakeVault(tmp_path)
    yield vault
    vault.stop()


@pytest.fixture(params=["threads", "asyncio"])
def client(request, fake):
    """Either flavour, connected to the fake."""
    from blocking import connect

    vault = connect(request.param, fake.config)
    yield vault
    vault.close()

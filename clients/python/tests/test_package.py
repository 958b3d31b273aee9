"""The package as it is shipped: it installs without protoc, is typed, its messages are current, its flavours alike."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

import lethe
from lethe import AsyncVault, AsyncWatch, Vault, Watch

HAND_WRITTEN = sorted((ROOT / "src" / "lethe").glob("*.py"))


def run(*command, **more):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, **more)


def test_the_messages_are_current_with_the_contract():
    done = run(sys.executable, "scripts/generate", "--check")
    assert (done.returncode, done.stdout.strip()) == (0, "current"), done.stdout + done.stderr


def test_types_are_strict():
    done = run(sys.executable, "-m", "mypy", "--cache-dir", os.devnull)
    assert done.returncode == 0, done.stdout


def test_it_installs_and_imports_without_protoc_and_without_extras(tmp_path):
    done = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, ".")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("lethe_vault-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        packed.extractall(tmp_path / "installed")
    assert {
        "lethe/py.typed",
        "lethe/v1/record_pb2.py",
        "lethe/v1/record_pb2.pyi",
        "lethe/admin/v1/vault_pb2.py",
    } <= names
    assert not any("test" in name or "scripts" in name for name in names)
    # Neither protoc nor cryptography may be needed to import it.
    code = """
import sys
sys.path.insert(0, sys.argv[1])
for absent in ("grpc_tools", "cryptography"):
    sys.modules[absent] = None
import lethe
assert lethe.__file__.startswith(sys.argv[1]), lethe.__file__
print(lethe.Vault.__name__)
"""
    done = run(sys.executable, "-c", code, str(tmp_path / "installed"))
    assert done.stdout == "Vault\n", done.stderr


def test_what_it_needs_is_what_it_says():
    text = (ROOT / "pyproject.toml").read_text()
    listed = text.partition("\ndependencies = [")[2].partition("\n]")[0]
    assert set(re.findall(r'"([a-z-]+)', listed)) == {"grpcio", "protobuf", "googleapis-common-protos", "tomli"}
    imported = set()
    for file in HAND_WRITTEN:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names)
    assert foreign == {"grpc", "google", "tomli", "cryptography"}


@pytest.mark.parametrize(("threads", "loop"), [(Vault, AsyncVault), (Watch, AsyncWatch)])
def test_both_flavours_have_the_same_methods(threads, loop):
    def methods(kind):
        found = inspect.getmembers(kind, inspect.isfunction) + inspect.getmembers(kind, inspect.ismethod)
        return {n: list(inspect.signature(m).parameters.values()) for n, m in found if not n.startswith("_")}

    def shape(parameters):
        # The one type that differs: asyncio takes asynchronous iterables too.
        return [(p.name, p.kind, p.default, str(p.annotation).partition(" | Async")[0]) for p in parameters]

    one, other = methods(threads), methods(loop)
    assert {n: shape(p) for n, p in one.items()} == {n: shape(p) for n, p in other.items()}
    assert len(one) > 20 or threads is Watch


def test_all_that_is_public_is_exported():
    assert sorted(lethe.__all__) == lethe.__all__
    assert all(hasattr(lethe, name) for name in lethe.__all__)


def test_house_rules():
    files = [*HAND_WRITTEN, *(ROOT / "tests").glob("*.py"), ROOT / "scripts" / "generate"]
    for file in files:
        lines = file.read_text().splitlines()
        assert len(lines) <= 500, file
        assert max(map(len, lines)) <= 120, file
        if file.suffix == ".py":
            assert ast.get_docstring(ast.parse(file.read_text())), f"{file} does not say what it is"
    for file in HAND_WRITTEN:
        # A client that logs is a client that may log a value.
        assert not re.search(r"\b(logging|print)\b\(?", re.sub(r'""".*?"""|#.*', "", file.read_text(), flags=re.S)), (
            file
        )

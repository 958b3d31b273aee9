"""The README's examples, run from top to bottom as somebody would who copies them."""

from __future__ import annotations

import re
import subprocess
import sys

from conftest import ROOT


def test_the_examples_of_the_readme_run(own_lethed, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert len(blocks) == 12
    (tmp_path / "lethe-dev").symlink_to(own_lethed.folder)
    (tmp_path / "example.py").write_text("\n".join(blocks))
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # One that prints a record prints no value.
    assert "Fields(" in done.stdout and "ada@example.org" not in done.stdout + done.stderr
    assert "E1_LOCAL_ANCHOR_SCRUBBED" in done.stdout or "E0_TOMBSTONED" in done.stdout


def test_each_test_that_the_readme_names_is_there():
    named = re.findall(r"`(test_\w+)(\.py)?`", (ROOT / "README.md").read_text())
    sources = {file.name: file.read_text() for file in (ROOT / "tests").glob("test_*.py")}
    assert len(named) > 6
    for name, suffix in named:
        assert f"{name}.py" in sources if suffix else any(f"def {name}(" in text for text in sources.values()), name

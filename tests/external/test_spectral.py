"""Spectral lints both forms of the document."""

import json
import subprocess
from pathlib import Path

import pytest

from queueapi.openapi import as_3_0
from tests.external.conftest import HERE, ROOT


def lint(node_bin: Path, document: Path) -> subprocess.CompletedProcess[str]:
    ruleset = ["--ruleset", str(HERE / ".spectral.yaml"), "--fail-severity", "hint"]
    return subprocess.run(
        [str(node_bin / "spectral"), "lint", *ruleset, str(document)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize("form", ["3.1", "3.0.3"])
def test_nothing_is_left_to_say_of_the_document(node_bin: Path, tmp_path: Path, form: str) -> None:
    document = json.loads((ROOT / "openapi.json").read_text())
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(document if form == "3.1" else as_3_0(document)))
    run = lint(node_bin, path)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_linter_would_say_something(node_bin: Path, tmp_path: Path) -> None:
    path = tmp_path / "openapi.json"
    path.write_text('{"openapi": "3.1.0", "info": {"title": "x", "version": "1"}, "paths": {}}')
    assert lint(node_bin, path).returncode == 1

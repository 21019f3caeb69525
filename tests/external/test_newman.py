"""The Postman collection, run by newman: the whole journey of a job, with a check at each step."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.external.conftest import ROOT, Server

COLLECTION = ROOT / "docs" / "postman" / "queueapi.postman_collection.json"
STEPS = 70  # requests, at the least


@pytest.fixture(scope="module")
def summary(node_bin: Path, local_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    export = tmp_path_factory.mktemp("newman") / "run.json"
    variables = ["--env-var", f"baseUrl={local_server.url}"]
    report = ["--reporters", "json", "--reporter-json-export", str(export)]
    subprocess.run(
        [str(node_bin / "newman"), "run", str(COLLECTION), *variables, *report],
        capture_output=True,
        check=False,
        timeout=100,
    )
    return json.loads(export.read_text())["run"]


def test_every_assertion_of_the_collection_holds(summary: Any) -> None:
    failures = [
        f"{failure['source'].get('name')}: {failure['error']['message']}"
        for failure in summary["failures"]
    ]
    assert failures == []
    assert summary["stats"]["assertions"]["total"] >= 2 * STEPS


def test_every_request_of_the_collection_was_sent(summary: Any) -> None:
    folders = json.loads(COLLECTION.read_text())["item"]
    names = {request["name"] for folder in folders for request in folder["item"]}
    assert len(names) >= STEPS
    assert {execution["item"]["name"] for execution in summary["executions"]} == names


def test_the_collection_can_be_imported_and_pointed_at_any_server() -> None:
    collection = json.loads(COLLECTION.read_text())
    assert collection["info"]["schema"].endswith("/v2.1.0/collection.json")
    assert "baseUrl" in collection["info"]["description"]
    variables = {v["key"]: v["value"] for v in collection["variable"]}
    assert variables.pop("baseUrl") == "http://localhost:8080"
    assert set(variables.values()) == {""}, "nobody's account or token is in the file"

"""Clusters from the command line."""

import json
from collections.abc import Iterator

import pytest

from tests.cli.server import Cli

PIN = "SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDEgYUyCpRiLVjx9vU"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n"
CLUSTER = ("admin", "cluster")


@pytest.fixture
def far(root: Cli) -> Iterator[str]:
    (root.home / "key").write_text(KEY)
    words = "--kind null --host hpc.lab --port 2222 --login jobs --private-key key --root /q"
    rules = "--allow-email *@lab.edu --allow-email *@x.org --deny-group default"
    more = "--cap nodes=4 --cap hours=0.5 --default partition=cpu --option fast=true"
    made = root.json(*CLUSTER, "add", "far", *words.split(), *rules.split(), *more.split())
    assert made["connection"]["key"] == "stored, encrypted"
    assert (made["connection"]["port"], made["connection"]["options"]) == (
        2222,
        {"fast": True},
    )
    assert made["allow"]["emails"] == ["*@lab.edu", "*@x.org"]
    assert (made["caps"]["nodes"], made["caps"]["hours"]) == (4, 0.5)
    assert made["defaults"] == {"partition": "cpu"}
    yield "far"
    root.run(*CLUSTER, "remove", "far", "--force")


def test_a_cluster_from_its_registration_to_its_end(root: Cli, ada: Cli, far: str) -> None:
    assert "far " in root.run("clusters").stdout
    assert "far " not in ada.run("clusters").stdout  # who may not use it does not see it
    assert root.json(*CLUSTER, "trust", far, PIN)["connection"]["host_keys"] == [PIN]
    drained = root.json(*CLUSTER, "drain", far, "--reason", "upgrade")
    assert (drained["state"], drained["reason"]) == ("drain", "upgrade")
    assert root.json(*CLUSTER, "down", far, "-r", "moved")["state"] == "down"
    assert root.json(*CLUSTER, "resume", far)["state"] == "up"
    changed = root.json(
        *CLUSTER,
        "set",
        far,
        "--partition",
        "a",
        "--cap",
        "none",
        "--deny-group",
        "none",
    )
    assert (changed["partitions"], changed["caps"]["nodes"]) == (["a"], 50)
    assert changed["deny"]["groups"] == []
    assert root.json(*CLUSTER, "show", far)["name"] == far
    assert "Only administrators" in ada.run(*CLUSTER, "drain", far, "-r", "x", expect=1).stderr
    for wrong in (
        ["set", far],
        ["set", far, "--cap", "nodes"],
        ["set", far, "--cap", "nodes=x"],
    ):
        root.run(*CLUSTER, *wrong, expect=2)


def test_this_machine_is_tried(root: Cli) -> None:
    found = root.run(*CLUSTER, "test", "local").stdout
    assert "WRONG" not in found
    assert "a trial" in found


def test_a_list_that_cannot_be_taken_is_refused(root: Cli) -> None:
    (root.home / "list.json").write_text(json.dumps({"k": {"ip": "-oProxyCommand=x"}}))
    assert "/clusters/k/ip" in root.run(*CLUSTER, "import", "list.json", expect=1).stderr
    (root.home / "list.json").write_text("[]")
    root.run(*CLUSTER, "import", "list.json", expect=2)


def test_a_job_names_a_cluster_and_is_warned(ada: Cli) -> None:
    (ada.home / "job.sh").write_text("#!/bin/sh\n#SBATCH -N 4\ntrue\n")
    done = ada.run("submit", "job.sh", "--cluster", "local")
    assert "#SBATCH" in done.stderr
    assert ada.status(int(done.stdout))["cluster"] == "local"
    refused = ada.run("submit", "job.sh", "--cluster", "local", "--qos", "high", expect=1)
    assert "no partitions" in refused.stderr

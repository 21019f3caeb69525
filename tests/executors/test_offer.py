"""What a cluster could ever give to a job, and what it never can: by whom it is told, and how."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from queueapi.executors.offer import Demand, NodeKind, Offer, Section, never

CPU = NodeKind(8, 32, 128_000, features=("ib",))
GPU = NodeKind(2, 64, 512_000, (("a100", 4), ("v100", 1)), ("ib", "big"), ("nvme", "nvme:fast"))
MAIN = Section("main", True, (CPU, GPU), max_nodes=9, max_seconds=86_400.0)
SHORT = Section("short", False, (CPU,), max_seconds=600.0, max_cpus=16, max_memory_mb=64_000)
OFFER = Offer((MAIN, SHORT), accounts=("chem", "physics"), qos=("normal",))
SMALL = Demand(1, 1, 1024, 0, 60.0)


@pytest.mark.parametrize(
    "asks",
    [
        {},
        {"nodes": 9, "cpus": 32},
        {"cpus": 64, "memory_mb": 512_000},
        {"gpus": 5},
        {"gpus": 4, "gpu_type": "A100"},
        {"gpus": 1, "gpu_type": "v100", "nodes": 2},
        {"constraint": "none|ib&big"},
        {"constraint": "[rack1*2&rack2]"},  # what we do not understand, Slurm itself checks
        {"gres": "nvme:fast:2"},
        {"gres": "nvme=1,gpu:9"},
        {"account": "Chem", "qos": "normal"},
        {"partitions": ("short", "main"), "time_limit": 3600.0},
    ],
)
def test_what_an_empty_cluster_could_run_is_not_refused(asks: dict[str, Any]) -> None:
    assert never(OFFER, replace(SMALL, **asks)) is None


@pytest.mark.parametrize(
    ("asks", "field", "words"),
    [
        ({"nodes": 10}, "/nodes", "gives a job 9 nodes at most"),
        ({"nodes": 9, "partitions": ("short",)}, "/nodes", "has 8 nodes, and the job needs 9"),
        ({"cpus": 65}, "/cpu_cores", "no nodes with 65 CPUs, and the job needs 1 (the largest"),
        ({"cpus": 33, "nodes": 3}, "/cpu_cores", "has 2 nodes with 33 CPUs, and the job needs 3"),
        ({"cpus": 17, "partitions": ("short",)}, "/cpu_cores", "16 CPUs of a node at most"),
        ({"memory_mb": 600_000}, "/memory_gb", "(the largest has 512000 MiB)"),
        ({"memory_mb": 65_000, "partitions": ("short",)}, "/memory_gb", "64000 MiB of a node"),
        ({"gpus": 6}, "/gpu_count", "6 GPUs"),
        ({"gpus": 1, "gpu_type": "h100"}, "/gpu_type", "(its GPUs: a100:4, v100:1)"),
        ({"gpus": 1, "partitions": ("short",)}, "/gpu_count", "(its GPUs: none)"),
        ({"constraint": "rare|ib&rare"}, "/constraint", "(its features: big, ib)"),
        ({"gres": "nvme:slow:1"}, "/slurm/gres", "(its resources: nvme, nvme:fast)"),
        ({"gres": "tape"}, "/slurm/gres", "the resource tape"),
        ({"time_limit": 86_401.0}, "/estimated_hours", "a time of 24 hours at most"),
        ({"partitions": ("night",)}, "/slurm/partition", "no partition night; there are main"),
        ({"account": "thieves"}, "/slurm/account", "no account thieves; there are chem, physics"),
        ({"qos": "urgent"}, "/slurm/qos", "no QOS urgent; there are normal"),
    ],
)
def test_what_can_never_run_says_why_and_which_field(
    asks: dict[str, Any], field: str, words: str
) -> None:
    refused = never(OFFER, replace(SMALL, **asks))
    assert refused is not None
    assert refused.field == field
    assert words in refused.why


def test_needs_that_no_node_has_together_are_refused() -> None:
    together = replace(SMALL, nodes=2, cpus=40, memory_mb=200_000, gpus=5, constraint="ib")
    assert never(OFFER, together) is None
    split = Offer((Section("p", True, (replace(CPU, cpus=64), replace(GPU, cpus=8))),))
    refused = never(split, replace(SMALL, cpus=64, gpus=1))
    assert refused is not None
    assert "no nodes with all that it asks for" in refused.why


def test_all_partitions_that_would_do_are_heard() -> None:
    refused = never(OFFER, replace(SMALL, partitions=("main", "short"), time_limit=90_000.0))
    assert refused is not None
    assert "main gives a job a time of 24 hours" in refused.why
    assert "short gives a job a time of 10 minutes" in refused.why


def test_a_cluster_without_a_default_partition_wants_one_named() -> None:
    refused = never(replace(OFFER, sections=(SHORT,)), SMALL)
    assert refused is not None
    assert refused.field == "/slurm/partition"
    assert "name one of short" in refused.why


def test_where_nobody_checks_accounts_any_is_taken() -> None:
    free = replace(OFFER, accounts=None, qos=None)
    assert never(free, replace(SMALL, account="any", qos="any")) is None


def test_an_offer_is_stored_and_read_as_it_was() -> None:
    stored = TypeAdapter(Offer)
    assert stored.validate_json(stored.dump_json(OFFER)) == OFFER

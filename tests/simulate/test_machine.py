"""The nodes of a machine, and what jobs ask of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from queueapi.scheduling import Node, Request
from queueapi.simulate.machine import Machine, machine_of, one_node, read_nodes
from queueapi.simulate.trace import Trace, TraceError, TraceJob

JOB = TraceJob("1", 0, 60, 90, "ann", "bio", cpus=4)
TWO = Machine((Node("a", 12, 48_000), Node("b", 8, 48_000)), memory_per_cpu_mb=1000)


def read(tmp_path: Path, text: str) -> Machine:
    path = tmp_path / "nodes.conf"
    path.write_text(text)
    return read_nodes(path)


def test_nodes_as_slurm_writes_them(tmp_path: Path) -> None:
    machine = read(
        tmp_path,
        """
        ClusterName=micro   # a remark
        DefMemPerCPU=2800
        NodeName=DEFAULT RealMemory=48000
        NodeName=n[1-2,08] CPUs=12 Feature=IB,CPU-N State=UNKNOWN
        NodeName=g1 Sockets=2 CoresPerSocket=3 ThreadsPerCore=2 Gres=gpu:a100:2,gpu,nvme:1
        PartitionName=normal Nodes=ALL Default=YES
        """,
    )
    assert machine.memory_per_cpu_mb == 2800
    assert [node.name for node in machine.nodes] == ["n1", "n2", "n08", "g1"]
    assert machine.nodes[0] == Node("n1", 12, 48_000, features=frozenset({"IB", "CPU-N"}))
    assert machine.nodes[3] == Node("g1", 12, 48_000, ("a100", "a100", "gpu"))
    assert machine.cpus == 48


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("NodeName=n1 CPUs=many", "nodes.conf:1: CPUs must be a whole number from 0, not 'many'"),
        ("NodeName=n1 CPUs=0", "nodes.conf:1: CPUs must be at least 1"),
        ("NodeName=n[1-2", "nodes.conf:1: 'n[1-2' is not a node's name"),
        ("NodeName=n[2-1]", "nodes.conf:1: '2-1' is not a range of nodes"),
        (
            "NodeName=n[a]",
            "nodes.conf:1: the end of a range must be a whole number from 0, not 'a'",
        ),
        ("NodeName=n[1-999999999]", "nodes.conf:1: more than 20000 nodes"),
        ("NodeName=n1 Gres=gpu:999999", "nodes.conf:1: 999999 GPUs on a node; 1000 are the most"),
        ("NodeName=n1 big", "nodes.conf:1: 'big' is not KEY=VALUE"),
        ("NodeName=n1,n1", "nodes.conf:1: the node n1 is there twice"),
        ("NodeName=n1 Gres=gpu:x:y", "nodes.conf:1: Gres must be gpu:COUNT or gpu:TYPE:COUNT"),
        ("# nothing", "no node; write lines such as NodeName=n[1-4] CPUs=12"),
    ],
)
def test_a_bad_line_is_named_with_its_place(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(TraceError) as caught:
        read(tmp_path, line)
    assert problem in str(caught.value)


def test_memory_that_is_not_said_goes_by_cpus() -> None:
    assert TWO.request(JOB) == Request(4, 4000)
    assert TWO.request(replace(JOB, memory_mb=10)) == Request(4, 10)


def test_jobs_that_ask_alike_share_one_request() -> None:
    assert TWO.request(JOB) is TWO.request(replace(JOB, name="2"))


def test_processors_without_nodes_are_spread_over_as_few_as_will_do() -> None:
    assert TWO.request(replace(JOB, cpus=12, nodes=None)) == Request(12, 12_000)
    assert TWO.request(replace(JOB, cpus=14, nodes=None, memory_mb=100)) == (
        Request(7, 50, nodes=2)
    )


def test_a_trace_that_names_its_size_needs_no_nodes() -> None:
    machine = machine_of(Trace("t", (JOB,), processors=64), None)
    assert machine.cpus == 64
    assert machine.request(replace(JOB, cpus=64, nodes=None, memory_mb=500)) == Request(64, 0)


def test_a_trace_that_does_not_asks_for_them() -> None:
    with pytest.raises(TraceError, match="t does not say how large the machine is"):
        machine_of(Trace("t", (JOB,)), None)
    assert one_node(7).cpus == 7

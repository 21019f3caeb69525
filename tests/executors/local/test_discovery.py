"""What a machine offers, from recorded output and from this one."""

from pathlib import Path

import pytest

from queueapi.executors.local import LocalConfig
from queueapi.executors.local.child.cgroups import own_folders
from queueapi.executors.local.discovery import (
    discover_node,
    parse_cpu_max,
    parse_gpus,
    parse_meminfo,
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Tesla V100-SXM2-16GB", "v100"),
        ("Tesla T4", "t4"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 NVL", "h100"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA RTX A6000", "rtxa6000"),
        ("Quadro RTX 6000", "rtx6000"),
        ("???", "gpu"),
    ],
)
def test_gpu_names(name: str, kind: str) -> None:
    assert parse_gpus(f"{name}\n{name}\n\n") == (kind, kind)


def test_no_gpus() -> None:
    assert parse_gpus("") == ()


def test_cpu_quota() -> None:
    assert parse_cpu_max("max 100000\n") is None
    assert parse_cpu_max("150000 100000\n") == 1.5


def test_meminfo() -> None:
    assert parse_meminfo("MemTotal:       24683164 kB\nMemFree: 1 kB\n") == 24683164 * 1024
    with pytest.raises(ValueError, match="MemTotal"):
        parse_meminfo("")


_V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)


def test_groups_of_version_1() -> None:
    membership = "4:memory:/user/7\n2:cpu,cpuacct:/\n0::/system\n"
    assert own_folders(membership, _V1) == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory/user/7",
        "": "/sys/fs/cgroup/unified/system",
    }


def test_groups_in_a_container_that_sees_its_part_only() -> None:
    mounts = "9 1 0:3 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw,nsdelegate\n"
    assert own_folders("0::/docker/ab/x\n", mounts) == {"": "/sys/fs/cgroup/x"}
    assert own_folders("0::/\n", mounts) == {"": "/sys/fs/cgroup"}


def test_this_machine() -> None:
    node = discover_node(LocalConfig(Path("/nowhere")))
    assert node.name and node.cpus >= 1 and node.memory_mb > 100
    less = discover_node(LocalConfig(Path("/nowhere"), reserve_memory_mb=50, reserve_cpus=999))
    assert (less.memory_mb, less.cpus) == (node.memory_mb - 50, 1)
    chosen = discover_node(LocalConfig(Path("/nowhere"), cpus=64, memory_mb=5, node="n1"))
    assert (chosen.name, chosen.cpus, chosen.memory_mb) == ("n1", 64, 5)

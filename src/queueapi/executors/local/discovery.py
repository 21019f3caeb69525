"""What this machine has to offer."""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

from queueapi.executors.base import NodeInventory
from queueapi.executors.local.child.cgroups import own_folders
from queueapi.executors.local.config import LocalConfig

_MIB: Final = 1 << 20
_QUERY: Final = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
_QUERY_SECONDS: Final = 20.0
# What a name says besides the model: maker, brand, memory, form factor.
_NOISE: Final = re.compile(
    r"^(nvidia|tesla|quadro|geforce|graphics|device|pcie?|sxm\d*|nvl|hbm\d*\w*|\d+gb|mig|\d+g\.\d+gb)$"
)


def discover_node(config: LocalConfig) -> NodeInventory:
    """This machine as one node, minus what is kept back for the server. Blocks."""
    folders = _cgroup_folders()
    cpus = config.cpus or max(_cpus(folders) - config.reserve_cpus, 1)
    found = _memory_bytes(folders) // _MIB
    memory = config.memory_mb or max(found - config.reserve_memory_mb, 1)
    return NodeInventory(config.node, cpus, memory, _gpus(), config.features)


def parse_gpus(listing: str) -> tuple[str, ...]:
    """Types from nvidia-smi's names, one per line: "Tesla V100-SXM2-16GB" → "v100"."""
    return tuple(_gpu_type(line) for line in listing.splitlines() if line.strip())


def _gpu_type(name: str) -> str:
    words = [word for word in re.split(r"[\s\-_/]+", name.strip().lower()) if word]
    kept = [word for word in words if not _NOISE.match(word)]
    return re.sub(r"[^a-z0-9.]", "", "".join(kept)) or "gpu"


def parse_meminfo(text: str) -> int:
    """MemTotal of /proc/meminfo, in bytes."""
    for line in text.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no MemTotal in /proc/meminfo")


def parse_cpu_max(text: str) -> float | None:
    """Cores that version 2's cpu.max allows; None = no limit."""
    quota, _, period = text.strip().partition(" ")
    if quota == "max" or not period:
        return None
    return int(quota) / int(period)


def _gpus() -> tuple[str, ...]:
    try:
        done = subprocess.run(  # noqa: S603
            _QUERY, capture_output=True, timeout=_QUERY_SECONDS, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(done.stdout)


def _cgroup_folders() -> dict[str, str]:
    membership, mounts = Path("/proc/self/cgroup"), Path("/proc/self/mountinfo")
    try:
        return own_folders(membership.read_text(), mounts.read_text())
    except (OSError, ValueError):
        return {}


def _upwards(folder: str | None, name: str) -> list[str]:
    """A control file's content in a group and all above it, since each may limit."""
    found: list[str] = []
    for level in (Path(folder), *Path(folder).parents) if folder else ():
        try:
            found.append((level / name).read_text())
        except OSError:
            continue
    return found


def _cpus(folders: dict[str, str]) -> int:
    limits = [float(len(os.sched_getaffinity(0)))]
    limits += filter(None, map(parse_cpu_max, _upwards(folders.get(""), "cpu.max")))
    quotas = _upwards(folders.get("cpu"), "cpu.cfs_quota_us")
    periods = _upwards(folders.get("cpu"), "cpu.cfs_period_us")
    for quota, period in zip(quotas, periods, strict=False):
        if int(quota) > 0 and int(period) > 0:
            limits.append(int(quota) / int(period))
    return max(int(min(limits)), 1)


def _memory_bytes(folders: dict[str, str]) -> int:
    limits = [parse_meminfo(Path("/proc/meminfo").read_text())]
    texts = _upwards(folders.get(""), "memory.max")
    texts += _upwards(folders.get("memory"), "memory.limit_in_bytes")
    limits += [int(text) for text in texts if text.strip().isdigit() and int(text) > 0]
    return min(limits)

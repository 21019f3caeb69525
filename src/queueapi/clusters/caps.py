"""The most that one job may ask of a cluster: its own caps, and defaults for what they leave out.

The defaults are for clusters of others; machines that servers run on have the limits that the
settings give them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from queueapi.clusters.models import OWN_KIND


@dataclass(frozen=True, slots=True)
class Caps:
    """None = no cap."""

    nodes: float | None = None
    tasks: float | None = None  # over all nodes
    cpus_per_task: float | None = None
    gpus: float | None = None  # over all nodes
    memory_gb: float | None = None  # on each node
    memory_per_cpu_gb: float | None = None
    memory_per_gpu_gb: float | None = None
    hours: float | None = None


DEFAULTS: Final = Caps(
    nodes=50,
    tasks=50,
    cpus_per_task=50,
    gpus=20,
    memory_gb=50,
    memory_per_cpu_gb=10,
    memory_per_gpu_gb=10,
    hours=10,
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a job asks for, as far as caps matter."""

    nodes: int
    tasks: int  # over all nodes
    cpus: int  # on each node, as are the next two
    memory_mb: int
    gpus: int
    time_limit: float  # seconds


def caps_of(kind: str, own: Mapping[str, float]) -> Caps:
    """Those that hold for a cluster of this kind, of the caps that it was given."""
    defaults = Caps() if kind == OWN_KIND else DEFAULTS
    return Caps(**(asdict(defaults) | dict(own)))


@dataclass(frozen=True, slots=True)
class Excess:
    """One amount that is above its cap."""

    name: str  # of the cap
    asked: float
    cap: float
    field: str  # of a submission, that says it


def excess(caps: Caps, ask: Ask) -> Excess | None:
    """The first amount that is above its cap; None where the job keeps to all of them."""
    per_node = -(-ask.tasks // ask.nodes)
    memory_gb = ask.memory_mb / 1024
    # A cap on memory per GPU is for jobs that use GPUs, and one per CPU for the others.
    per_cpu = memory_gb / ask.cpus if not ask.gpus else 0.0
    per_gpu = memory_gb / ask.gpus if ask.gpus else 0.0
    asked = (
        ("nodes", ask.nodes, caps.nodes, "nodes"),
        ("tasks", ask.tasks, caps.tasks, "tasks"),
        ("cpus_per_task", max(1, ask.cpus // per_node), caps.cpus_per_task, "cpu_cores"),
        ("gpus", ask.gpus * ask.nodes, caps.gpus, "gpu_count"),
        ("memory_gb", memory_gb, caps.memory_gb, "memory_gb"),
        ("memory_per_cpu_gb", per_cpu, caps.memory_per_cpu_gb, "memory_gb"),
        ("memory_per_gpu_gb", per_gpu, caps.memory_per_gpu_gb, "memory_gb"),
        ("hours", ask.time_limit / 3600, caps.hours, "estimated_hours"),
    )
    for name, amount, cap, field in asked:
        if cap is not None and amount > cap:
            return Excess(name, amount, cap, field)
    return None

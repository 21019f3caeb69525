"""What the cluster offers, what others hold of it, and whether a run could ever be there: pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from queueapi.executors.base import NodeInventory
from queueapi.executors.slurm.request import Request
from queueapi.executors.slurm.scontrol import Partition
from queueapi.executors.slurm.sinfo import Node
from queueapi.executors.slurm.squeue import QueuedJob
from queueapi.executors.slurm.states import State
from queueapi.executors.slurm.tres import MIB

_HOLDING = (State.CONFIGURING, State.RUNNING, State.COMPLETING, State.SUSPENDED)


@dataclass
class _Held:
    cpus: int = 0
    memory_mb: int = 0
    gpus: Counter[str] = field(default_factory=Counter)
    gpus_of_any_type: int = 0  # where Slurm does not tell which


def inventory(
    nodes: Iterable[Node],
    ours: Iterable[QueuedJob],
    *,
    partitions: Collection[str] = (),
    full: bool = False,
) -> list[NodeInventory]:
    """The nodes that take jobs, with what others than ``ours`` hold there.

    ``partitions``: only nodes of these; () = all. ``full``: enough of our jobs wait in Slurm, so
    that nothing is free for more.
    """
    held = _held(ours)
    return [
        _offer(node, held.get(node.name, _Held()), full=full)
        for node in nodes
        if node.open and (not partitions or not set(partitions).isdisjoint(node.partitions))
    ]


def _held(jobs: Iterable[QueuedJob]) -> dict[str, _Held]:
    """Of our jobs, by node. We ask for the same on each node, and so it is divided."""
    found: dict[str, _Held] = {}
    for job in jobs:
        if job.state not in _HOLDING or not job.nodes:
            continue
        count = len(job.nodes)
        for name in job.nodes:
            on_it = found.setdefault(name, _Held())
            on_it.cpus += -(-job.resources.cpus // count)
            on_it.memory_mb += job.resources.memory_bytes // MIB // count
            typed = job.resources.gpus_by_type
            for kind, gpus in typed.items():
                on_it.gpus[kind.lower()] += -(-gpus // count)
            on_it.gpus_of_any_type += -(-max(job.resources.gpus - sum(typed.values()), 0) // count)
    return found


def _offer(node: Node, ours: _Held, *, full: bool) -> NodeInventory:
    offer = node.inventory
    cpus_used = node.cpus if full else node.cpus_used
    memory_used = node.memory_mb if full else node.memory_used_mb
    gpus_used = Counter(node.gpus if full else node.gpus_used)
    others = sorted((gpus_used - ours.gpus).elements())
    return replace(
        offer,
        taken_cpus=min(max(cpus_used - ours.cpus, 0), node.cpus),
        taken_memory_mb=min(max(memory_used - ours.memory_mb, 0), node.memory_mb),
        taken_gpus=tuple(others[ours.gpus_of_any_type :]),
    )


def refusal(request: Request, nodes: Sequence[Node], partitions: Sequence[Partition]) -> str | None:
    """Why this can never run there; None = it can, as far as one can tell.

    Slurm takes such a job and lets it wait for ever.
    """
    names = request.partition.split(",") if request.partition else None
    candidates = [p for p in partitions if (p.name in names if names else p.default)]
    if not candidates:
        return _no_partition(names, partitions)
    reasons = [_refusal_of(request, nodes, partition) for partition in candidates]
    return None if None in reasons else reasons[0]


def _no_partition(names: Sequence[str] | None, partitions: Sequence[Partition]) -> str | None:
    known = ", ".join(p.name for p in partitions)
    if names:
        return f"there is no partition {','.join(names)}; there are {known}"
    return f"the cluster has no default partition: name one of {known}"


def _refusal_of(request: Request, nodes: Sequence[Node], partition: Partition) -> str | None:
    where = f"the partition {partition.name}"
    if partition.max_seconds is not None and request.time_limit > partition.max_seconds:
        return f"{where} lets jobs run for {partition.max_seconds / 3600:g} hours at most"
    if partition.max_nodes is not None and request.nodes > partition.max_nodes:
        return f"{where} gives a job {partition.max_nodes} nodes at most"
    cpus = _cpus_on_each(request)
    if partition.max_cpus_per_node is not None and cpus > partition.max_cpus_per_node:
        return f"{where} gives a job {partition.max_cpus_per_node} CPUs of a node at most"
    memory = request.memory_mb_per_node or (request.memory_mb_per_cpu or 0) * cpus
    most = partition.max_memory_mb_per_node
    if most and memory > most:
        return f"{where} gives a job {most} MB of a node's memory at most"
    members = set(partition.nodes)
    fitting = [node for node in nodes if node.name in members and _could(request, node, cpus)]
    if len(fitting) < request.nodes:
        return (
            f"{where} has {len(fitting)} nodes that are large enough or have what is asked for, "
            f"and the job needs {request.nodes}"
        )
    return None


def _cpus_on_each(request: Request) -> int:
    tasks = request.ntasks_per_node or -(-(request.ntasks or 1) // request.nodes)
    return tasks * (request.cpus_per_task or 1)


def _could(request: Request, node: Node, cpus: int) -> bool:
    """Whether an empty node suffices. What its features must be, Slurm itself checks."""
    gpus = request.gpus_per_node or 0
    if request.gpu_type is not None:
        have = node.gpus.count(request.gpu_type.lower())
    else:
        have = len(node.gpus)
    memory = request.memory_mb_per_node or 0
    return cpus <= node.cpus and memory <= node.memory_mb and gpus <= have

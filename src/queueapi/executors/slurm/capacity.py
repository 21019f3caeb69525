"""What the cluster offers now, what others hold of it, and what it could ever give: pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, cycle

from queueapi.executors.base import NodeInventory
from queueapi.executors.offer import Demand, NodeKind, Offer, Section
from queueapi.executors.slurm.request import Request
from queueapi.executors.slurm.sacctmgr import Rights
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


def queue_places(
    nodes: Iterable[NodeInventory], room: int, *, full: bool = False
) -> list[NodeInventory]:
    """Room for about so many of our jobs in Slurm's own queue, in the shapes of these nodes.

    Where nothing is free, a job must wait in Slurm to be next at all: other people's jobs do. And
    while one of ours ends and the next one goes over, nothing stands idle. One of each kind of
    node at the least, so that every kind of job can wait; ``full``: enough of them do.
    """
    kinds: dict[tuple[object, ...], list[NodeInventory]] = {}
    for node in nodes:
        kinds.setdefault((node.cpus, node.memory_mb, node.gpus, node.features), []).append(node)
    if not kinds:
        return []
    turns = zip(*(cycle(alike) for alike in kinds.values()), strict=True)
    chosen: list[NodeInventory] = []
    times: Counter[str] = Counter()
    cpus = 0
    for number, node in enumerate(chain.from_iterable(turns)):
        if number >= len(kinds) and cpus >= room:
            break
        cpus += max(node.cpus, 1)
        times[node.name] += 1
        chosen.append(_place(node, times[node.name], full=full))
    return chosen


def _place(node: NodeInventory, number: int, *, full: bool) -> NodeInventory:
    return replace(
        node,
        name=f"queue~{node.name}" + (f"~{number}" if number > 1 else ""),
        taken_cpus=node.cpus if full else 0,
        taken_memory_mb=node.memory_mb if full else 0,
        taken_gpus=node.gpus if full else (),
        queue_of=node.name,
    )


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


def offer_of(nodes: Sequence[Node], partitions: Sequence[Partition], rights: Rights) -> Offer:
    """What the cluster could ever give, of nodes in any state."""
    kinds = {node.name: _kind(node) for node in nodes}
    return Offer(
        tuple(_section(partition, kinds) for partition in partitions), rights.accounts, rights.qos
    )


def _kind(node: Node) -> NodeKind:
    gpus = tuple(sorted(Counter(node.gpus).items()))
    return NodeKind(1, node.cpus, node.memory_mb, gpus, tuple(sorted(node.features)), node.gres)


def _section(partition: Partition, kinds: Mapping[str, NodeKind]) -> Section:
    alike = Counter(kinds[name] for name in partition.nodes if name in kinds)
    return Section(
        partition.name,
        partition.default,
        tuple(replace(kind, count=count) for kind, count in alike.items()),
        max_nodes=partition.max_nodes,
        max_seconds=partition.max_seconds,
        max_cpus=partition.max_cpus_per_node,
        max_memory_mb=partition.max_memory_mb_per_node or None,
    )


def demand_of(request: Request) -> Demand:
    """What it asks for, as far as what a cluster has is concerned."""
    tasks = request.ntasks_per_node or -(-(request.ntasks or 1) // request.nodes)
    cpus = tasks * (request.cpus_per_task or 1)
    return Demand(
        request.nodes,
        cpus,
        request.memory_mb_per_node or (request.memory_mb_per_cpu or 0) * cpus,
        request.gpus_per_node or 0,
        request.time_limit,
        request.gpu_type,
        request.constraint,
        tuple(request.partition.split(",")) if request.partition else (),
        request.account,
        request.qos,
        request.gres,
    )

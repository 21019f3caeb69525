"""What a cluster could ever give to a job, and whether that is enough: pure.

Only what stays as it is counts: nodes that are down or taken are there all the same.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_MOST_REASONS: Final = 3  # of one refusal; a cluster may have a hundred partitions


@dataclass(frozen=True, slots=True)
class NodeKind:
    """Nodes that are alike."""

    count: int
    cpus: int
    memory_mb: int  # MiB
    gpus: tuple[tuple[str, int], ...] = ()  # of each type, on one node
    features: tuple[str, ...] = ()
    gres: tuple[str, ...] = ()  # other resources by name, and those of a type as "nvme:fast" too


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the cluster with limits of its own: a partition. None = no limit."""

    name: str
    is_default: bool  # of jobs that name none
    nodes: tuple[NodeKind, ...]
    max_nodes: int | None = None  # of one job, as is the next
    max_seconds: float | None = None
    max_cpus: int | None = None  # of one job on a node, as is the next
    max_memory_mb: int | None = None  # MiB


@dataclass(frozen=True, slots=True)
class Offer:
    """All of a cluster."""

    sections: tuple[Section, ...]
    accounts: tuple[str, ...] | None = None  # that jobs may charge; None = nobody checks or knows
    qos: tuple[str, ...] | None = None  # likewise


@dataclass(frozen=True, slots=True)
class Demand:
    """What a job asks for, with what the cluster adds where the job says nothing."""

    nodes: int
    cpus: int  # on each node, as are the next two
    memory_mb: int  # MiB
    gpus: int
    time_limit: float  # seconds
    gpu_type: str | None = None  # None = any
    constraint: str | None = None  # features of each node: "a&b|c"
    partitions: tuple[str, ...] = ()  # any one of these; () = the default one
    account: str | None = None  # None = the default one, as for the QOS
    qos: str | None = None
    gres: str | None = None  # "nvme:1,license:2"


@dataclass(frozen=True, slots=True)
class Never:
    """Why a job can never run there."""

    why: str
    field: str  # of a submission, as a JSON pointer: the one to change


def never(offer: Offer, demand: Demand) -> Never | None:
    """Why the job can never run there; None = it can, as far as one can tell."""
    for word, name, known in (
        ("account", demand.account, offer.accounts),
        ("QOS", demand.qos, offer.qos),
    ):
        if name is not None and known is not None and name.lower() not in known:
            there = f"there are {', '.join(known)}" if known else "there is none"
            return Never(f"its jobs have no {word} {name}; {there}", f"/slurm/{word.lower()}")
    wanted = [s for s in offer.sections if _is_wanted(s, demand)]
    if not wanted:
        return _nowhere(offer, demand)
    found = [_of_section(section, demand) for section in wanted]
    reasons = [reason for reason in found if reason is not None]
    if len(reasons) < len(found):
        return None
    whys = dict.fromkeys(reason.why for reason in reasons)
    return Never("; ".join(list(whys)[:_MOST_REASONS]), reasons[0].field)


def _is_wanted(section: Section, demand: Demand) -> bool:
    return section.name in demand.partitions if demand.partitions else section.is_default


def _nowhere(offer: Offer, demand: Demand) -> Never:
    known = ", ".join(section.name for section in offer.sections)
    if demand.partitions:
        why = f"there is no partition {','.join(demand.partitions)}; there are {known}"
    else:
        why = f"it has no default partition: name one of {known}"
    return Never(why, "/slurm/partition")


def _of_section(section: Section, demand: Demand) -> Never | None:
    where = f"the partition {section.name}"
    most_time = _time(section.max_seconds or 0.0)
    limits = (
        ("/estimated_hours", demand.time_limit, section.max_seconds, f"a time of {most_time}"),
        ("/nodes", demand.nodes, section.max_nodes, f"{section.max_nodes} nodes"),
        ("/cpu_cores", demand.cpus, section.max_cpus, f"{section.max_cpus} CPUs of a node"),
        (
            "/memory_gb",
            demand.memory_mb,
            section.max_memory_mb,
            f"{section.max_memory_mb} MiB of a node",
        ),
    )
    for field, asked, most, words in limits:
        if most and asked > most:
            return Never(f"{where} gives a job {words} at most", field)
    fitting = list(section.nodes)
    if (count := _count(fitting)) < demand.nodes:
        return Never(f"{where} has {_nodes(count)}, and the job needs {demand.nodes}", "/nodes")
    for field, words, suffices, known in _wants(demand):
        count = _count(filter(suffices, section.nodes))
        if count < demand.nodes:
            return Never(
                f"{where} has {_nodes(count)} with {words}, and the job needs {demand.nodes}"
                f"{known(section.nodes)}",
                field,
            )
        fitting = list(filter(suffices, fitting))
    if (count := _count(fitting)) < demand.nodes:
        why = f"{where} has {_nodes(count)} with all that it asks for, and it needs {demand.nodes}"
        return Never(why, "/nodes")
    return None


_Want = tuple[str, str, Callable[[NodeKind], bool], Callable[[Sequence[NodeKind]], str]]


def _wants(demand: Demand) -> Iterator[_Want]:
    """Each thing that a node must have: the field that asks for it, in words, whether a node has
    it, and what there is instead."""
    cpus, memory = demand.cpus, demand.memory_mb
    yield (
        "/cpu_cores",
        f"{cpus} CPUs",
        lambda node: node.cpus >= cpus,
        lambda nodes: _largest((node.cpus for node in nodes), "{} CPUs"),
    )
    yield (
        "/memory_gb",
        f"{memory} MiB of memory",
        lambda node: node.memory_mb >= memory,
        lambda nodes: _largest((node.memory_mb for node in nodes), "{} MiB"),
    )
    if demand.gpus:
        kind = demand.gpu_type
        yield (
            "/gpu_type" if kind else "/gpu_count",
            f"{demand.gpus} GPUs" + (f" of the type {kind}" if kind else ""),
            lambda node: _gpus(node, kind) >= demand.gpus,
            lambda nodes: _listed("GPUs", (f"{t}:{n}" for node in nodes for t, n in node.gpus)),
        )
    if demand.constraint is not None and (parts := _alternatives(demand.constraint)):
        yield (
            "/constraint",
            f"the features {demand.constraint}",
            lambda node: any(part <= {*node.features} for part in parts),
            lambda nodes: _listed("features", (name for node in nodes for name in node.features)),
        )
    for name in _resources(demand.gres):
        yield (
            "/slurm/gres",
            f"the resource {name}",
            lambda node, name=name: name in node.gres,  # type: ignore[misc]  # has a default
            lambda nodes: _listed("resources", (each for node in nodes for each in node.gres)),
        )


def _gpus(node: NodeKind, kind: str | None) -> int:
    return sum(count for name, count in node.gpus if kind is None or name == kind.lower())


def _alternatives(constraint: str) -> list[set[str]]:
    """Any one of these sets of features; none where Slurm's words go beyond & and |."""
    if not set("()[]*").isdisjoint(constraint):
        return []
    return [set(part.split("&")) for part in constraint.split("|")]


def _resources(gres: str | None) -> list[str]:
    """`nvme:fast:2,license=1` → nvme:fast, license; how many there are, the cluster checks."""
    found = []
    for part in (gres or "").split(","):
        words = part.replace("=", ":").split(":")
        if words[0] and words[0] != "gpu":
            found.append(":".join(word for word in words[:2] if not word[:1].isdigit()))
    return found


def _count(nodes: Iterable[NodeKind]) -> int:
    return sum(node.count for node in nodes)


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count or 'no'} nodes"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:g} hours" if seconds >= 3600 else f"{seconds / 60:g} minutes"


def _largest(amounts: Iterable[int], words: str) -> str:
    return f" (the largest has {words.format(max(amounts, default=0))})"


def _listed(what: str, names: Iterable[str]) -> str:
    known = sorted(set(names))
    return f" (its {what}: {', '.join(known[:20]) or 'none'})"

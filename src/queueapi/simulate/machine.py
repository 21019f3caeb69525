"""The nodes that a trace is replayed on, and what a job of the trace asks of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from queueapi.scheduling import Node, Request
from queueapi.simulate.files import numbered_lines, whole_number
from queueapi.simulate.trace import Trace, TraceError, TraceJob

MOST_NODES = 20_000
MOST_GPUS = 1_000  # of a node
_RANGE = re.compile(r"(.*)\[([^\[\]]+)\](.*)")
_GRES = re.compile(r"gpu(?::([A-Za-z][\w.-]*))?(?::(\d+))?(?:\(.*\))?")


@dataclass(frozen=True, slots=True)
class Machine:
    """Nodes, and the memory of a job that does not say how much it needs."""

    nodes: tuple[Node, ...]
    memory_per_cpu_mb: int = 0
    counts_memory: bool = True  # False: nothing is known of it, and nobody is refused any
    _requests: dict[tuple[object, ...], Request] = field(default_factory=dict, repr=False)

    @property
    def cpus(self) -> int:
        return sum(node.cpus for node in self.nodes)

    def request(self, job: TraceJob) -> Request:
        """What the job asks of each node; jobs that ask alike share one object."""
        gpus = (job.gpu_count, job.gpu_type)
        asked = (job.cpus, job.nodes, job.memory_mb, gpus, job.constraint, job.exclusive)
        request = self._requests.get(asked)
        if request is None:
            request = self._requests[asked] = self._fresh(job)
        return request

    def _fresh(self, job: TraceJob) -> Request:
        nodes = job.nodes or math.ceil(job.cpus / max(node.cpus for node in self.nodes))
        spread = 1 if job.nodes else nodes  # what is said of all nodes together is divided
        cpus = math.ceil(job.cpus / spread)
        memory_mb = 0
        if self.counts_memory:
            asked = job.memory_mb
            memory_mb = self.memory_per_cpu_mb * cpus if asked is None else -(-asked // spread)
        return Request(
            cpus=cpus,
            memory_mb=memory_mb,
            gpu_count=job.gpu_count,
            gpu_type=job.gpu_type,
            nodes=nodes,
            constraint=job.constraint,
            exclusive=job.exclusive,
        )


def one_node(processors: int) -> Machine:
    """A machine of so many CPUs and nothing else, as workload archives describe one."""
    return Machine((Node("machine", processors, 0),), counts_memory=False)


def machine_of(trace: Trace, nodes_file: Path | None) -> Machine:
    """The nodes in the file, or the machine that the trace names. Raises TraceError."""
    if nodes_file is not None:
        return read_nodes(nodes_file)
    if trace.processors is None:
        raise TraceError(
            f"{trace.name} does not say how large the machine is (a header `; MaxProcs: 100`); "
            "name its nodes with --nodes FILE"
        )
    return one_node(trace.processors)


def read_nodes(path: Path) -> Machine:
    """Nodes from lines as slurm.conf has them; its other lines are passed over.

        DefMemPerCPU=2800
        NodeName=n[1-4] CPUs=12 RealMemory=48000 Feature=IB,CPU-N
        NodeName=g1 CPUs=12 RealMemory=48000 Gres=gpu:a100:2

    Memory is in MB. Without CPUs, Sockets × CoresPerSocket × ThreadsPerCore count; a line
    `NodeName=DEFAULT` holds for those that follow. Raises TraceError with the file and the line.

    Source: https://slurm.schedmd.com/slurm.conf.html, "NODE CONFIGURATION".
    """
    nodes: dict[str, Node] = {}
    defaults: dict[str, str] = {}
    memory_per_cpu_mb = 0
    for number, text in numbered_lines(path):
        where = f"{path}:{number}"
        values = _values(text.partition("#")[0], where)
        if "defmempercpu" in values:
            memory_per_cpu_mb = _count(values, "DefMemPerCPU", where)
        names = values.pop("nodename", None)
        if names is None:
            continue
        if names.upper() == "DEFAULT":
            defaults = values
            continue
        for name in expand(names, where):
            if len(nodes) == MOST_NODES:
                raise TraceError(f"{where}: more than {MOST_NODES} nodes")
            if name in nodes:
                raise TraceError(f"{where}: the node {name} is there twice")
            nodes[name] = _node(name, defaults | values, where)
    if not nodes:
        raise TraceError(f"{path}: no node; write lines such as NodeName=n[1-4] CPUs=12")
    return Machine(tuple(nodes.values()), memory_per_cpu_mb)


def _values(text: str, where: str) -> dict[str, str]:
    """The key=value pairs of a line, keys in lower case. Lines about no node may be anything."""
    values = {}
    about_nodes = text.strip().lower().startswith("nodename")
    for word in text.split():
        key, equals, value = word.partition("=")
        if about_nodes and not (equals and value):
            raise TraceError(f"{where}: {word!r} is not KEY=VALUE")
        values[key.lower()] = value
    return values


def expand(names: str, where: str) -> Iterator[str]:
    """The names in a list such as n[1-3,07],login. Raises TraceError."""
    for name in re.split(r",(?![^\[]*\])", names):
        found = _RANGE.fullmatch(name)
        if found is None:
            if not name or "[" in name or "]" in name:
                raise TraceError(f"{where}: {name!r} is not a node's name")
            yield name
            continue
        before, ranges, after = found.groups()
        for part in ranges.split(","):
            first, _, last = part.partition("-")
            last = last or first
            low, high = (whole_number(end, "the end of a range", where) for end in (first, last))
            if low > high:
                raise TraceError(f"{where}: {part!r} is not a range of nodes, such as 1-4")
            for number in range(low, high + 1):
                yield from expand(f"{before}{number:0{len(first)}}{after}", where)


def _node(name: str, values: dict[str, str], where: str) -> Node:
    return Node(
        name=name,
        cpus=_cpus(values, where),
        memory_mb=_count(values, "RealMemory", where, 1),
        gpus=tuple(_gpus(values.get("gres", ""), where)),
        features=frozenset(filter(None, _features(values).split(","))),
    )


def _features(values: dict[str, str]) -> str:
    return values.get("features") or values.get("feature", "")


def _cpus(values: dict[str, str], where: str) -> int:
    if "cpus" in values or "procs" in values:
        cpus = _count(values, "CPUs" if "cpus" in values else "Procs", where)
    else:
        cpus = math.prod(
            _count(values, key, where, 1) for key in ("Sockets", "CoresPerSocket", "ThreadsPerCore")
        )
    if cpus < 1:
        raise TraceError(f"{where}: CPUs must be at least 1")
    return cpus


def _count(values: dict[str, str], key: str, where: str, default: int = 0) -> int:
    value = values.get(key.lower())
    return default if value is None else whole_number(value, key, where)


def _gpus(gres: str, where: str) -> Iterator[str]:
    """The type of each GPU; other resources are passed over."""
    for part in filter(None, gres.split(",")):
        if part.partition(":")[0] != "gpu":
            continue
        found = _GRES.fullmatch(part)
        if found is None:
            raise TraceError(f"{where}: Gres must be gpu:COUNT or gpu:TYPE:COUNT, not {part!r}")
        count = whole_number(found[2] or "1", "a count of GPUs", where)
        if count > MOST_GPUS:
            raise TraceError(f"{where}: {count} GPUs on a node; {MOST_GPUS} are the most")
        yield from [found[1] or "gpu"] * count

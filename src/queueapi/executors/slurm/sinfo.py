"""`sinfo`: the nodes, what they have and what of it is in use, by whomever."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from queueapi.executors.base import NodeInventory
from queueapi.executors.slurm import records
from queueapi.executors.slurm.tres import parse_gpus, parse_gres_names

_FIELDS: Final = (
    *("NodeList", "StateComplete", "CPUsState", "Memory", "AllocMem", "Gres", "GresUsed"),
    *("features_act", "Partition", "Reason"),
)
_STARTS_JOBS: Final = frozenset({"idle", "mixed", "allocated"})
# Flags with which a node takes no new job, or that promise it to somebody.
_CLOSED: Final = frozenset({
    *("drain", "down", "fail", "not_responding", "no_respond", "powering_down", "power_down"),
    *("power_drain", "reboot_requested", "reboot_issued", "maintenance", "maint", "reserved"),
    *("invalid_reg", "blocked", "external", "unknown", "future", "error"),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """One node, in all of its partitions."""

    name: str
    state: str  # "idle", "mixed", "allocated", "down", …
    flags: frozenset[str]  # "drain", "not_responding", "cloud", "powered_down", …
    cpus: int
    cpus_used: int
    memory_mb: int  # MiB
    memory_used_mb: int  # MiB that jobs have reserved
    gpus: tuple[str, ...]  # a type per GPU; "gpu" where it has none
    gpus_used: tuple[str, ...]
    features: tuple[str, ...]
    partitions: tuple[str, ...]
    reason: str  # why an operator or Slurm closed it; "" = none
    gres: tuple[str, ...] = ()  # names of what it has beside GPUs

    @property
    def open(self) -> bool:
        """Whether it takes new jobs, when it has room. One that is powered down is started."""
        return self.state in _STARTS_JOBS and not self.flags & _CLOSED

    @property
    def inventory(self) -> NodeInventory:
        """What it offers, whether used or free."""
        return NodeInventory(self.name, self.cpus, self.memory_mb, self.gpus, self.features)


def nodes_argv(mark: str) -> tuple[str, ...]:
    """Ask for each node of each partition, the hidden ones too."""
    argv = ("sinfo", "--noheader", "--Node", "--all")
    return records.question(*argv, "--Format", records.long_format(_FIELDS, mark))


def parse_nodes(text: str, mark: str) -> list[Node]:
    """The nodes, by name; each once.

    Raises :class:`records.BadOutput` when the answer was cut short or is of another form.
    """
    found: dict[str, Node] = {}
    for record in records.split_records(text, mark, len(_FIELDS)):
        try:
            node = _node(dict(zip(_FIELDS, record, strict=True)))
        except ValueError as error:
            raise records.BadOutput(f"node {record[0][:40]!r}: {error}") from error
        if seen := found.get(node.name):
            partitions = sorted({*seen.partitions, *node.partitions})
            node = replace(node, partitions=tuple(partitions))
        found[node.name] = node
    return [found[name] for name in sorted(found)]


def _node(values: Mapping[str, str]) -> Node:
    state, *flags = values["StateComplete"].strip().lower().split("+")
    used, _idle, _other, cpus = map(int, values["CPUsState"].split("/"))
    features = records.word(values["features_act"])
    reason = records.word(values["Reason"])
    return Node(
        name=values["NodeList"].strip(),
        state=state.rstrip("*~#!%$@^-"),
        flags=frozenset(flags),
        cpus=cpus,
        cpus_used=used,
        memory_mb=int(values["Memory"]),
        memory_used_mb=records.number(values["AllocMem"].strip()) or 0,
        gpus=parse_gpus(values["Gres"]),
        gpus_used=parse_gpus(values["GresUsed"]),
        features=tuple(features.split(",")) if features else (),
        partitions=(values["Partition"].strip().rstrip("*"),),
        reason="" if reason == "none" else reason,
        gres=parse_gres_names(values["Gres"]),
    )

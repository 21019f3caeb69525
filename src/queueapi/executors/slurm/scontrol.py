"""`scontrol` and `scancel`: orders about jobs, and what only `scontrol` knows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from queueapi.executors.slurm import records
from queueapi.executors.slurm.hostlist import expand
from queueapi.executors.slurm.times import parse_span

_PAIR: Final = re.compile(r"(?:^|\s)([A-Za-z][A-Za-z0-9_/:]*)=(\S*)", re.ASCII)
_SETTING: Final = re.compile(r"^([A-Za-z][A-Za-z0-9_]*)\s*=\s?(.*)$", re.ASCII | re.MULTILINE)
_PING: Final = re.compile(r"^Slurmctld\((\w+)\) at (\S+) is (UP|DOWN)", re.ASCII | re.MULTILINE)
_UNLIMITED: Final = "UNLIMITED"


def cancel_argv(ids: Sequence[int]) -> tuple[str, ...]:
    """End jobs: SIGTERM to all their processes, KillWait seconds, SIGKILL. Unknown ids are fine."""
    return records.question("scancel", *map(str, records.job_ids(ids).split(",")))


def cancel_named_argv(name: str, user: str) -> tuple[str, ...]:
    """End the jobs of this name: also one whose id we never heard."""
    return records.question("scancel", "--user", user, "--name", name)


def suspend_argv(ids: Sequence[int]) -> tuple[str, ...]:
    """Stop running jobs where they are. Only an operator of the cluster may."""
    return records.question("scontrol", "suspend", records.job_ids(ids))


def resume_argv(ids: Sequence[int]) -> tuple[str, ...]:
    """Let suspended jobs go on. Only an operator of the cluster may."""
    return records.question("scontrol", "resume", records.job_ids(ids))


def hold_argv(ids: Sequence[int]) -> tuple[str, ...]:
    """Keep waiting jobs from starting."""
    return records.question("scontrol", "hold", records.job_ids(ids))


def release_argv(ids: Sequence[int]) -> tuple[str, ...]:
    """Let held jobs start."""
    return records.question("scontrol", "release", records.job_ids(ids))


def requeue_argv(ids: Sequence[int]) -> tuple[str, ...]:
    """End running jobs and let them wait again, about two minutes at least."""
    return records.question("scontrol", "requeue", records.job_ids(ids))


def ping_argv() -> tuple[str, ...]:
    """Ask whether the controller answers."""
    return records.question("scontrol", "ping")


def parse_ping(text: str) -> bool:
    """Whether any controller is up."""
    return any(state == "UP" for _role, _host, state in _PING.findall(text))


def config_argv() -> tuple[str, ...]:
    """Ask for the cluster's settings."""
    return records.question("scontrol", "show", "config")


def parse_config(text: str) -> Mapping[str, str]:
    """The settings by their names: `ClusterName`, `SLURM_VERSION`, `MinJobAge`, …"""
    return {name: value.strip() for name, value in _SETTING.findall(text)}


@dataclass(frozen=True, slots=True)
class Partition:
    """A class of jobs with nodes of its own; what can never run in it waits there for ever."""

    name: str
    up: bool
    default: bool
    nodes: tuple[str, ...]
    max_nodes: int | None  # of one job; None = no limit, as below
    max_seconds: float | None  # of one job
    default_seconds: float | None
    max_memory_mb_per_node: int | None  # MiB
    max_cpus_per_node: int | None
    accounts: tuple[str, ...] | None  # that may use it; None = all, as below
    qos: tuple[str, ...] | None
    groups: tuple[str, ...] | None


def partitions_argv() -> tuple[str, ...]:
    """Ask for all partitions, the hidden ones too."""
    return records.question("scontrol", "--all", "--oneliner", "show", "partition")


def parse_partitions(text: str) -> list[Partition]:
    """The partitions, in the cluster's order.

    Raises :class:`records.BadOutput` when the answer was cut short or is of another form.
    """
    if text and not text.endswith("\n"):
        raise records.BadOutput("the answer was cut short")
    found = []
    for line in text.splitlines():
        values = dict(_PAIR.findall(line))
        if "PartitionName" not in values:
            continue
        try:
            found.append(_partition(values))
        except (KeyError, ValueError) as error:
            name = values["PartitionName"][:40]
            raise records.BadOutput(f"partition {name!r}: {error}") from error
    return found


def _partition(values: Mapping[str, str]) -> Partition:
    return Partition(
        name=values["PartitionName"],
        up=values["State"] == "UP",
        default=values["Default"] == "YES",
        nodes=expand(values["Nodes"]),
        max_nodes=_limit(values["MaxNodes"]),
        max_seconds=_seconds(values["MaxTime"]),
        default_seconds=_seconds(values["DefaultTime"]),
        max_memory_mb_per_node=_limit(values.get("MaxMemPerNode", _UNLIMITED)),
        max_cpus_per_node=_limit(values["MaxCPUsPerNode"]),
        accounts=_names(values["AllowAccounts"]),
        qos=_names(values["AllowQos"]),
        groups=_names(values["AllowGroups"]),
    )


def _limit(text: str) -> int | None:
    return None if text == _UNLIMITED else int(text)


def _seconds(text: str) -> float | None:
    span = parse_span(text)
    return None if span is None or span == float("inf") else span


def _names(text: str) -> tuple[str, ...] | None:
    return None if text == "ALL" else tuple(text.split(","))

"""What one job asks of Slurm, checked so that every word of it can be an argument of `sbatch`."""

import re
from dataclasses import dataclass
from typing import Final

from queueapi.executors.base import LaunchRefused, check_key

_MOST: Final = 1 << 31  # Slurm's numbers have 32 bits
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}", re.ASCII)
_NAMES: Final = re.compile(rf"{_NAME.pattern}(?:,{_NAME.pattern}){{0,31}}", re.ASCII)
_CONSTRAINT: Final = re.compile(r"[A-Za-z0-9_([][A-Za-z0-9_.:&|*()\[\]-]{0,499}", re.ASCII)
_GPU_TYPE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_GRES_ONE: Final = r"[A-Za-z_][A-Za-z0-9_]{0,63}(?::[A-Za-z0-9_.-]{1,64})?(?::[0-9]{1,9}[KMGT]?)?"
_GRES: Final = re.compile(rf"{_GRES_ONE}(?:,{_GRES_ONE}){{0,15}}", re.ASCII)
_COMMENT: Final = re.compile(r"[A-Za-z0-9 ._:/@+=,-]{0,200}", re.ASCII)
# No `%`, which Slurm would replace, and nothing that a shell or a list would take apart.
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_.@+=~-]+)+", re.ASCII)
_MAX_PATH: Final = 4000
_NODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Request:
    """A job as `sbatch` shall see it. None leaves the choice to the cluster.

    Raises :class:`LaunchRefused` for values that can't be passed on.
    """

    name: str  # the launch key, by which the job is found again
    folder: str  # absolute, on the cluster: the job's own, where it runs
    time_limit: float  # seconds
    nodes: int = 1
    ntasks: int | None = None  # over all nodes
    ntasks_per_node: int | None = None
    cpus_per_task: int | None = None
    memory_mb_per_node: int | None = None  # MiB; this or the next, not both
    memory_mb_per_cpu: int | None = None  # MiB
    gpus_per_node: int | None = None  # this or the next, not both
    gpus_per_task: int | None = None
    gpu_type: str | None = None
    gres: str | None = None  # other generic resources: "license:2,nvme:1"
    constraint: str | None = None  # features of the nodes, in Slurm's words
    exclusive: bool = False
    partition: str | None = None  # one, or several with commas between
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    nodelist: tuple[str, ...] = ()  # nodes that it must have
    exclude: tuple[str, ...] = ()  # nodes that it must not have
    nice: int = 0  # lowers its priority by so much
    comment: str = ""

    def __post_init__(self) -> None:
        check_key(self.name)
        check_path(self.folder)
        if not 0 < self.time_limit < _MOST:
            raise LaunchRefused(f"not a time limit in seconds: {self.time_limit}")
        for name in _COUNTS:
            _check_count(name, getattr(self, name))
        for name, pattern in _PATTERNS.items():
            value = getattr(self, name)
            if value is not None and not pattern.fullmatch(value):
                raise LaunchRefused(f"not allowed as the {name} of a Slurm job: {value[:80]!r}")
        for host in (*self.nodelist, *self.exclude):
            if not _NODE.fullmatch(host):
                raise LaunchRefused(f"not allowed as the name of a node: {host[:80]!r}")
        if not 0 <= self.nice < _MOST:
            raise LaunchRefused(f"not allowed as nice: {self.nice}")
        self._check_pairs()

    def _check_pairs(self) -> None:
        if self.memory_mb_per_node is not None and self.memory_mb_per_cpu is not None:
            raise LaunchRefused("memory is given per node and per CPU; Slurm takes one of them")
        if self.gpus_per_node is not None and self.gpus_per_task is not None:
            raise LaunchRefused("GPUs are given per node and per task; Slurm takes one of them")
        if self.gpus_per_task is not None and not (self.ntasks or self.ntasks_per_node):
            raise LaunchRefused("GPUs per task need a number of tasks")
        if self.gpu_type is not None and not (self.gpus_per_node or self.gpus_per_task):
            raise LaunchRefused("a GPU type needs a number of GPUs")
        if self.ntasks is not None and self.ntasks < self.nodes:
            raise LaunchRefused(f"{self.ntasks} tasks can't be on {self.nodes} nodes")


_COUNTS: Final = (
    *("nodes", "ntasks", "ntasks_per_node", "cpus_per_task", "memory_mb_per_node"),
    *("memory_mb_per_cpu", "gpus_per_node", "gpus_per_task"),
)
_PATTERNS: Final = {
    "gpu_type": _GPU_TYPE,
    "gres": _GRES,
    "constraint": _CONSTRAINT,
    "partition": _NAMES,
    "account": _NAME,
    "qos": _NAME,
    "reservation": _NAMES,
    "comment": _COMMENT,
}


def _check_count(name: str, value: int | None) -> None:
    # 0 would mean "all" of memory, "no limit", or nothing at all.
    if value is not None and not (type(value) is int and 1 <= value < _MOST):
        raise LaunchRefused(f"not allowed as {name} of a Slurm job: {value!r}")


def check_path(path: str) -> str:
    """Return ``path`` if it is absolute and plain, else raise :class:`LaunchRefused`."""
    plain = len(path) <= _MAX_PATH and _PATH.fullmatch(path)
    if not plain or not {".", ".."}.isdisjoint(path.split("/")):
        raise LaunchRefused(f"not a plain absolute path: {path[:80]!r}")
    return path

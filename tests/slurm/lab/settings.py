"""What a lab is like; and its places, ports and names, once it is made."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CLUSTER = "lab"
ACCOUNT = "research"
QOS = ("normal", "high")
# Accounts without a password. The first one is who jobs run as, where all run as one.
USERS = ("qlab1", "qlab2", "qlab3")


@dataclass(frozen=True)
class Node:
    """An emulated node; it may claim more than the machine has."""

    name: str
    cpus: int = 8
    memory_mb: int = 16_000
    gpus: int = 0
    gpu_type: str = ""
    features: tuple[str, ...] = ()


FOUR_NODES = (
    Node("node1", gpus=2, gpu_type="a100", features=("ib", "bigmem")),
    Node("node2", gpus=2, gpu_type="a100", features=("ib",)),
    Node("node3", gpus=2, gpu_type="v100"),
    Node("node4", features=("slow",)),
)


@dataclass(frozen=True)
class Settings:
    """Chosen before the start. Times are in seconds."""

    nodes: tuple[Node, ...] = FOUR_NODES
    newer: bool = False  # the Slurm of a newer Debian, in a chroot
    memory_limits: bool = False  # enforced by cgroup version 1, so that jobs end OUT_OF_MEMORY
    min_job_age: int = 300  # how long squeue and scontrol know a job that ended
    kill_wait: int = 2  # from SIGTERM to SIGKILL
    node_timeout: int = 20  # until a node that does not answer is down
    extra: tuple[str, ...] = ()  # more lines of slurm.conf


@dataclass(frozen=True)
class Ports:
    """All on 127.0.0.1."""

    sshd: int
    slurmctld: int
    slurmdbd: int
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A lab that was made: all that another process needs to know of it."""

    folder: Path
    host: str  # the name by which Slurm knows this machine
    version: str  # "22.05.8"
    ports: Ports
    root: Path | None  # of the chroot; None = this machine itself
    settings: Settings = field(default_factory=Settings)

    def save(self) -> None:
        values = asdict(self) | {"folder": str(self.folder), "root": str(self.root or "")}
        (self.folder / "lab.json").write_text(json.dumps(values))

    @classmethod
    def load(cls, folder: Path) -> "Plan":
        """Raises FileNotFoundError."""
        values: dict[str, Any] = json.loads((folder / "lab.json").read_text())
        settings = values["settings"]
        nodes = [
            Node(**{**node, "features": tuple(node["features"])}) for node in settings["nodes"]
        ]
        ports = values["ports"]
        return cls(
            folder=Path(values["folder"]),
            host=values["host"],
            version=values["version"],
            ports=Ports(**{**ports, "nodes": tuple(ports["nodes"])}),
            root=Path(values["root"]) if values["root"] else None,
            settings=Settings(
                **{**settings, "nodes": tuple(nodes), "extra": tuple(settings["extra"])}
            ),
        )

"""The options that describe a job: those of `submit` and of `run`."""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from queueapi.cli.commands import COMMAND_LINE
from queueapi.cli.quantities import gigabytes, seconds

T = TypeVar("T")

Script = Annotated[
    str | None,
    typer.Argument(metavar="[SCRIPT | - | -- COMMAND...]", help="A file, or - for standard input"),
]


@dataclass
class JobOptions:
    command: Annotated[
        str | None, typer.Option("--command", "-c", help="The script itself, as one argument")
    ] = None
    name: Annotated[str | None, typer.Option("--name", "-n", help="A name of your choice")] = None
    nodes: Annotated[
        int | None, typer.Option("--nodes", "-N", help="How many nodes, all at once")
    ] = None
    cpus: Annotated[int | None, typer.Option("--cpus", help="CPU cores on each node")] = None
    tasks: Annotated[int | None, typer.Option("--tasks", help="Tasks over all nodes")] = None
    tasks_per_node: Annotated[
        int | None, typer.Option("--tasks-per-node", help="Tasks on each node")
    ] = None
    cpus_per_task: Annotated[
        int | None, typer.Option("--cpus-per-task", help="CPU cores of each task")
    ] = None
    memory: Annotated[
        str | None, typer.Option("--memory", "-m", metavar="SIZE", help="On each node: 4G or 512M")
    ] = None
    memory_per_cpu: Annotated[
        str | None, typer.Option("--memory-per-cpu", metavar="SIZE", help="In place of --memory")
    ] = None
    gpus: Annotated[int | None, typer.Option("--gpus", help="GPUs on each node")] = None
    gpus_per_task: Annotated[
        int | None, typer.Option("--gpus-per-task", help="In place of --gpus")
    ] = None
    gpu_type: Annotated[str | None, typer.Option("--gpu-type", help="For example a100")] = None
    constraint: Annotated[
        str | None,
        typer.Option("--constraint", "-C", help="Features of each node: 'IB&CPU-N|BigMem'"),
    ] = None
    exclusive: Annotated[
        bool, typer.Option("--exclusive", help="Whole nodes, shared with no other job")
    ] = False
    reservation: Annotated[
        str | None, typer.Option("--reservation", help="Run in this reservation of nodes")
    ] = None
    time: Annotated[
        str | None,
        typer.Option("--time", "-t", metavar="TIME", help="Limit: 90s, 30m, 4h, [D-]HH:MM:SS"),
    ] = None
    priority: Annotated[int | None, typer.Option("--priority", "-p", help="1 to 10")] = None
    group: Annotated[str | None, typer.Option("--group", "-g", help="Who is charged")] = None
    queue: Annotated[str | None, typer.Option("--queue", help="One of `queueapi queues`")] = None
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="One of `queueapi clusters`; else any of them")
    ] = None
    partition: Annotated[str | None, typer.Option("--partition", help="On the cluster")] = None
    account: Annotated[str | None, typer.Option("--account", help="Likewise")] = None
    qos: Annotated[str | None, typer.Option("--qos", help="Likewise")] = None
    gres: Annotated[str | None, typer.Option("--gres", help="Likewise: gpu:a100:2, nvme:1")] = None
    image: Annotated[
        str | None, typer.Option("--image", help="Run in a container of it: docker://..., /path")
    ] = None
    bind: Annotated[
        list[str] | None,
        typer.Option("--bind", metavar="PATH:INSIDE[:rw]", help="A folder for the container"),
    ] = None
    executable: Annotated[
        str | None,
        typer.Option(
            "--executable",
            metavar="PATH|ID",
            help="A folder that the job finds as $QUEUEAPI_EXECUTABLE; a path is uploaded first",
        ),
    ] = None
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="TARGET",
            help="Fetched before it begins: https://, git+https://...@COMMIT, sftp://, path:/",
        ),
    ] = None
    tag: Annotated[list[str] | None, typer.Option("--tag", help="May be repeated")] = None
    after_ok: Annotated[
        list[str] | None,
        typer.Option("--after-ok", metavar="ID[,ID]", help="Start when these have completed"),
    ] = None
    after_any: Annotated[
        list[str] | None,
        typer.Option("--after-any", metavar="ID[,ID]", help="When they have ended, however"),
    ] = None
    after_not_ok: Annotated[
        list[str] | None,
        typer.Option("--after-not-ok", metavar="ID[,ID]", help="When they have failed"),
    ] = None
    after: Annotated[
        list[str] | None,
        typer.Option("--after", metavar="ID[,ID]", help="When they have started"),
    ] = None
    after_corr: Annotated[
        list[str] | None,
        typer.Option(
            "--after-corr",
            metavar="ARRAY[,ARRAY]",
            help="Of an array: each task when theirs of the same index has completed",
        ),
    ] = None
    on_dependency_failure: Annotated[
        str | None,
        typer.Option(metavar="cancel|wait", help="When what it waits for can't come any more"),
    ] = None
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", metavar="K=V", help="May be repeated")
    ] = None
    input_file: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE.json", help="Reaches the job as $QUEUEAPI_INPUT"),
    ] = None
    job_type: Annotated[str | None, typer.Option("--type", help="A word of your choice")] = None
    provider: Annotated[str | None, typer.Option("--provider", help="Where it may run")] = None
    retries: Annotated[
        int | None, typer.Option("--retries", help="New attempts after a machine's failure")
    ] = None
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", help="Repeat a submit with it: one job comes of it"),
    ] = None

    def fields(self) -> dict[str, Any]:
        """The API's fields, those given only. Raises typer.BadParameter."""
        given: dict[str, Any] = {
            "name": self.name,
            "nodes": self.nodes,
            "cpu_cores": self.cpus,
            "tasks": self.tasks,
            "tasks_per_node": self.tasks_per_node,
            "cpus_per_task": self.cpus_per_task,
            "memory_gb": _read("--memory", gigabytes, self.memory),
            "memory_per_cpu_gb": _read("--memory-per-cpu", gigabytes, self.memory_per_cpu),
            "gpu_count": self.gpus,
            "gpus_per_task": self.gpus_per_task,
            "gpu_type": self.gpu_type,
            "constraint": self.constraint,
            "exclusive": self.exclusive or None,
            "reservation": self.reservation,
            "estimated_hours": _read("--time", _hours, self.time),
            "priority": self.priority,
            "group": self.group,
            "queue": self.queue,
            "cluster": self.cluster,
            "slurm": self._slurm() or None,
            "container": self._container(),
            "executable": self.executable,
            "data": {"target": self.data} if self.data is not None else None,
            "tags": self.tag or None,
            "depends_on": self._depends_on() or None,
            "on_dependency_failure": self.on_dependency_failure,
            "env": _read("--env", _environment, self.env or None),
            "job_type": self.job_type,
            "provider": self.provider,
            "max_retries": self.retries,
        }
        fields = {name: value for name, value in given.items() if value is not None}
        if self.input_file is not None:
            fields["input_data"] = _read("--input", _json_file, self.input_file)
        return fields

    def _container(self) -> dict[str, Any] | None:
        if self.image is None:
            if self.bind:
                raise typer.BadParameter("--bind needs --image")
            return None
        return {"image": self.image, "binds": [_bind(text) for text in self.bind or ()]}

    def _slurm(self) -> dict[str, str]:
        words = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "gres": self.gres,
        }
        return {name: word for name, word in words.items() if word is not None}

    def _depends_on(self) -> list[dict[str, Any]]:
        kinds = {
            "afterok": ("--after-ok", self.after_ok),
            "afterany": ("--after-any", self.after_any),
            "afternotok": ("--after-not-ok", self.after_not_ok),
            "after": ("--after", self.after),
            "aftercorr": ("--after-corr", self.after_corr),
        }
        return [
            {"job_id": job_id, "kind": kind}
            for kind, (option, lists) in kinds.items()
            for job_id in _read(option, _ids, lists or None) or ()
        ]

    def script(self, context: typer.Context, file: str | None) -> str:
        """The script, from the one place that was named. Raises typer.BadParameter."""
        words: list[str] = context.meta.get(COMMAND_LINE, [])
        named = [place for place in (file, self.command, words or None) if place is not None]
        if len(named) != 1:
            what = "Say what to run, once"
            raise typer.BadParameter(f"{what}: SCRIPT, -, --command TEXT, or -- COMMAND...")
        if words:
            return shlex.join(words)
        if self.command is not None:
            return self.command
        return _script_file(file or "-")


def _read(option: str, convert: Callable[[Any], T], value: Any) -> T | None:
    if value is None:
        return None
    try:
        return convert(value)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _hours(text: str) -> float:
    return seconds(text) / 3600


def _ids(lists: Sequence[str]) -> list[int]:
    words = [word.strip() for text in lists for word in text.split(",")]
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise ValueError(f"{word!r} is not a job's id; write 17 or 17,18")
    return [int(word) for word in words]


def _environment(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise ValueError(f"{pair!r} is not NAME=VALUE")
        found[name] = value
    return found


def _json_file(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def _script_file(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not a text in UTF-8.") from None


def _bind(text: str) -> dict[str, Any]:
    parts = text.split(":")
    if len(parts) not in (2, 3) or parts[2:] not in ([], ["ro"], ["rw"]):
        raise typer.BadParameter(
            f"--bind {text}: write PATH:INSIDE, PATH:INSIDE:ro or PATH:INSIDE:rw"
        )
    return {"source": parts[0], "target": parts[1], "writable": parts[2:] == ["rw"]}

"""From a run to what Slurm is given: pure."""

from collections.abc import Mapping
from typing import Final

from queueapi.executors.base import Container, LaunchRefused, Run
from queueapi.executors.environment import build_environment, data_files, encode_environment
from queueapi.executors.slurm.config import SITE_WORDS, SlurmConfig
from queueapi.executors.slurm.container import (
    DATA,
    EXECUTABLE,
    FOLDERS,
    RESULT,
    Places,
    check_container,
    enter_argv,
)
from queueapi.executors.slurm.folders import LIMIT, Prepared, Programs
from queueapi.executors.slurm.request import Request
from queueapi.executors.slurm.sbatch import submit_argv

_INPUT: Final = "input.json"


def prepare(run: Run, config: SlurmConfig, programs: Programs) -> Prepared:
    """Raises :class:`LaunchRefused` for what can't be passed to Slurm."""
    request = request_of(run, config)
    files = _files(run, config, request.folder)
    prefix: tuple[str, ...] = ()
    if run.container is not None:
        prefix = _enter(run, run.container, config, programs, request.folder, files)
    argv = submit_argv(
        request, batch_script=programs.batch_path, wrapper=programs.wrapper_path, prefix=prefix
    )
    return Prepared(run.key, files, argv, FOLDERS if run.container is not None else ("result",))


def _enter(
    run: Run, container: Container, config: SlurmConfig, programs: Programs, folder: str,
    files: Mapping[str, bytes],
) -> tuple[str, ...]:  # fmt: skip
    check_container(container, config.containers)
    places = Places(
        folder,
        programs.wrapper_path,
        executable=_executable(run, config) or f"{folder}/executable",
        data=_data_folder(run, config) or f"{folder}/data",
        result=f"{folder}/result",
        inputs=(f"{folder}/{_INPUT}",) if _INPUT in files else (),
    )
    return enter_argv(container, places, program=config.container_program)


def _executable(run: Run, config: SlurmConfig) -> str | None:
    return f"{config.folders}/{run.executable}" if run.executable is not None else None


def request_of(run: Run, config: SlurmConfig) -> Request:
    """What the run asks of Slurm. Which nodes it gets is for Slurm to say."""
    site = site_words(run, config)
    nodes = max(len(run.nodes), 1)
    tasks_on_each = max(run.tasks_per_node, 1)
    # An exclusive run has whole nodes, and counts their CPUs; it need not ask for each of them.
    per_task = run.cpus_per_task if run.exclusive else run.cpus // tasks_on_each
    return Request(
        name=run.key,
        folder=f"{config.root}/{run.key}",
        time_limit=run.time_limit,
        nodes=nodes,
        ntasks=max(run.tasks, nodes),
        ntasks_per_node=tasks_on_each if nodes > 1 else None,
        cpus_per_task=max(run.cpus_per_task, per_task, 1),
        memory_mb_per_node=run.memory_mb or None,
        gpus_per_node=run.gpus_per_node or None,
        gpu_type=run.gpu_type if run.gpus_per_node else None,
        gres=site.get("gres"),
        constraint=run.constraint or None,
        exclusive=run.exclusive,
        partition=site.get("partition"),
        account=site.get("account"),
        qos=site.get("qos"),
        reservation=site.get("reservation"),
    )


def site_words(run: Run, config: SlurmConfig) -> Mapping[str, str]:
    """The cluster's own words for the run: its own before the cluster's defaults."""
    unknown = sorted(set(run.site) - set(SITE_WORDS))
    if unknown:
        raise LaunchRefused(f"not a word of a Slurm cluster: {unknown[0]!r}")
    site = {**config.defaults, **run.site}
    if not config.partitions:
        return site
    asked = site.get("partition")
    if asked is None:
        return {**site, "partition": ",".join(config.partitions)}
    closed = [name for name in asked.split(",") if name not in config.partitions]
    if closed:
        raise LaunchRefused(
            f"jobs may not use the partition {closed[0]} of {config.name}; "
            f"there are {', '.join(config.partitions)}"
        )
    return site


def _files(run: Run, config: SlurmConfig, folder: str) -> dict[str, bytes]:
    work = f"{folder}/work"
    environment = build_environment(
        run,
        home=work,
        tmpdir="/tmp",  # noqa: S108 - on the node, where Slurm or its operator makes it private
        user=config.user,
        result_path=RESULT if run.container is not None else f"{folder}/result",
        data_path=_data_path(run, config, folder),
        input_path=f"{folder}/{_INPUT}" if run.input_data is not None else None,
        executable=_executable(run, config),
        by_slurm=True,
    )
    if run.container is not None and run.executable is not None:
        environment["QUEUEAPI_EXECUTABLE"] = EXECUTABLE
    if run.container is not None and "PATH" not in run.environment:
        del environment["PATH"]  # the image has its own
    files = {
        "script": run.script.encode("utf-8", "surrogateescape"),
        "environment": encode_environment(environment),
        LIMIT: f"{run.time_limit:.3f}\n".encode(),
    }
    if run.input_data is not None:
        files[_INPUT] = run.input_data
    return files | data_files(run)


def _data_path(run: Run, config: SlurmConfig, folder: str) -> str | None:
    if run.data is None and run.data_folder is None:
        return None
    return DATA if run.container is not None else _data_folder(run, config) or f"{folder}/data"


def _data_folder(run: Run, config: SlurmConfig) -> str | None:
    return f"{config.folders}/{run.data_folder}" if run.data_folder is not None else None

"""Hands committed attempts to their executors, outside any transaction."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog
from sqlalchemy import Row

from queueapi import metrics
from queueapi.clock import utc_now
from queueapi.controller.leadership import LostLeadership
from queueapi.controller.patience import patience
from queueapi.executors.base import (
    ArrayTask,
    Bind,
    Container,
    Data,
    Executor,
    ExecutorUnavailable,
    LaunchRefused,
    Run,
)
from queueapi.executors.data import DataRules, parse_target
from queueapi.jobs.attempts import Launched

log = structlog.get_logger(__name__)

LAUNCH_SECONDS = 120.0  # after which a launch counts as one whose answer was lost


def run_of(row: Row[Any]) -> Run:
    """What the executor gets, from a row of jobs.attempts."""
    per_node = -(-row.tasks // row.nodes)
    return Run(
        key=row.launch_key,
        job_id=row.job_id,
        user_id=row.user_id,
        script=row.script,
        environment=row.env or {},
        input_data=row.input_data.encode() if row.input_data is not None else None,
        cpus=row.held_cpus // row.nodes if row.exclusive and row.held_cpus else row.cpu_cores,
        memory_mb=row.memory_mb,
        gpu_indices=tuple(row.gpu_indices),
        time_limit=row.time_limit,
        nodes=tuple(share["node"] for share in row.shares) if row.shares else (row.node,),
        tasks=row.tasks,
        array_task=_array_task(row),
        tasks_per_node=per_node,
        cpus_per_task=max(1, row.cpu_cores // per_node),
        gpus_per_node=row.gpu_count,
        gpu_type=row.gpu_type,
        constraint=row.constraint,
        exclusive=row.exclusive,
        site=row.site or {},
        container=_container(row.container, gpus=row.gpu_count > 0),
        executable=_digest(row.executable, row.executable_digest),
        data=_data(row),
        data_folder=_digest(row.data_folder, row.data_digest),
    )


def _container(found: Mapping[str, Any] | None, *, gpus: bool) -> Container | None:
    """`gpus`: whether the job has some, which decides where it does not say."""
    if found is None:
        return None
    binds = (Bind(b["source"], b["target"], b["writable"]) for b in found["binds"])
    said = found["gpus"]
    return Container(found["image"], tuple(binds), gpus if said is None else said)


def _digest(folder: int | None, digest: str | None) -> str | None:
    """Of a folder that a job names."""
    if folder is not None and digest is None:  # of a job that was requeued
        raise LaunchRefused(f"folder {folder}, which it names, was deleted")
    return digest


def _data(row: Row[Any]) -> Data | None:
    """Raises LaunchRefused where its cluster's options are no sense any more."""
    if row.data is None or row.data_folder is not None:
        return None
    try:
        return Data(parse_target(row.data["target"]), DataRules.read(row.options or {}))
    except ValueError as error:
        raise LaunchRefused(f"the job's data: {error}") from None


def _array_task(row: Row[Any]) -> ArrayTask | None:
    if row.array_id is None:
        return None
    return ArrayTask(row.array_id, row.array_index, row.task_count, row.min_index, row.max_index)


class Launcher:
    """`done` is called with the key after each launch. What came of it the loop collects.

    `check` is asked before each, and raises where the lead may be lost.
    """

    def __init__(
        self,
        executors: Mapping[str, Executor],
        done: Callable[[str], None],
        check: Callable[[], None],
    ) -> None:
        self._executors = executors
        self._done = done
        self._check = check
        # All by launch key.
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.launched: dict[str, Launched] = {}  # to be recorded
        self.refused: dict[str, str] = {}  # why

    def launch(self, rows: Iterable[Row[Any]]) -> None:
        """Start the launches; one that is under way already is left alone."""
        for row in rows:
            if row.launch_key not in self._tasks:
                task = asyncio.create_task(self._submit(row), name=f"launch-{row.launch_key}")
                self._tasks[row.launch_key] = task

    def is_launching(self, key: str) -> bool:
        """Or has been, with a result that is still to be collected."""
        found = (self._tasks, self.launched, self.refused)
        return any(key in known for known in found)

    async def close(self) -> None:
        """Let launches end that are under way: half a launch is what costs most to mend."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=5)

    async def _submit(self, row: Row[Any]) -> None:
        try:
            run = run_of(row)
            self._check()
            executor = self._executors.get(row.cluster)
            if executor is None:
                raise ExecutorUnavailable("this server has not heard of the cluster yet")
            async with patience(LAUNCH_SECONDS):
                remote_id = await executor.submit(run)
            self.launched[row.launch_key] = Launched(remote_id, utc_now())
            metrics.LAUNCHES.labels("launched").inc()
        except LaunchRefused as error:
            self.refused[row.launch_key] = str(error)
            metrics.LAUNCHES.labels("refused").inc()
        except ExecutorUnavailable as error:
            # The next sweep finds it unknown and without a remote id, and tries again.
            log.warning(
                "executor_unavailable", job_id=row.job_id, cluster=row.cluster, error=str(error)
            )
            metrics.LAUNCHES.labels("unavailable").inc()
        except LostLeadership:
            log.warning("launch_left", job_id=row.job_id)  # to the server that leads now
        except Exception:
            log.exception("launch_failed", job_id=row.job_id, attempt=row.launch_key)
            metrics.LAUNCHES.labels("error").inc()
        finally:
            del self._tasks[row.launch_key]
            self._done(row.launch_key)

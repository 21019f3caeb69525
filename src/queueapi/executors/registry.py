"""The executors by cluster: which there are changes while the server runs."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from queueapi.executors.base import (
    Check,
    ClusterConfig,
    Evidence,
    Executor,
    ExecutorUnavailable,
    NodeInventory,
    Observation,
    Run,
    Stream,
)
from queueapi.executors.files import FileEntry

_log = logging.getLogger(__name__)

_START_SECONDS: Final = 60.0  # until a start counts as failed
_CLOSE_SECONDS: Final = 5.0
_FIRST_RETRY: Final = 1.0  # seconds; doubles with each failure
_LAST_RETRY: Final = 60.0


@dataclass(slots=True)
class _Place:
    """A registered cluster with its executor, if one could be made."""

    config: ClusterConfig | str  # or why there can be none
    executor: Executor | None = None
    problem: str | None = "it is being connected"  # why it can't be used now
    starting: asyncio.Task[None] | None = field(default=None)


class Registry(Mapping[str, Executor]):
    """Every cluster that there is can be asked; one that can't be used now says why.

    ``makers`` gives the executor of each kind.
    """

    def __init__(self, makers: Mapping[str, Callable[[ClusterConfig], Executor]]) -> None:
        self._makers = makers
        self._built_in: dict[str, Executor] = {}
        self.host: str | None = None  # the id of the machine that this server is on, once known
        self._places: dict[str, _Place] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._changed: Callable[[str], None] = lambda key: None

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(sorted(self._makers))

    def problem(self, name: str) -> str | None:
        """Why the cluster can't be used now, as far as is known here."""
        place = self._places.get(name)
        return place.problem if place is not None else None

    def build_in(self, name: str, executor: Executor) -> None:
        """A cluster that is there without being registered. To be called before the start."""
        self._built_in[name] = executor

    def rename(self, name: str, new: str) -> None:
        """Give what is built in another name. To be called before the start."""
        self._built_in[new] = self._built_in.pop(name)

    async def start(self, changed: Callable[[str], None]) -> None:
        """Start what is built in. Raises :class:`ExecutorUnavailable` where that can't serve."""
        self._changed = changed
        for executor in self._built_in.values():
            await executor.start(changed)

    async def close(self) -> None:
        """Stop to serve; jobs go on running."""
        for name in tuple(self._places):
            self._drop(name)
        for executor in self._built_in.values():
            await executor.close()
        if self._closing:
            await asyncio.wait(self._closing)

    def follow(self, configs: Mapping[str, ClusterConfig | str]) -> None:
        """Let these be the registered clusters. Returns at once; the rest is done beside.

        One that is new or has changed gets an executor, one that is gone loses it.
        """
        for name, place in tuple(self._places.items()):
            if configs.get(name) != place.config:
                self._drop(name)
        for name, config in configs.items():
            if name not in self._places and name not in self._built_in:
                self._places[name] = self._place(config)

    def _place(self, config: ClusterConfig | str) -> _Place:
        place = _Place(config)
        if isinstance(config, str):
            place.problem = config
        elif config.kind not in self._makers:
            place.problem = f"this server does not know the kind {config.kind}"
        else:
            place.starting = asyncio.create_task(self._begin(place, config))
        return place

    async def _begin(self, place: _Place, config: ClusterConfig) -> None:
        """Start the executor, again and again until it succeeds."""
        pause = _FIRST_RETRY
        while True:
            try:
                if place.executor is None:
                    place.executor = self._makers[config.kind](config)
                async with asyncio.timeout(_START_SECONDS):
                    await place.executor.start(self._changed)
            except (ExecutorUnavailable, TimeoutError) as error:
                problem = str(error) or f"no answer in {_START_SECONDS:g} s"
                if problem != place.problem:
                    _log.warning("the cluster %s can't be used: %s", config.name, problem)
                place.problem = problem
            except Exception:  # one cluster's fault must not be another's
                _log.exception("the executor of the cluster %s failed", config.name)
                place.problem = "a fault of ours; the server's log has it"
            else:
                place.problem = None
                return
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
            pause = min(2 * pause, _LAST_RETRY)

    def _drop(self, name: str) -> None:
        task = asyncio.create_task(_end(self._places.pop(name)))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def __getitem__(self, name: str) -> Executor:
        if name in self._built_in:
            return self._built_in[name]
        place = self._places[name]
        if place.problem is None and place.executor is not None:
            return place.executor
        return _Absent(place.problem or "it is being connected", place.executor)

    def __iter__(self) -> Iterator[str]:
        yield from self._built_in
        yield from self._places

    def __len__(self) -> int:
        return len(self._built_in) + len(self._places)


async def _end(place: _Place) -> None:
    if place.starting is not None:
        place.starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await place.starting
    if place.executor is None:
        return
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await place.executor.close()
    except Exception:  # it is gone for us either way
        _log.exception("an executor could not be closed")


class _Absent:
    """Stands for a cluster that can't be used now, and says why."""

    kind = "absent"

    def __init__(self, why: str, executor: Executor | None) -> None:
        self._why = why
        self._executor = executor

    async def start(self, changed: Callable[[str], None]) -> None:
        raise ExecutorUnavailable(self._why)

    async def close(self) -> None:
        pass

    async def nodes(self) -> Sequence[NodeInventory]:
        raise ExecutorUnavailable(self._why)

    async def check(self) -> Sequence[Check]:
        if self._executor is not None:
            return await self._executor.check()
        return (Check("the settings", False, self._why, "change the cluster's settings"),)

    async def submit(self, run: Run) -> str:
        raise ExecutorUnavailable(self._why)

    async def poll(self, keys: Collection[str]) -> Mapping[str, Observation]:
        raise ExecutorUnavailable(self._why)

    async def evidence(self, key: str) -> Evidence:
        raise ExecutorUnavailable(self._why)

    async def cancel(self, key: str) -> None:
        raise ExecutorUnavailable(self._why)

    async def suspend(self, key: str) -> None:
        raise ExecutorUnavailable(self._why)

    async def resume(self, key: str) -> None:
        raise ExecutorUnavailable(self._why)

    def output_path(self, key: str) -> str | None:
        return self._executor.output_path(key) if self._executor is not None else None

    async def log_size(self, key: str, stream: Stream) -> int:
        raise ExecutorUnavailable(self._why)

    async def read_log(self, key: str, stream: Stream, offset: int, length: int) -> bytes:
        raise ExecutorUnavailable(self._why)

    async def file(self, key: str, path: bytes) -> FileEntry:
        raise ExecutorUnavailable(self._why)

    async def folder(self, key: str, path: bytes, after: bytes, limit: int) -> Sequence[FileEntry]:
        raise ExecutorUnavailable(self._why)

    async def read_file(self, key: str, path: bytes, offset: int, length: int) -> bytes:
        raise ExecutorUnavailable(self._why)

    async def remove(self, key: str) -> None:
        raise ExecutorUnavailable(self._why)

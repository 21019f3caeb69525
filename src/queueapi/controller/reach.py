"""What is asked of executors and told to them, so that a slow one holds up nobody.

Each cluster is asked beside the others. A cycle waits a moment for those that were quick the last
time; what the others say is taken in when it comes, and wakes the loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import StrEnum

import structlog

from queueapi.controller.leadership import LostLeadership
from queueapi.controller.patience import patience
from queueapi.executors.base import (
    Executor,
    ExecutorUnavailable,
    NodeInventory,
    Observation,
    SuspendRefused,
    TellsOffer,
)
from queueapi.executors.offer import Offer

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 0.25  # that a cycle waits for those who were quick
AT_ONCE = 16  # words to runs of one cluster


class Verb(StrEnum):
    CANCEL = "cancel"
    SUSPEND = "suspend"
    RESUME = "resume"


class Question(StrEnum):
    POLL = "poll"
    NODES = "nodes"


class Reach:
    """`news` is called when an answer comes that nobody waits for any more.

    `check` is asked before each word to a run, and raises where the lead may be lost.
    """

    def __init__(
        self,
        executors: Mapping[str, Executor],
        news: Callable[[], None],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._executors = executors
        self._news = news
        self._check = check
        self._asked: dict[tuple[str, Question], asyncio.Task[None]] = {}
        self._slow: set[tuple[str, Question]] = set()
        self._keys: dict[str, set[str]] = {}  # to be polled next, by cluster
        self._seen: dict[str, Observation] = {}
        self._inventories: dict[str, Sequence[NodeInventory]] = {}
        self._offers: dict[str, Offer] = {}
        self._problems: dict[tuple[str, Question], str] = {}
        self._words: dict[str, asyncio.Task[None]] = {}  # under way, by launch key
        self._gates: dict[str, asyncio.Semaphore] = {}

    def poll(self, cluster: str, keys: Iterable[str]) -> None:
        """Ask what is known of these runs. The answers of one cluster come one after the other."""
        self._keys.setdefault(cluster, set()).update(keys)
        self._ask(cluster, Question.POLL, self._poll)

    def look(self, clusters: Iterable[str]) -> None:
        """Ask for the nodes that these clusters have."""
        for cluster in clusters:
            self._ask(cluster, Question.NODES, self._look)

    async def settle(self) -> None:
        """Wait a moment for the answers of those that were quick the last time."""
        quick = [task for key, task in self._asked.items() if key not in self._slow]
        if not quick:
            return
        _, late = await asyncio.wait(quick, timeout=PATIENCE_SECONDS)
        if late:
            self._slow |= {key for key, task in self._asked.items() if task in late}

    def observations(self) -> dict[str, Observation]:
        """What came in since this was asked last, by launch key."""
        seen, self._seen = self._seen, {}
        return seen

    def inventories(self) -> dict[str, Sequence[NodeInventory]]:
        """What came in since this was asked last, by cluster."""
        found, self._inventories = self._inventories, {}
        return found

    def offers(self) -> dict[str, Offer]:
        """What clusters could ever give, of those that said so since this was asked last."""
        found, self._offers = self._offers, {}
        return found

    def away(self) -> dict[str, str]:
        """The clusters that can't be reached now, and why."""
        return {cluster: why for (cluster, _), why in sorted(self._problems.items())}

    def tell(
        self, cluster: str, key: str, verb: Verb, failed: Callable[[Exception], object]
    ) -> bool:
        """Pass a word on to a run; False where it must wait for the word before or the cluster.

        `failed` is called with the error where it did not get there.
        """
        away = any((cluster, question) in self._problems for question in Question)
        if away or key in self._words or cluster not in self._executors:
            return False
        task = asyncio.create_task(self._tell(cluster, key, verb, failed), name=f"{verb}-{key}")
        self._words[key] = task
        return True

    async def close(self) -> None:
        tasks = [*self._asked.values(), *self._words.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, cluster: str, question: Question, ask: Callable[[str], Awaitable[None]]) -> None:
        key = cluster, question
        if key not in self._asked:
            task = asyncio.create_task(self._answer(key, ask), name=f"{question}-{cluster}")
            self._asked[key] = task

    async def _answer(
        self, key: tuple[str, Question], ask: Callable[[str], Awaitable[None]]
    ) -> None:
        cluster, question = key
        started = asyncio.get_running_loop().time()
        try:
            async with patience():
                await ask(cluster)
        except ExecutorUnavailable as error:
            why = str(error)
            if self._problems.get(key) != why:
                log.warning("executor_unavailable", cluster=cluster, error=why)
            self._problems[key] = why
        except Exception:  # one cluster's fault must not be another's
            log.exception("executor_failed", cluster=cluster, question=question)
            self._problems[key] = "a fault of ours; the server's log has it"
        else:
            self._problems.pop(key, None)
        finally:
            del self._asked[key]
        if key in self._slow:
            if asyncio.get_running_loop().time() - started < PATIENCE_SECONDS:
                self._slow.discard(key)
            self._news()

    async def _poll(self, cluster: str) -> None:
        while keys := self._keys.pop(cluster, None):
            executor = self._executors.get(cluster)
            if executor is not None:
                seen = await executor.poll(sorted(keys))
                self._seen.update(seen)  # as it is by now: others have taken from it meanwhile

    async def _look(self, cluster: str) -> None:
        executor = self._executors.get(cluster)
        self._inventories[cluster] = await executor.nodes() if executor is not None else ()
        if isinstance(executor, TellsOffer) and (offer := executor.offer()) is not None:
            self._offers[cluster] = offer

    async def _tell(
        self, cluster: str, key: str, verb: Verb, failed: Callable[[Exception], object]
    ) -> None:
        gate = self._gates.setdefault(cluster, asyncio.Semaphore(AT_ONCE))
        try:
            async with gate, patience():
                executor = self._executors[cluster]
                self._check()
                match verb:
                    case Verb.CANCEL:
                        await executor.cancel(key)
                    case Verb.SUSPEND:
                        await executor.suspend(key)
                    case Verb.RESUME:
                        await executor.resume(key)
        except LostLeadership:
            log.warning("word_left", key=key, verb=verb)  # to the server that leads now
        except Exception as error:
            if isinstance(error, ExecutorUnavailable | KeyError):
                log.warning("executor_unavailable", cluster=cluster, error=repr(error))
            elif not isinstance(error, SuspendRefused):
                log.exception("executor_failed", cluster=cluster, key=key, verb=verb)
            failed(error)
            if isinstance(error, SuspendRefused):
                self._news()
        finally:
            del self._words[key]

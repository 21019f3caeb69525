"""A machine's own jobs, for the servers on other machines: they ask a server that is there.

Where none is, nobody knows how the runs stand, and so they are left alone, until one is back or an
operator says that the machine is gone.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pydantic import ConfigDict, TypeAdapter

from queueapi.clusters.models import OWN_KIND
from queueapi.db.session import Database
from queueapi.errors import Unavailable
from queueapi.executors.base import (
    Check,
    Evidence,
    Executor,
    ExecutorUnavailable,
    LaunchRefused,
    NodeInventory,
    Observation,
    Phase,
    PlacesContents,
    Run,
    Stream,
)
from queueapi.executors.files import FileEntry, NoSuchFile, ShowsFiles
from queueapi.servers.answers import Answers
from queueapi.servers.hosts import Presence, presence
from queueapi.servers.peers import Peers
from queueapi.servers.questions import Question

LOOK_SECONDS = 1.0  # for so long it is remembered where a host is asked
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Submitted:
    remote_id: str | None
    refused: str | None  # why


KeyOf = tuple[str, str]  # cluster, launch key
_key = TypeAdapter(KeyOf)
_nothing: TypeAdapter[None] = TypeAdapter(None)
_IN_BASE64 = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
_bytes = TypeAdapter(bytes, config=_IN_BASE64)
NODES = Question("host/nodes", TypeAdapter(str), TypeAdapter(list[NodeInventory]))
CHECK = Question("host/check", TypeAdapter(str), TypeAdapter(list[Check]), seconds=60.0)
SUBMIT = Question("host/submit", TypeAdapter(tuple[str, Run]), TypeAdapter(Submitted), seconds=60.0)
POLL = Question(
    "host/poll", TypeAdapter(tuple[str, list[str]]), TypeAdapter(dict[str, Observation])
)
EVIDENCE = Question("host/evidence", _key, TypeAdapter(Evidence))
CANCEL = Question("host/cancel", _key, _nothing)
SUSPEND = Question("host/suspend", _key, _nothing)
RESUME = Question("host/resume", _key, _nothing)
REMOVE = Question("host/remove", _key, _nothing, seconds=60.0)
PLACED = Question("host/placed", TypeAdapter(tuple[str, float]), TypeAdapter(list[str]))
DISPLACE = Question("host/displace", TypeAdapter(tuple[str, str, float]), _nothing, seconds=60.0)
LOG_SIZE = Question("host/log-size", TypeAdapter(tuple[str, str, Stream]), TypeAdapter(int))
READ_LOG = Question("host/read-log", TypeAdapter(tuple[str, str, Stream, int, int]), _bytes)

# None: there is no such file.
FILE = Question(
    "host/file",
    TypeAdapter(tuple[str, str, bytes], config=_IN_BASE64),
    TypeAdapter(FileEntry | None),
)
FOLDER = Question(
    "host/folder",
    TypeAdapter(tuple[str, str, bytes, bytes, int], config=_IN_BASE64),
    TypeAdapter(list[FileEntry] | None),
)
READ_FILE = Question(
    "host/read-file",
    TypeAdapter(tuple[str, str, bytes, int, int], config=_IN_BASE64),
    TypeAdapter(bytes | None, config=_IN_BASE64),
)


class HostExecutor:
    """The executor of another machine's own cluster. See executors.base.Executor."""

    kind = "host"

    def __init__(self, database: Database, peers: Peers, host_id: str, cluster: str) -> None:
        self._database = database
        self._peers = peers
        self._host_id = host_id
        self._cluster = cluster
        self._known: tuple[float, Presence] | None = None  # since (monotonic)
        self._silent = ""  # the server that did not answer last

    async def start(self, changed: Callable[[str], None]) -> None:
        """Nothing is to be begun: its server may come and go."""

    async def close(self) -> None:
        pass

    async def nodes(self) -> Sequence[NodeInventory]:
        """None while nobody is there: nothing new is to be placed there."""
        there = await self._presence()
        if there.gone or there.peer is None:
            return ()
        return await self._ask(NODES, self._cluster)

    async def check(self) -> Sequence[Check]:
        try:
            return await self._ask(CHECK, self._cluster)
        except ExecutorUnavailable as error:
            return (Check("a server on the machine", False, str(error), "start one there"),)

    async def submit(self, run: Run) -> str:
        answer = await self._ask(SUBMIT, (self._cluster, run))
        if answer.refused is not None or answer.remote_id is None:
            raise LaunchRefused(answer.refused or "")
        return answer.remote_id

    async def poll(self, keys: Collection[str]) -> Mapping[str, Observation]:
        """Of a machine that is gone by an operator's word, all runs are lost."""
        there = await self._presence()
        if there.gone:
            why = f"an operator declared the machine {there.name} gone"
            return dict.fromkeys(keys, Observation(Phase.LOST, why=why))
        return await self._ask(POLL, (self._cluster, list(keys)))

    async def evidence(self, key: str) -> Evidence:
        return await self._ask(EVIDENCE, (self._cluster, key))

    async def cancel(self, key: str) -> None:
        await self._ask(CANCEL, (self._cluster, key))

    async def suspend(self, key: str) -> None:
        await self._ask(SUSPEND, (self._cluster, key))

    async def resume(self, key: str) -> None:
        await self._ask(RESUME, (self._cluster, key))

    def output_path(self, key: str) -> str | None:
        """On that machine; not known here."""
        return None

    async def log_size(self, key: str, stream: Stream) -> int:
        return await self._ask(LOG_SIZE, (self._cluster, key, stream))

    async def read_log(self, key: str, stream: Stream, offset: int, length: int) -> bytes:
        return await self._ask(READ_LOG, (self._cluster, key, stream, offset, length))

    async def file(self, key: str, path: bytes) -> FileEntry:
        return _there(await self._ask(FILE, (self._cluster, key, path)), path)

    async def folder(self, key: str, path: bytes, after: bytes, limit: int) -> Sequence[FileEntry]:
        return _there(await self._ask(FOLDER, (self._cluster, key, path, after, limit)), path)

    async def read_file(self, key: str, path: bytes, offset: int, length: int) -> bytes:
        asked = (self._cluster, key, path, offset, length)
        return _there(await self._ask(READ_FILE, asked), path)

    async def remove(self, key: str) -> None:
        await self._ask(REMOVE, (self._cluster, key))

    async def placed(self, unused_seconds: float) -> Collection[str]:
        return await self._ask(PLACED, (self._cluster, unused_seconds))

    async def displace(self, digest: str, unused_seconds: float) -> None:
        await self._ask(DISPLACE, (self._cluster, digest, unused_seconds))

    async def _presence(self) -> Presence:
        now = time.monotonic()
        if self._known is None or now - self._known[0] > LOOK_SECONDS:
            async with self._database.reading() as session:
                self._known = now, await presence(session, self._host_id, self._silent)
        return self._known[1]

    async def _ask(self, question: Question[Asked, Answer], asked: Asked) -> Answer:
        there = await self._presence()
        if there.gone:
            raise ExecutorUnavailable(f"the machine {there.name} was declared gone")
        if there.peer is None:
            raise ExecutorUnavailable(f"no server runs on the machine {there.name}")
        try:
            return await self._peers.ask(there.peer, question, asked)
        except Unavailable as error:
            self._known, self._silent = None, there.peer.id
            raise ExecutorUnavailable(error.detail) from None


def _there(found: Answer | None, path: bytes) -> Answer:
    if found is None:
        raise NoSuchFile(path.decode(errors="replace"))
    return found


def answer_for_host(answers: Answers, executors: Mapping[str, Executor]) -> None:
    """Let the servers on other machines reach the clusters that are this machine."""

    own = partial(_own, executors)
    give = partial(_give, answers)

    async def submit(asked: tuple[str, Run]) -> Submitted:
        try:
            return Submitted(await own(asked[0]).submit(asked[1]), None)
        except LaunchRefused as error:
            return Submitted(None, str(error))

    async def poll(asked: tuple[str, list[str]]) -> dict[str, Observation]:
        return dict(await own(asked[0]).poll(asked[1]))

    async def nodes(cluster: str) -> list[NodeInventory]:
        return list(await own(cluster).nodes())

    async def check(cluster: str) -> list[Check]:
        return list(await own(cluster).check())

    def keeper(cluster: str) -> PlacesContents:
        found = own(cluster)
        if not isinstance(found, PlacesContents):
            raise Unavailable(f"The cluster {cluster} keeps no folders.")
        return found

    async def placed(asked: tuple[str, float]) -> list[str]:
        return list(await keeper(asked[0]).placed(asked[1]))

    give(SUBMIT, submit)
    give(POLL, poll)
    give(NODES, nodes)
    give(CHECK, check)
    give(EVIDENCE, lambda asked: own(asked[0]).evidence(asked[1]))
    give(CANCEL, lambda asked: own(asked[0]).cancel(asked[1]))
    give(SUSPEND, lambda asked: own(asked[0]).suspend(asked[1]))
    give(RESUME, lambda asked: own(asked[0]).resume(asked[1]))
    give(REMOVE, lambda asked: own(asked[0]).remove(asked[1]))
    give(PLACED, placed)
    give(DISPLACE, lambda asked: keeper(asked[0]).displace(asked[1], asked[2]))
    give(LOG_SIZE, lambda asked: own(asked[0]).log_size(asked[1], asked[2]))
    give(READ_LOG, lambda asked: own(asked[0]).read_log(*asked[1:]))
    _answer_for_files(answers, own)


def _own(executors: Mapping[str, Executor], cluster: str) -> Executor:
    found = executors.get(cluster)
    if found is None or found.kind != OWN_KIND:
        raise Unavailable(f"The cluster {cluster} is not this machine's.")
    return found


def _give(
    answers: Answers,
    question: Question[Asked, Answer],
    work: Callable[[Asked], Awaitable[Answer]],
) -> None:
    async def answer(asked: Asked) -> Answer:
        try:
            return await work(asked)
        except ExecutorUnavailable as error:
            raise Unavailable(str(error)) from None

    answers.to(question, answer)


def _answer_for_files(answers: Answers, own: Callable[[str], Executor]) -> None:
    def files(cluster: str) -> ShowsFiles:
        found = own(cluster)
        if not isinstance(found, ShowsFiles):
            raise Unavailable(f"The cluster {cluster} shows no files.")
        return found

    async def folder(asked: tuple[str, str, bytes, bytes, int]) -> list[FileEntry]:
        return list(await files(asked[0]).folder(*asked[1:]))

    _give(answers, FILE, lambda asked: _or_none(files(asked[0]).file(*asked[1:])))
    _give(answers, FOLDER, lambda asked: _or_none(folder(asked)))
    _give(answers, READ_FILE, lambda asked: _or_none(files(asked[0]).read_file(*asked[1:])))


async def _or_none(work: Awaitable[Answer]) -> Answer | None:
    """None where there is no such file."""
    try:
        return await work
    except NoSuchFile:
        return None

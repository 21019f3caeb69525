"""What the API asks of the scheduler is answered here where this server leads, and else by the one
that does, which is asked for just that: nothing of a request but what it is about goes there."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pydantic import TypeAdapter

from queueapi.clusters.nodes import NodeKey, NodeStatus
from queueapi.controller.view import SchedulerView, no_leader
from queueapi.jobs.foresight import Candidate, Foresight
from queueapi.jobs.queue import Outlook, QueueQuery, QueueSlice, Why
from queueapi.jobs.scheduler_status import SchedulerStatus
from queueapi.servers.answers import Answers
from queueapi.servers.peers import Peers
from queueapi.servers.questions import Question

NodeList = list[tuple[NodeKey, NodeStatus]]
STATUS = Question("scheduler", TypeAdapter(None), TypeAdapter(SchedulerStatus))
OUTLOOK = Question("outlook", TypeAdapter(int), TypeAdapter(Outlook | None), seconds=2.0)
REASONS = Question(
    "reasons", TypeAdapter(list[int]), TypeAdapter(dict[int, Why | None]), seconds=2.0
)
PAGE = Question("queue", TypeAdapter(QueueQuery), TypeAdapter(QueueSlice))
FORESEE = Question("foresee", TypeAdapter(Candidate), TypeAdapter(Foresight), seconds=60.0)
NODES = Question("nodes", TypeAdapter(None), TypeAdapter(NodeList))
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class LeaderView:
    """Implements jobs.queue.QueueView and clusters.nodes.NodeView."""

    def __init__(self, own: SchedulerView, peers: Peers, answers: Answers) -> None:
        self._own = own
        self._peers = peers
        answers.to(STATUS, lambda _: own.status())
        answers.to(OUTLOOK, own.outlook)
        answers.to(REASONS, own.reasons)
        answers.to(PAGE, own.page)
        answers.to(FORESEE, own.foresee)
        answers.to(NODES, lambda _: self._own_nodes())

    @property
    def leads(self) -> bool:
        return self._own.leads

    @property
    def follows(self) -> bool:
        return self._own.follows

    async def status(self) -> SchedulerStatus:
        return await self._of_leader(STATUS, lambda _: self._own.status(), None)

    async def outlook(self, job_id: int) -> Outlook | None:
        return await self._of_leader(OUTLOOK, self._own.outlook, job_id)

    async def reasons(self, job_ids: Sequence[int]) -> dict[int, Why | None]:
        return await self._of_leader(REASONS, self._own.reasons, list(job_ids))

    async def page(self, query: QueueQuery) -> QueueSlice:
        return await self._of_leader(PAGE, self._own.page, query)

    async def foresee(self, candidate: Candidate) -> Foresight:
        return await self._of_leader(FORESEE, self._own.foresee, candidate)

    async def nodes(self) -> dict[NodeKey, NodeStatus]:
        found: NodeList = await self._of_leader(NODES, lambda _: self._own_nodes(), None)
        return dict(found)

    async def _own_nodes(self) -> NodeList:
        return list((await self._own.nodes()).items())

    async def _of_leader(
        self,
        question: Question[Asked, Answer],
        own: Callable[[Asked], Awaitable[Answer]],
        asked: Asked,
    ) -> Answer:
        if self._own.leads:
            return await own(asked)
        if self._own.leader is None:
            raise no_leader()
        return await self._peers.ask(self._own.leader, question, asked)

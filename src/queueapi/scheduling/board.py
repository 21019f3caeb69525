"""All nodes and what is held on them: the place where requests meet capacity."""

from __future__ import annotations

from collections.abc import Iterable

from queueapi.scheduling.capacity import Hold, NodeKey, Space, enough, mask_of
from queueapi.scheduling.model import Node, Placement, Request, RunningJob, WaitingJob
from queueapi.scheduling.rooms import Rooms
from queueapi.scheduling.shelves import Shelves

_MOST_REMEMBERED = 1_000  # requests; bounds memory when every job asks for something else


class Board:
    """Nodes by (cluster, name), and the holds of each job."""

    def __init__(self) -> None:
        self.spaces: dict[tuple[str, str], Space] = {}
        self.shelves = Shelves()
        self.rooms = Rooms(self.shelves)
        self.scans = 0  # passes over all nodes
        self._held: dict[int, list[tuple[Space, Hold]]] = {}  # by job
        self._possible: dict[Request, list[Space]] = {}  # until a node changes

    def copy(self) -> Board:
        """A board that may be changed without changing this one."""
        board = Board()
        for key, space in self.spaces.items():
            twin = board.spaces[key] = space.copy()
            board.shelves.put(twin)
        for job_id, held in self._held.items():
            board._held[job_id] = [(board.spaces[space.key], hold) for space, hold in held]
        return board

    def put_node(self, node: Node) -> None:
        """Add or replace a node; its holds stay."""
        self._redescribe(NodeKey(node.cluster, node.name), node)

    def remove_node(self, key: NodeKey) -> None:
        """Forget a node, but not the jobs that hold a part of it: it may come back under them."""
        if key in self.spaces:
            self._redescribe(key, None)
            self._forget_if_empty(self.spaces[key])

    def _redescribe(self, key: NodeKey, node: Node | None) -> None:
        self._possible.clear()
        space = self.spaces.get(key)
        if space is None:
            space = self.spaces[key] = Space(key, node)
        else:
            self.shelves.take(space)
            space.describe(node)
        self.shelves.put(space)
        self.rooms.changed(space)

    def _forget_if_empty(self, space: Space) -> None:
        if space.node is None and not space.holds:
            del self.spaces[space.key]

    def start(self, job: RunningJob) -> None:
        """Take what a running job holds out of its nodes, known or not."""
        self.hold(job.job_id, job.request, job.placement, job.ends_at)

    def hold(
        self, job_id: int, request: Request, placement: Placement, ends_at: float
    ) -> list[tuple[Space, Hold]]:
        """Take out of its nodes what a job is to hold until then (epoch seconds), and return it."""
        held: list[tuple[Space, Hold]] = []
        self._held[job_id] = held
        for share in placement.shares:
            space = self.spaces.get((placement.cluster, share.node))
            if space is None:
                key = NodeKey(placement.cluster, share.node)
                space = self.spaces[key] = Space(key, None)
            gpus = mask_of(share.gpu_indices) if share.gpu_indices else 0
            hold = Hold(ends_at, job_id, request.cpus, request.memory_mb, gpus, request.exclusive)
            space.add(hold)
            self.shelves.resort(space)
            held.append((space, hold))
        return held

    def release(self, job_id: int) -> None:
        """Give back what the job holds."""
        for space, hold in self._held.pop(job_id):
            self._give_back(space, (hold,))

    def release_all(self, job_ids: Iterable[int]) -> None:
        """As `release` for each of these, node by node."""
        self.rooms.forget()
        by_space: dict[Space, list[Hold]] = {}
        for job_id in job_ids:
            for space, hold in self._held.pop(job_id):
                by_space.setdefault(space, []).append(hold)
        for space, holds in by_space.items():
            self._give_back(space, holds)

    def _give_back(self, space: Space, holds: Iterable[Hold]) -> None:
        self.shelves.take(space)
        for hold in holds:
            space.drop(hold)
        self.shelves.put(space)
        self.rooms.offer(space)
        if space.node is None:
            self._forget_if_empty(space)

    def held(self, job_id: int) -> Iterable[tuple[Space, Hold]]:
        """What the job holds, on each of its nodes."""
        return self._held.get(job_id, ())

    def fitting(self, job: WaitingJob) -> Iterable[Space]:
        """The nodes with room for the job now, the one that wastes least first."""
        if job.resume_on is None:
            return self.shelves.fitting(job.request)
        return [
            space
            for space in self._named(job, job.resume_on)
            if space.fits(job.request) and not bound_gpus(job, space) & ~space.gpus
        ]

    def possible(self, job: WaitingJob) -> Iterable[Space]:
        """The nodes that are up and would have room for the job if they were empty."""
        if job.resume_on is None:
            return self.possible_for(job.request)
        return self._named(job, job.resume_on)

    def could_ever_hold(self, job: WaitingJob) -> bool:
        """Whether the job could run if all nodes that are up were empty."""
        return enough(self.possible(job), job.request)

    def could_hold_when_up(self, request: Request) -> bool:
        """Whether the job could run if all known nodes were empty and up."""
        self.scans += 1
        spaces = self.spaces.values()
        return enough((space for space in spaces if space.large_enough(request)), request)

    def possible_for(self, request: Request) -> list[Space]:
        """The nodes that are up and could hold it if they were empty. Not to be changed."""
        known = self._possible.get(request)
        if known is None:
            self.scans += 1
            known = [s for s in self.spaces.values() if s.up and s.large_enough(request)]
            if len(self._possible) >= _MOST_REMEMBERED:
                self._possible.clear()
            self._possible[request] = known
        return known

    def _named(self, job: WaitingJob, placement: Placement) -> list[Space]:
        """The nodes of the placement, if all of them are up and still what the job had."""
        named = []
        for name in placement.nodes:
            space = self.spaces.get((placement.cluster, name))
            if space is None or not space.up or not space.has_amounts(job.request):
                return []
            if job.request.gpu_count and not space.has_gpus(job.request, bound_gpus(job, space)):
                return []
            named.append(space)
        return named


def bound_gpus(job: WaitingJob, space: Space) -> int:
    """The GPUs (a mask) of the node without which a job that resumes there can't run."""
    if job.resume_on is None or not job.request.gpu_count:
        return 0
    for share in job.resume_on.shares:
        if share.node == space.key.name:
            return mask_of(share.gpu_indices)
    return 0

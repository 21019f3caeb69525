"""The clusters as the leader knows them: which of them take a job, and how they stand."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clusters.access import Rules, Who, Wish, load_rules, site_words, usable
from queueapi.clusters.caps import Ask, Caps
from queueapi.clusters.models import OWN_KIND, ClusterState
from queueapi.executors.offer import Offer
from queueapi.jobs.foresight import Candidate
from queueapi.jobs.placing import kind_of
from queueapi.scheduling import ClusterChanged, NodeState
from queueapi.scheduling.model import NOWHERE

_WAITING = text("SELECT id FROM jobs WHERE state = 'queued' AND array_indices IS NULL")
_MOST_REMEMBERED = 100_000  # wishes; bounds memory when every job asks for something else


class KnownClusters:
    def __init__(self) -> None:
        self._rules: list[Rules] | None = None  # until they are loaded
        self._away: dict[str, str] = {}  # and why
        self._open = True  # every cluster takes every job that says nothing of clusters
        self._found: dict[tuple[Wish, tuple[str, ...]], tuple[str, ...]] = {}

    async def load(self, session: AsyncSession) -> set[int]:
        """Take in the rules. Returns the ids of jobs that may be another matter now."""
        rules = await load_rules(session)
        if rules == self._rules:
            return set()
        first, self._rules = self._rules is None, rules
        self._open = all(map(_is_open, rules))
        self._found.clear()
        return set() if first else set(await session.scalars(_WAITING))

    @property
    def names(self) -> frozenset[str]:
        return frozenset(rules.name for rules in self._rules or ())

    def new_offers(self, told: Mapping[str, Offer]) -> dict[str, Offer]:
        """Those of what clusters say they could ever give that are not in the rules yet."""
        known = {rules.name: rules.offer for rules in self._rules or ()}
        return {name: offer for name, offer in told.items() if known.get(name, offer) != offer}

    def reach(self, away: Mapping[str, str]) -> list[ClusterChanged]:
        """Take in which can't be reached now, and why. Returns the events that follow from it."""
        names = away.keys() | self._away.keys()
        changed = [name for name in sorted(names) if away.get(name) != self._away.get(name)]
        self._away = dict(away)
        return [ClusterChanged(name, away.get(name)) for name in changed]

    def states(self) -> dict[str, NodeState]:
        """What each cluster lets its nodes be at the best."""
        states = {rules.name: NodeState(rules.state) for rules in self._rules or ()}
        return states | dict.fromkeys(self._away.keys() & states.keys(), NodeState.DOWN)

    def where(self, job: Row[Any] | Candidate, of_queue: tuple[str, ...]) -> tuple[str, ...]:
        """The clusters that take the job, of those of its queue; () = any, NOWHERE = none."""
        if self._open and not (job.named_cluster or job.site or job.container or job.data):
            return of_queue
        key = _wish(job), of_queue
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _MOST_REMEMBERED:
                self._found.clear()
            found = self._found[key] = self._where(*key)
        return found

    def _where(self, wish: Wish, of_queue: tuple[str, ...]) -> tuple[str, ...]:
        rules = [r for r in self._rules or () if not of_queue or r.name in of_queue]
        names = usable(rules, wish)
        if not names:
            return NOWHERE
        return () if len(names) == len(self._rules or ()) else tuple(names)


def _is_open(rules: Rules) -> bool:
    """It asks nothing of any job, whatever kind of cluster that is for."""
    asks = rules.allow or rules.deny or rules.is_community_account or rules.caps != Caps()
    asks = asks or rules.accounts is not None
    return not asks and rules.state is not ClusterState.DOWN and rules.kind == OWN_KIND


def _wish(job: Row[Any] | Candidate) -> Wish:
    ask = Ask(
        job.nodes, job.tasks_over_all, job.cpu_cores, job.memory_mb, job.gpu_count, job.time_limit
    )
    return Wish(
        Who(job.email, job.user_id, job.group_id),
        ask,
        cluster=job.named_cluster,
        kind=kind_of(job.provider),
        gpu_type=job.gpu_type,
        constraint=job.constraint,
        site=site_words(job.site),
        image=job.container["image"] if job.container else None,
        data=job.data["target"] if job.data else None,
    )

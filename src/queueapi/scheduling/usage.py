"""Recent use of groups and of users within them, and the fair share that follows from it.

Each job that starts or ends changes a few whole numbers, so an end undoes a start exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from math import inf
from typing import Protocol

from queueapi.scheduling import fair_tree
from queueapi.scheduling.fair_tree import Owner
from queueapi.scheduling.formula import (
    TICKS_PER_MINUTE,
    after,
    billed,
    clamped,
    commitment,
    decayed,
    fair_share,
    spent,
    user_part,
    weighted,
)
from queueapi.scheduling.model import (
    Config,
    Group,
    GroupUsage,
    Request,
    RunningJob,
    UserUsage,
    Weights,
)


class Tally:
    """Recent use, each resource by its weight, of one user within a group."""

    __slots__ = ("_decayed", "_decayed_at", "as_of", "committed", "past", "running")

    def __init__(self) -> None:
        self.running = 0  # jobs
        self.committed = 0  # ticks that running jobs may still use
        self.past = 0.0  # minutes as they stood at as_of
        self.as_of = 0.0  # epoch seconds
        self._decayed_at, self._decayed = -inf, 0.0  # the last answer: a plan asks often

    def recent(self, now: float, half_life: float) -> float:
        """Decayed use at `now`, plus the commitments of running jobs (minutes)."""
        if now != self._decayed_at:
            self._decayed = decayed(self.past, now - self.as_of, half_life) if self.past else 0.0
            self._decayed_at = now
        return self._decayed + self.committed / TICKS_PER_MINUTE

    def settle(self, past: float, as_of: float) -> None:
        """Past use (minutes) is so, as it stood then (epoch seconds)."""
        self.past, self.as_of = past, as_of
        self._decayed_at = -inf

    @property
    def counts(self) -> bool:
        """Whether the user is one of those who share the group's use."""
        return self.running > 0 or self.past > 0

    def take_from(self, other: Tally) -> None:
        self.running, self.committed = other.running, other.committed
        self.settle(other.past, other.as_of)


class GroupTally(Tally):
    """The same of a whole group, and what its quota looks at."""

    __slots__ = ("cpu_committed", "users", "window")

    def __init__(self) -> None:
        super().__init__()
        self.users = 0  # who share its use: they have recent use of their own, or run a job
        self.cpu_committed = 0  # CPU-microseconds that running jobs may still use
        self.window = 0.0  # CPU-minutes of settled use in the rolling window

    def copy(self) -> GroupTally:
        twin = GroupTally()
        twin.take_from(self)
        twin.users, twin.cpu_committed, twin.window = self.users, self.cpu_committed, self.window
        return twin


_NOTHING = GroupTally()  # never written to


class GroupShares(Protocol):
    """The multipliers of some users' jobs for one group, at one instant."""

    scale: float  # what starts let any multiplier grow by at the most; never falls

    @property
    def most(self) -> float:
        """Nobody has more."""

    def of(self, user_id: int) -> float:
        """That of the user, who is one of those named."""

    def started(self, user_id: int) -> bool:
        """A job of the user was counted as started.

        Whether `scale` tells by how much others may have grown by that.
        """


# From the id of a group and those of some of its users to the multipliers of their jobs for it.
Shares = Callable[[int, Collection[int]], GroupShares]


class Usage:
    """What each group and user has used and is committed to."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._bills_cpus_alone = config.weights == Weights()
        self.members: dict[int, Mapping[int, int | None]] = {}  # shares by user id, by group id
        self._groups: defaultdict[int, GroupTally] = defaultdict(GroupTally)
        self._users: defaultdict[Owner, Tally] = defaultdict(Tally)
        self._settled: dict[int, GroupUsage] = {}
        self._settled_by_user: dict[Owner, UserUsage] = {}

    def copy(self) -> Usage:
        twin = Usage(self.config)
        twin.members = dict(self.members)
        for group_id, of_group in self._groups.items():
            twin._groups[group_id] = of_group.copy()
        for owner, tally in self._users.items():
            twin._users[owner].take_from(tally)
        twin._settled = dict(self._settled)
        twin._settled_by_user = dict(self._settled_by_user)
        return twin

    def commit(
        self, group_id: int, user_id: int, request: Request, time_limit: float, sign: int
    ) -> None:
        """Count a job with all of its time limit (seconds) as use; with sign -1 undo that."""
        of_cpus = ticks = sign * commitment(request, time_limit)
        if not self._bills_cpus_alone:
            ticks = sign * billed(request, time_limit, self.config.weights)
        group = self._groups[group_id]
        group.running += sign
        group.committed += ticks
        group.cpu_committed += of_cpus
        user = self._users[group_id, user_id]
        user.running += sign
        user.committed += ticks
        if user.past <= 0 and user.running == (1 if sign > 0 else 0):  # its first job, or its last
            group.users += sign

    def set_group(self, usage: GroupUsage) -> None:
        """The group's settled use is so."""
        self._settled[usage.group_id] = usage
        group = self._groups[usage.group_id]
        group.settle(weighted(usage, self.config.weights), usage.as_of)
        group.window = usage.window_cpu_minutes

    def set_user(self, usage: UserUsage) -> None:
        """The user's settled use within the group is so."""
        owner = (usage.group_id, usage.user_id)
        self._settled_by_user[owner] = usage
        user = self._users[owner]
        counted = user.counts
        user.settle(weighted(usage, self.config.weights), usage.as_of)
        self._groups[usage.group_id].users += user.counts - counted

    def settled(self, job: RunningJob, now: float) -> tuple[GroupUsage, UserUsage]:
        """The use of its group and user once all that the job is committed to has become use."""
        owner = (job.group_id, job.user_id)
        group = self._settled.get(job.group_id) or GroupUsage(job.group_id, 0.0, now, 0.0)
        user = self._settled_by_user.get(owner) or UserUsage(*owner, 0.0, now)
        more, half_life = spent(job.request, job.time_limit), self.config.half_life
        return after(group, more, now, half_life), after(user, more, now, half_life)

    def of_group(self, group_id: int) -> GroupTally:
        """What is known of the group's use; read only."""
        return self._groups.get(group_id, _NOTHING)

    def running_by_group(self) -> dict[int, int]:
        """Jobs that run, of each group that has any."""
        return {
            group_id: tally.running for group_id, tally in self._groups.items() if tally.running
        }

    def by_formula(
        self, group_id: int, user_ids: Iterable[int], quota: float, now: float
    ) -> GroupShares:
        """By the formula. Valid until something changes but by a start that it is told of."""
        users = {user_id: self._users[group_id, user_id] for user_id in user_ids}
        return _ByFormula(self._groups[group_id], users, quota, now, self.config)

    def fair_tree(self, groups: Mapping[int, Group], owners: Iterable[Owner], now: float) -> Shares:
        """By Fair Tree: the rank of each member, each user with recent use, and these owners."""
        recent = dict.fromkeys(owners, 0.0)
        for owner, tally in self._users.items():
            if tally.counts:
                recent[owner] = tally.recent(now, self.config.half_life)
        factors = fair_tree.factors(fair_tree.grow(groups, self.members, recent))
        return lambda group_id, user_ids: _Fixed(
            {user_id: factors.get((group_id, user_id), 1.0) for user_id in user_ids}
        )


class _ByFormula:
    """The group's multiplier times each user's part, clamped again. A start changes them all."""

    def __init__(
        self, group: GroupTally, users: dict[int, Tally], quota: float, now: float, config: Config
    ) -> None:
        self._group, self._users = group, users
        self._quota, self._now, self._config = quota, now, config
        half_life = config.half_life
        self._recent = {user_id: user.recent(now, half_life) for user_id, user in users.items()}
        self._highest = self._config.user_share_max
        self._lowest = 1 / self._highest
        self._least, self._most = self._config.fair_share_min, self._config.fair_share_max
        self.scale = 1.0
        self._look()

    @property
    def most(self) -> float:
        return clamped(self._of_all * self._highest, self._least, self._most)

    def started(self, user_id: int) -> bool:
        self._recent[user_id] = self._users[user_id].recent(self._now, self._config.half_life)
        mean = self._mean
        self._look()
        if not mean:
            return False
        # A start lets the group's multiplier fall, and a user's part grow with the mean use at the
        # most. Where one more shares the use that falls, but then parts may stay as they are.
        self.scale *= max(self._mean / mean, 1.0)
        return True

    def _look(self) -> None:
        """At the whole group."""
        config, group = self._config, self._group
        of_group, count = group.recent(self._now, config.half_life), group.users
        self._of_group, self._count = of_group, count
        self._mean = of_group / count if count >= 2 and of_group > 0 else 0.0
        self._of_all = fair_share(self._quota, of_group, config)

    def of(self, user_id: int) -> float:
        usage, mean = self._recent[user_id], self._mean
        if not mean:
            return self._of_few(user_id)
        # `user_part`, written out: a plan asks this most often of all.
        part = mean / usage if usage > 0 else inf
        if part > self._highest:
            part = self._highest
        elif part < self._lowest:
            part = self._lowest
        share = self._of_all * part
        if share > self._most:
            return self._most
        return share if share > self._least else self._least

    def _of_few(self, user_id: int) -> float:
        """The same where nobody shares the group's use yet."""
        count, config = self._count, self._config
        if count < 2 and not self._users[user_id].counts:
            count += 1  # who comes anew makes two of the one who shares the use
        part = user_part(self._of_group, count, self._recent[user_id], config)
        return clamped(self._of_all * part, config.fair_share_min, config.fair_share_max)


class _Fixed:
    """By Fair Tree: what starts changes nothing before the next plan."""

    def __init__(self, multipliers: dict[int, float]) -> None:  # by user
        self._multipliers = multipliers
        self.scale = 1.0

    @property
    def most(self) -> float:
        return max(self._multipliers.values())

    def started(self, user_id: int) -> bool:
        return True

    def of(self, user_id: int) -> float:
        return self._multipliers[user_id]

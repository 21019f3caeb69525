"""Groups and what they used, as the scheduler knows them."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clock import from_epoch
from queueapi.config import Settings
from queueapi.groups import usage
from queueapi.groups.models import Group as GroupRow
from queueapi.groups.models import Membership
from queueapi.scheduling import (
    Fairness,
    Group,
    GroupChanged,
    GroupUsage,
    GroupUsageChanged,
    MembersChanged,
    Scheduler,
    UserUsage,
    UserUsageChanged,
)
from queueapi.scheduling.formula import Spent, after

_MEMBERS = select(Membership.group_id, Membership.user_id, Membership.shares).where(
    Membership.approved_at.is_not(None)
)


class GroupMirror:
    """Tells the scheduler of groups and of use: all of it from the database, and what is added."""

    def __init__(self, settings: Settings, scheduler: Scheduler) -> None:
        self._settings = settings
        self._scheduler = scheduler
        self._usage: dict[int, GroupUsage] = {}
        self._user_usage: dict[tuple[int, int], UserUsage] = {}  # by group and user
        self.names: dict[int, str] = {}

    async def load_groups(self, session: AsyncSession) -> None:
        """Quotas, limits and shares; members too where Fair Tree ranks them."""
        groups = (await session.scalars(select(GroupRow))).all()
        for group in groups:
            quota = group.quota_cpu_minutes
            if quota is None:
                quota = self._settings.default_quota_cpu_minutes
            known = Group(
                group.id,
                quota,
                group.max_running_per_user,
                group.max_running,
                group.parent_id,
                group.shares,
            )
            self._scheduler.apply(GroupChanged(known))
        self.names = {group.id: group.name for group in groups}
        if self._scheduler.config.fairness is Fairness.FAIR_TREE:
            await self._load_members(session)

    async def _load_members(self, session: AsyncSession) -> None:
        shares: dict[int, dict[int, int | None]] = {group_id: {} for group_id in self.names}
        for member in await session.execute(_MEMBERS):
            if member.group_id in shares:
                shares[member.group_id][member.user_id] = member.shares
        for group_id, of_members in shares.items():
            self._scheduler.apply(MembersChanged(group_id, of_members))

    async def load_usage(self, session: AsyncSession, now: float) -> None:
        """Recent use and the quota's window, afresh from the ledger. `now` is epoch seconds."""
        at = from_epoch(now)
        decayed = await usage.decayed_use(session, self._settings.fair_share_half_life_days, at)
        users = {
            (d.group_id, d.user_id): UserUsage(
                d.group_id, d.user_id, d.cpu_minutes, now, d.gpu_minutes, d.memory_gb_minutes
            )
            for d in decayed
        }
        for owner in self._user_usage.keys() - users.keys():
            self._use_of_user(UserUsage(*owner, 0.0, now))
        for of_user in users.values():
            self._use_of_user(of_user)
        self._user_usage = users
        recent = dict.fromkeys({*self.names, *self._usage}, Spent(0.0, 0.0, 0.0))
        for d in decayed:
            cpu, gpu, memory = recent.get(d.group_id, (0.0, 0.0, 0.0))
            recent[d.group_id] = Spent(
                cpu + d.cpu_minutes, gpu + d.gpu_minutes, memory + d.memory_gb_minutes
            )
        window = await usage.window_cpu_minutes(session, recent, at)
        for group_id, (cpu, gpu, memory) in recent.items():
            self._use(GroupUsage(group_id, cpu, now, window[group_id], gpu, memory))

    def charge(self, charges: Iterable[usage.Charge], now: float) -> None:
        """What was just added to the ledger, without reading it again."""
        half_life = self._scheduler.config.half_life
        for entry in charges:
            more = Spent(entry.cpu_minutes, entry.gpu_minutes, entry.memory_gb_minutes)
            owner = (entry.group_id, entry.user_id)
            group = self._usage.get(entry.group_id) or GroupUsage(entry.group_id, 0.0, now, 0.0)
            user = self._user_usage.get(owner) or UserUsage(*owner, 0.0, now)
            self._use(after(group, more, now, half_life))
            self._use_of_user(after(user, more, now, half_life))

    def _use(self, used: GroupUsage) -> None:
        self._usage[used.group_id] = used
        self._scheduler.apply(GroupUsageChanged(used))

    def _use_of_user(self, used: UserUsage) -> None:
        self._user_usage[used.group_id, used.user_id] = used
        self._scheduler.apply(UserUsageChanged(used))

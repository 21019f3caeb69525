"""What a group used of its quota, for the people in it."""

from datetime import UTC, datetime, time

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.models import User
from queueapi.auth.principal import Principal
from queueapi.clock import utc_now
from queueapi.config import Settings
from queueapi.groups.access import get_access
from queueapi.groups.models import LedgerEntry, UsageDay
from queueapi.groups.schemas import GroupUsage, UserUse
from queueapi.groups.usage import window_start

MAX_USERS = 1000


async def report(
    session: AsyncSession, settings: Settings, principal: Principal, group_id: int
) -> GroupUsage:
    """Sums over the rolling 30 days, for members; by user, for managers."""
    access = await get_access(session, principal, group_id)
    since = window_start(utc_now())
    statement = select(
        func.coalesce(func.sum(UsageDay.cpu_minutes), 0.0),
        func.coalesce(func.sum(UsageDay.gpu_minutes), 0.0),
        func.coalesce(func.sum(UsageDay.memory_gb_minutes), 0.0),
    ).where(UsageDay.group_id == group_id, UsageDay.day >= since)
    cpu, gpu, memory = (await session.execute(statement)).one()
    quota = access.group.quota_cpu_minutes
    if quota is None:
        quota = settings.default_quota_cpu_minutes
    midnight = datetime.combine(since, time(), UTC)
    return GroupUsage(
        group_id=group_id,
        since=since,
        cpu_minutes=cpu,
        gpu_minutes=gpu,
        memory_gb_minutes=memory,
        quota_cpu_minutes=quota,
        remaining_cpu_minutes=max(0.0, quota - cpu),
        users=await _by_user(session, group_id, midnight) if access.is_manager else None,
    )


async def _by_user(session: AsyncSession, group_id: int, since: datetime) -> list[UserUse]:
    cpu = func.sum(LedgerEntry.cpu_minutes)
    statement = (
        select(
            LedgerEntry.user_id,
            User.email,
            cpu.label("cpu_minutes"),
            func.sum(LedgerEntry.gpu_minutes).label("gpu_minutes"),
            func.sum(LedgerEntry.memory_gb_minutes).label("memory_gb_minutes"),
        )
        .outerjoin(User, User.id == LedgerEntry.user_id)
        .where(LedgerEntry.group_id == group_id, LedgerEntry.ended_at >= since)
        .group_by(LedgerEntry.user_id, User.email)
        .order_by(cpu.desc(), LedgerEntry.user_id)
        .limit(MAX_USERS)
    )
    return [
        UserUse.model_validate(dict(row)) for row in (await session.execute(statement)).mappings()
    ]

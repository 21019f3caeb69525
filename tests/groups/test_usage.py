"""The ledger: charged once, summed right, read by whoever may."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select

from queueapi.clock import utc_now
from queueapi.groups.models import LedgerEntry, UsageDay
from queueapi.groups.usage import Charge, Decayed, charge, decayed_use, window_cpu_minutes
from tests.auth.people import World, ok

NOW = datetime(2030, 3, 31, 12, tzinfo=UTC)


def entry(attempt_id: int, group_id: int = 1, **fields: Any) -> Charge:
    first = Charge(
        attempt_id=attempt_id,
        job_id=attempt_id,
        user_id=1,
        group_id=group_id,
        started_at=NOW - timedelta(minutes=10),
        ended_at=NOW,
        cpu_minutes=10.0,
        gpu_minutes=1.0,
        memory_gb_minutes=40.0,
        cost=Decimal("0.125000"),
    )
    return replace(first, **fields)


async def charged(world: World, *entries: Charge) -> None:
    async with world.database.transaction() as session:
        await charge(session, entries)


async def window(world: World, *groups: int, now: datetime = NOW) -> dict[int, float]:
    async with world.database.transaction() as session:
        return await window_cpu_minutes(session, groups, now)


async def test_an_attempt_is_charged_once(world: World) -> None:
    await charged(world)
    await charged(world, entry(1), entry(2), entry(1, cpu_minutes=99.0))
    await charged(world, entry(2, cpu_minutes=99.0), entry(3, group_id=2))
    assert await window(world, 1, 2, 3) == {1: 20.0, 2: 10.0, 3: 0.0}
    async with world.database.transaction() as session:
        rows = (await session.scalars(select(LedgerEntry).order_by(LedgerEntry.attempt_id))).all()
        assert [(r.attempt_id, r.cpu_minutes, r.cost) for r in rows] == [
            (n, 10.0, Decimal("0.125000")) for n in (1, 2, 3)
        ]
        day = await session.get_one(UsageDay, (1, NOW.date()))
        assert (day.gpu_minutes, day.memory_gb_minutes) == (2.0, 80.0)


async def test_servers_that_charge_at_once_neither_repeat_nor_lock_up(world: World) -> None:
    entries = [
        entry(n, group_id=n % 7, ended_at=NOW - timedelta(days=n % 5)) for n in range(1, 201)
    ]
    orders = [entries, entries[::-1], entries[100:] + entries[:100], sorted(entries, key=hash)]
    await asyncio.gather(*(charged(world, *order) for order in orders))
    assert sum((await window(world, *range(7))).values()) == 2000.0
    async with world.database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(LedgerEntry)) == 200


async def test_a_charge_that_is_rolled_back_never_was(world: World) -> None:
    with pytest.raises(RuntimeError):
        async with world.database.transaction() as session:
            await charge(session, [entry(1)])
            raise RuntimeError
    assert await window(world, 1) == {1: 0.0}
    await charged(world, entry(1))
    assert await window(world, 1) == {1: 10.0}


async def test_the_window_is_thirty_days_of_utc(world: World) -> None:
    tokyo_morning = datetime.fromisoformat("2030-03-02T08:59:00+09:00")  # 1 March in UTC
    await charged(
        world,
        entry(1, ended_at=tokyo_morning),
        entry(2, ended_at=datetime(2030, 3, 2, tzinfo=UTC)),
        entry(3),
    )
    assert await window(world, 1) == {1: 20.0}
    assert await window(world, 1, now=NOW - timedelta(days=1)) == {1: 30.0}
    assert await window(world, 1, now=NOW + timedelta(days=30)) == {1: 0.0}
    assert await window(world) == {}


async def test_use_decays_by_half_lives(world: World) -> None:
    await charged(
        world,
        entry(1),
        entry(2, ended_at=NOW - timedelta(days=7)),
        entry(3, ended_at=NOW - timedelta(days=14)),
        entry(4, group_id=2, ended_at=NOW + timedelta(hours=1)),  # another server's clock
        entry(5, group_id=3, ended_at=NOW - timedelta(days=36_500)),
    )
    async with world.database.transaction() as session:
        decayed = {d.group_id: d.cpu_minutes for d in await decayed_use(session, 7, NOW)}
        assert decayed == pytest.approx({1: 17.5, 2: 10.0})
        tiny = {d.group_id: d.cpu_minutes for d in await decayed_use(session, 0.001, NOW)}
        assert tiny == pytest.approx({1: 10.0, 2: 10.0})


async def test_each_resource_decays_for_each_user_of_each_group(world: World) -> None:
    week_ago = NOW - timedelta(days=7)
    await charged(
        world,
        entry(1, user_id=7),
        entry(2, user_id=7, ended_at=week_ago),
        entry(3, user_id=8, ended_at=week_ago, gpu_minutes=0.0),
        entry(4, user_id=7, group_id=2, cpu_minutes=1.0),
    )
    async with world.database.transaction() as session:
        decayed = await decayed_use(session, 7, NOW)
    assert sorted(decayed, key=lambda d: (d.group_id, d.user_id)) == [
        Decayed(1, 7, 15.0, 1.5, 60.0),
        Decayed(1, 8, 5.0, 0.0, 20.0),
        Decayed(2, 7, 1.0, 1.0, 40.0),
    ]


async def test_the_report_for_members_and_for_managers(world: World) -> None:
    group, now = await world.group("physics", quota_cpu_minutes=25), utc_now()
    member, manager = await world.person(), await world.person()
    await world.member(member, group)
    await world.member(manager, group, manager=True)
    fields: dict[str, Any] = {"group_id": group, "started_at": now, "ended_at": now}
    await charged(
        world,
        entry(1, user_id=member.id, **fields),
        entry(2, user_id=10**6, cpu_minutes=20.0, **fields),
    )
    path = f"/api/groups/{group}/usage"
    seen = ok(await world.ask("GET", path, member))
    assert seen["users"] is None
    assert (seen["cpu_minutes"], seen["gpu_minutes"], seen["memory_gb_minutes"]) == (30, 2, 80)
    assert (seen["quota_cpu_minutes"], seen["remaining_cpu_minutes"]) == (25, 0)
    users = ok(await world.ask("GET", path, manager))["users"]
    assert [(u["user_id"], u["email"], u["cpu_minutes"]) for u in users] == [
        (10**6, None, 20),
        (member.id, member.email, 10),
    ]


async def test_a_group_without_use_or_quota_has_the_servers(world: World) -> None:
    group, member = await world.group("physics"), await world.person()
    await world.member(member, group)
    seen = ok(await world.ask("GET", f"/api/groups/{group}/usage", member))
    assert seen["cpu_minutes"] == 0
    assert seen["remaining_cpu_minutes"] == world.settings.default_quota_cpu_minutes

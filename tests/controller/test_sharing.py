"""Whose turn it is: use by member and by resource, as the ledger has it."""

from collections.abc import Callable
from typing import Any

import pytest

from queueapi.db.session import Database
from queueapi.executors.base import NodeInventory
from tests.controller.test_starting import drain
from tests.people import Person
from tests.staging import Caller, Puppet, Stage, fetch

Make = Callable[..., Any]
ONE_CPU = NodeInventory("one", 1, 64 * 1024, ("a100",))
GROUP = "SELECT group_id FROM memberships WHERE user_id = :user"


async def has_used(database: Database, who: Person, cpu: float, gpu: float = 0) -> None:
    """A line of the ledger, just ended."""
    await fetch(
        database,
        f"INSERT INTO usage_ledger SELECT :user, 1, :user, ({GROUP}), now(), now(), "
        f"{cpu}, {gpu}, 0, 0",
        user=who.user_id,
    )


async def order_of(stage: Stage, first: Person, second: Person, **settings: Any) -> list[str]:
    """Whose jobs start in which order, if each submits two, the first one before the second."""
    puppet = Puppet(ONE_CPU)
    async with stage(puppet, wait_boost_slope=0, **settings) as (_, client):
        blocker = await Caller(client, first).submit()
        await puppet.begun(blocker)
        jobs = {await Caller(client, first).submit(): "first" for _ in range(2)}
        jobs |= {await Caller(client, second).submit(): "second" for _ in range(2)}
        order = await drain(puppet, 5)
    return [jobs[job_id] for job_id in order[1:]]


async def test_a_member_who_used_less_of_the_groups_use_goes_first(
    stage: Stage, make_person: Make, database: Database
) -> None:
    busy, idle = await make_person(group="physics"), await make_person(group="physics")
    await has_used(database, busy, 9000)
    await has_used(database, idle, 1000)
    assert await order_of(stage, busy, idle) == ["second", "second", "first", "first"]


async def test_without_a_users_part_members_go_in_the_order_they_came(
    stage: Stage, make_person: Make, database: Database
) -> None:
    busy, idle = await make_person(group="physics"), await make_person(group="physics")
    await has_used(database, busy, 9000)
    await has_used(database, idle, 1000)
    found = await order_of(stage, busy, idle, user_share_max=1)
    assert found == ["first", "first", "second", "second"]


@pytest.mark.parametrize(
    ("weight", "order"),
    [(0, ["first", "first", "second", "second"]), (30, ["second", "second", "first", "first"])],
)
async def test_gpus_count_by_their_weight(
    stage: Stage, make_person: Make, database: Database, weight: float, order: list[str]
) -> None:
    """With 30 a minute, 20,000 against 8,000 instead of 5,000."""
    gpus, cpus = await make_person(group="vision"), await make_person(group="astro")
    await has_used(database, gpus, 5000, gpu=500)
    await has_used(database, cpus, 8000)
    assert await order_of(stage, gpus, cpus, weight_gpu=weight) == order


async def test_what_a_member_uses_counts_as_soon_as_the_job_ends(
    stage: Stage, make_person: Make
) -> None:
    """Nothing is read from the ledger anew in between."""
    one, two = await make_person(group="physics"), await make_person(group="physics")
    puppet = Puppet(ONE_CPU)
    async with stage(puppet, wait_boost_slope=0, default_quota_cpu_minutes=3000) as (_, client):
        first = await Caller(client, one).submit(estimated_hours=40)
        key = await puppet.begun(first)
        later = await Caller(client, two).submit(), await Caller(client, one).submit()
        blocker = await Caller(client, two).submit(priority=10)
        puppet.end(key, ran=2000 * 60)
        await puppet.begun(blocker)
        order = await drain(puppet, 4)
    assert order == [first, blocker, *later]


async def submissions(client: Any, people: dict[str, Person]) -> dict[int, str]:
    return {await Caller(client, who).submit(): name for name, who in people.items()}


async def test_fair_tree_ranks_members_by_shares_and_groups_before_them(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """As the example in docs/scheduling.md, with a member more who has a larger share."""
    people = {
        name: await make_person(group=group)
        for name, group in (("ann", "physics"), ("bob", "physics"), ("eve", "physics"))
    } | {"cy": await make_person(group="chemistry")}
    await fetch(database, "UPDATE groups SET shares = 3 WHERE name = 'physics'")
    await has_used(database, people["ann"], 300)
    await has_used(database, people["eve"], 300)
    await has_used(database, people["cy"], 100)
    puppet = Puppet(ONE_CPU)
    settings = {"wait_boost_slope": 0, "fairness": "fair_tree"}
    async with stage(puppet, **settings) as (_, client):
        blocker = await Caller(client, people["cy"]).submit(estimated_hours=0.02)
        await puppet.begun(blocker)
        jobs = await submissions(client, people)
        query = "UPDATE memberships SET shares = 5 WHERE user_id = :user"
        await fetch(database, query, user=people["eve"].user_id)
        await fetch(database, "INSERT INTO inbox (job_ids) VALUES ('{}')")
        order = await drain(puppet, 5)
        queued = {jobs[job_id] for job_id in order[1:]}
    assert queued == people.keys()
    assert [jobs[job_id] for job_id in order[1:]] == ["cy", "bob", "eve", "ann"]


async def test_a_group_below_another_shares_its_parents_use(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """The lab's user is idle, but the faculty above used more than the institute beside it."""
    dean, idle = await make_person(group="faculty"), await make_person(group="lab")
    rival = await make_person(group="institute")
    await fetch(
        database,
        "UPDATE groups SET parent_id = (SELECT id FROM groups WHERE name = 'faculty') "
        "WHERE name = 'lab'",
    )
    await has_used(database, dean, 900)
    await has_used(database, rival, 500)
    found = await order_of(stage, idle, rival, fairness="fair_tree")
    assert found == ["second", "second", "first", "first"]

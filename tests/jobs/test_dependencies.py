"""Jobs that wait for others: what satisfies them, what never can, and who is first in a race."""

import asyncio
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from queueapi.auth.models import Role
from queueapi.db.session import Database
from queueapi.jobs.dependencies import outcome
from queueapi.jobs.lifecycle import Transition, transition
from queueapi.jobs.models import DependencyKind, DependencyState, JobState
from tests.jobs.test_lifecycle import counts_hold
from tests.staging import NODE, Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]


def after(job_id: int, kind: str = "afterok") -> Json:
    return {"job_id": job_id, "kind": kind}


async def move(database: Database, job_id: int, *states: str) -> None:
    for state in states:
        async with database.transaction() as session:
            change = Transition(job_id, JobState(state), "test")
            assert job_id in await transition(session, [change])


async def standing(caller: Caller, job_id: int) -> tuple[str, str | None]:
    job = await caller.job(job_id)
    return job["status"], job["reason"]


# What the words mean, as in Slurm: the states of the other job that satisfy each kind, and those
# with which it can't hold any more.
MEANING: Mapping[str, tuple[set[str], set[str]]] = {
    "after": ({"running", "suspended", "completed", "failed", "cancelled"}, set()),
    "afterany": ({"completed", "failed", "cancelled"}, set()),
    "afterok": ({"completed"}, {"failed", "cancelled"}),
    "afternotok": ({"failed", "cancelled"}, {"completed"}),
    "aftercorr": ({"completed"}, {"failed", "cancelled"}),
}


BETWEEN_ANY = [kind for kind in DependencyKind if kind is not DependencyKind.AFTERCORR]


@pytest.mark.parametrize("kind", DependencyKind)
def test_what_each_kind_means_of_each_state(kind: DependencyKind) -> None:
    satisfied, failed = MEANING[kind]
    for state in JobState:
        wanted = "satisfied" if state in satisfied else "failed" if state in failed else "waiting"
        assert outcome(kind, state) == DependencyState(wanted)


async def test_a_job_starts_when_the_one_it_needs_has_completed(
    stage: Stage, make_person: Make
) -> None:
    cluster = Puppet(NODE)
    async with stage(cluster) as (_, client):
        caller = Caller(client, await make_person())
        first = await caller.submit()
        second = await caller.submit(depends_on=[after(first)])
        key = await cluster.begun(first)
        await caller.until(first, "running")
        waiting = await caller.job(second)
        assert (waiting["status"], waiting["reason"]) == ("queued", "Dependency")
        assert waiting["reason_message"] == f"waits for job {first} to complete (running)"
        assert waiting["estimated_start"] is None
        cluster.end(key)
        await cluster.launched(second)
        started = await caller.job(second)
        assert started["depends_on"] == [
            {"job_id": first, "kind": "afterok", "state": "satisfied", "status": "completed"}
        ]
        assert [one["job_id"] for one in (await caller.job(first))["dependents"]] == [second]
        assert (await caller.events(second))[:2] == ["submitted", "dependencies_met"]


async def test_the_wait_counts_from_the_last_dependency_on(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        first, other = await caller.submit(), await caller.submit()
        second = await caller.submit(depends_on=[after(first), after(other, "afterany")])
        await move(database, first, "starting", "completed")
        halfway = await caller.job(second)
        assert halfway["queued_at"] == halfway["created_at"]
        assert halfway["reason_message"] == f"waits for job {other} to end (queued)"
        await move(database, other, "cancelled")
        ready = await caller.job(second)
        ended = (await caller.job(other))["completed_at"]
        assert ready["queued_at"] == ended > ready["created_at"]
        assert ready["version"] == halfway["version"] + 1
        assert ready["reason"] != "Dependency"


async def test_the_message_counts_what_else_is_waited_for(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        parents = [await caller.submit() for _ in range(3)]
        child = await caller.submit(depends_on=[after(p, "after") for p in reversed(parents)])
        job = await caller.job(child)
        words = f"waits for job {parents[0]} to start (queued), and 2 more"
        assert (job["reason"], job["reason_message"]) == ("Dependency", words)
        listed = (await caller.get("/api/jobs")).json()["jobs"][0]
        assert (listed["id"], listed["reason_message"]) == (child, words)
        assert [d["job_id"] for d in job["depends_on"]] == parents


async def test_after_is_satisfied_by_a_start(stage: Stage, make_person: Make) -> None:
    cluster = Puppet(NODE)
    async with stage(cluster) as (_, client):
        caller = Caller(client, await make_person())
        first = await caller.submit()
        second = await caller.submit(depends_on=[after(first, "after")])
        await cluster.begun(first)
        await cluster.launched(second)
        assert (await caller.job(first))["status"] == "running"


@pytest.mark.parametrize("ended_before", [True, False], ids=["ended before", "ends after"])
async def test_each_end_decides_each_kind(
    stage: Stage, make_person: Make, database: Database, ended_before: bool
) -> None:
    async with stage(Puppet(), max_submitted_per_user=100) as (_, client):
        caller = Caller(client, await make_person())
        for kind, end in product(BETWEEN_ANY, ("completed", "failed", "cancelled")):
            parent = await caller.submit()
            if ended_before:
                await move(database, parent, "starting", end)
            body = {"script": "true", "depends_on": [after(parent, kind)]}
            answer = (await caller.post("/api/jobs", json=body)).json()
            if not ended_before:
                assert (answer["status"], answer["reason"]) == ("queued", "Dependency")
                await move(database, parent, "starting", end)
            job = await caller.job(answer["id"])
            if end in MEANING[kind][0]:
                assert (job["status"], job["depends_on"][0]["state"]) == ("queued", "satisfied")
                assert job["reason"] != "Dependency"
            else:
                assert (job["status"], job["reason"]) == ("cancelled", "DependencyNeverSatisfied")
                assert f"job {parent} " in job["reason_message"]
                assert job["depends_on"][0]["state"] == "failed"
                assert answer["status"] == "cancelled" if ended_before else "queued"
    await counts_hold(database)


async def test_all_that_can_never_start_ends_in_the_same_transaction(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """A chain of 300, a branch that is to run when it fails, and a job that asked to stay."""
    async with stage(Puppet(), max_submitted_per_user=1000) as (_, client):
        caller = Caller(client, await make_person())
        chain = [await caller.submit()]
        jobs = [
            {"label": str(i), "script": "true"}
            | ({"waits_for": [{"label": str(i - 1)}]} if i else {"depends_on": [after(chain[0])]})
            for i in range(300)
        ]
        answer = await caller.post("/api/workflows", json={"jobs": jobs})
        assert answer.status_code == 201, answer.text
        chain += [job["job_id"] for job in answer.json()["jobs"]]
        rescue = await caller.submit(depends_on=[after(chain[-1], "afternotok")])
        stays = await caller.submit(depends_on=[after(chain[-1])], on_dependency_failure="wait")
        await move(database, chain[0], "starting", "failed")
        [last] = await fetch(database, "SELECT max(xmin::text::bigint) AS x FROM jobs")
        rows = await fetch(
            database,
            "SELECT id, state, reason, ended_at FROM jobs WHERE id = ANY(:ids)"
            " AND xmin::text::bigint = :x",
            ids=chain,
            x=last.x,
        )
        assert len(rows) == len(chain)
        assert {(r.state, r.reason) for r in rows if r.id != chain[0]} == {
            ("cancelled", "DependencyNeverSatisfied")
        }
        assert len({row.ended_at for row in rows}) == 1
        assert await caller.events(chain[-1]) == ["submitted", "cancelled"]
        assert (await standing(caller, rescue))[1] != "Dependency"
        assert await standing(caller, stays) == ("queued", "DependencyNeverSatisfied")
        assert (await caller.events(stays))[-1] == "dependency_failed"
        assert "requeue job" in (await caller.job(stays))["reason_message"]
    await counts_hold(database)


async def test_what_was_asked_for_is_kept_also_where_there_is_nothing_to_wait_for(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        for wish in ("wait", "cancel"):
            job = await caller.job(await caller.submit(on_dependency_failure=wish))
            assert (job["on_dependency_failure"], job["depends_on"]) == (wish, [])


async def test_a_requeue_of_the_other_job_can_still_help_one_that_stays(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        parent = await caller.submit()
        child = await caller.submit(depends_on=[after(parent)], on_dependency_failure="wait")
        await move(database, parent, "starting", "failed")
        assert await standing(caller, child) == ("queued", "DependencyNeverSatisfied")
        assert (await caller.post(f"/api/jobs/{parent}/requeue")).status_code == 200
        assert await standing(caller, child) == ("queued", "Dependency")
        await move(database, parent, "starting", "completed")
        assert (await caller.job(child))["depends_on"][0]["state"] == "satisfied"
        # And it stays satisfied, whatever becomes of the other job now.
        assert (await caller.post(f"/api/jobs/{parent}/requeue")).status_code == 200
        await move(database, parent, "starting", "failed")
        assert (await caller.job(child))["depends_on"][0]["state"] == "satisfied"
        assert (await caller.job(child))["status"] == "queued"


async def test_a_job_that_was_cancelled_for_it_waits_again_after_a_requeue_of_both(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        parent = await caller.submit()
        child = await caller.submit(depends_on=[after(parent)])
        await move(database, parent, "starting", "failed")
        refused = await caller.post(f"/api/jobs/{child}/requeue")
        assert refused.status_code == 409
        assert f"Requeue job {parent} first" in refused.json()["detail"]
        for job_id in (parent, child):
            assert (await caller.post(f"/api/jobs/{job_id}/requeue")).status_code == 200
        assert await standing(caller, child) == ("queued", "Dependency")
        await move(database, parent, "starting", "completed")
        assert (await caller.job(child))["depends_on"][0]["state"] == "satisfied"


async def test_a_cancelled_job_that_comes_back_knows_what_ended_meanwhile(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        parent = await caller.submit()
        child = await caller.submit(depends_on=[after(parent)])
        await caller.ask("DELETE", f"/api/jobs/{child}")
        await move(database, parent, "starting", "completed")
        assert (await caller.events(child)) == ["submitted", "cancelled"]
        assert (await caller.post(f"/api/jobs/{child}/requeue")).status_code == 200
        [row] = await fetch(
            database, "SELECT unmet_dependencies AS n FROM jobs WHERE id = :i", i=child
        )
        assert row.n == 0


async def test_a_held_job_stays_held_when_its_dependencies_are_met(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        parent = await caller.submit()
        child = await caller.submit(depends_on=[after(parent)])
        await caller.post(f"/api/jobs/{child}/hold")
        assert await standing(caller, child) == ("queued", "JobHeldUser")
        await move(database, parent, "starting", "completed")
        assert await standing(caller, child) == ("queued", "JobHeldUser")
        await caller.post(f"/api/jobs/{child}/release")
        assert (await standing(caller, child))[1] not in ("JobHeldUser", "Dependency")


async def test_a_release_does_not_let_a_job_past_its_dependencies(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        parent = await caller.submit()
        child = await caller.submit(depends_on=[after(parent)])
        for verb in ("hold", "release"):
            await caller.post(f"/api/jobs/{child}/{verb}")
        assert await standing(caller, child) == ("queued", "Dependency")
        async with database.transaction() as session:  # whatever a scheduler may think
            assert await transition(session, [Transition(child, JobState.STARTING, "x")]) == set()


async def test_dependencies_outlive_the_server(stage: Stage, make_person: Make) -> None:
    person, cluster = await make_person(), Puppet(NODE)
    async with stage(cluster) as (_, client):
        caller = Caller(client, person)
        first = await caller.submit()
        second = await caller.submit(depends_on=[after(first)])
        key = await cluster.begun(first)
        await caller.until(first, "running")
    async with stage(cluster) as (_, client):
        caller = Caller(client, person)
        await until(lambda: caller.client.get("/health/ready"))
        assert await standing(caller, second) == ("queued", "Dependency")
        cluster.end(key)
        await cluster.launched(second)


WRONG: list[tuple[Any, str, str]] = [
    ([{"job_id": 0}], "/depends_on/0/job_id", "greater than or equal to 1"),
    ([{"job_id": "7"}], "/depends_on/0/job_id", "plain digits"),
    ([{"job_id": 7, "kind": "afterburner"}], "/depends_on/0/kind", "afterok"),
    ([{"job_id": 7, "delay": 3}], "/depends_on/0/delay", "Unknown field"),
    ([7], "/depends_on/0", "dictionary"),
    ([{"job_id": 7}, {"job_id": 7, "kind": "after"}], "/depends_on", "job 7 is named twice"),
    ([{"job_id": i + 1} for i in range(1001)], "/depends_on", "at most 1000"),
]


async def test_what_is_no_dependency_is_refused(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        for wrong, pointer, words in WRONG:
            answer = await caller.post("/api/jobs", json={"script": "x", "depends_on": wrong})
            assert answer.status_code == 422
            [error] = answer.json()["errors"]
            assert error["pointer"] == pointer
            assert words in error["message"]


async def test_only_a_job_that_one_may_see_can_be_waited_for(
    stage: Stage, make_person: Make
) -> None:
    owner = await make_person(group="chem")
    cast = [
        (owner, 201),
        (await make_person(group="bio", manages="chem"), 201),
        (await make_person(role=Role.ADMIN), 201),
        (await make_person(group="chem"), 404),
        (await make_person(group="bio"), 404),
    ]
    async with stage(Puppet()) as (_, client):
        parent = await Caller(client, owner).submit()
        for person, wanted in cast:
            caller = Caller(client, person)
            body = {"script": "x", "depends_on": [after(parent)]}
            answer = await caller.post("/api/jobs", json=body)
            assert answer.status_code == wanted, person
            if wanted == 404:
                # It can't be told from a job that is not there.
                body = {"script": "x", "depends_on": [after(2**53 - 1)]}
                nowhere = await caller.post("/api/jobs", json=body)
                assert nowhere.json()["errors"][0]["pointer"] == "/depends_on/0/job_id"
                assert answer.json()["detail"] == nowhere.json()["detail"].replace(
                    str(2**53 - 1), str(parent)
                )
                assert (await caller.get("/api/jobs")).json()["jobs"] == []
        # And whoever sees a job sees no dependents of it that are others'.
        dependents = (await Caller(client, owner).job(parent))["dependents"]
        assert len(dependents) == 1
        assert len((await Caller(client, cast[2][0]).job(parent))["dependents"]) == 3


async def test_a_batch_names_the_place_of_what_is_not_there_and_stores_nothing(
    stage: Stage, make_person: Make
) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        jobs = [{"script": "x"}, {"script": "x", "depends_on": [after(999_999)]}]
        answer = await caller.post("/api/jobs/batch", json={"jobs": jobs})
        assert answer.status_code == 404
        assert answer.json()["errors"][0]["pointer"] == "/jobs/1/depends_on/0/job_id"
        assert (await caller.get("/api/jobs")).json()["jobs"] == []


async def test_an_end_and_a_submit_at_the_same_time_never_leave_a_job_behind(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """Parents end while children are submitted, in many orders: each child is decided."""
    async with stage(Puppet(), max_submitted_per_user=2000) as (_, client):
        caller = Caller(client, await make_person())
        for number in range(9):
            parent = await caller.submit()
            await move(database, parent, "starting")
            end = "failed" if number % 3 else "completed"

            async def submit(kind: str, delay: float, parent: int = parent) -> httpx.Response:
                await asyncio.sleep(delay)
                body = {"script": "x", "depends_on": [after(parent, kind)]}
                return await caller.post("/api/jobs", json=body)

            async def finish(parent: int = parent, end: str = end) -> None:
                await asyncio.sleep(0.004)
                await move(database, parent, end)

            submits = (submit(kind, step * 0.001) for step in range(4) for kind in BETWEEN_ANY)
            *answers, _ = await asyncio.gather(*submits, finish())
            assert {answer.status_code for answer in answers if answer} == {201}
    undecided = await fetch(
        database,
        """SELECT d.job_id FROM job_dependencies d JOIN jobs p ON p.id = d.depends_on
           WHERE p.state IN ('completed', 'failed') AND d.state = 'waiting'""",
    )
    assert undecided == []
    await dependencies_hold(database)
    await counts_hold(database)


async def test_a_child_is_seen_that_commits_while_the_end_waits_for_it(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """The narrowest case: the end was asked for before the child was there to be seen."""
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        parent, child = await caller.submit(), await caller.submit()
        async with database.transaction() as session:
            await session.execute(
                text("UPDATE jobs SET has_dependents = true WHERE id = :p"), {"p": parent}
            )
            await session.execute(
                text("INSERT INTO job_dependencies VALUES (:c, :p, 'afterok', 'waiting')"),
                {"c": child, "p": parent},
            )
            await session.execute(
                text("UPDATE jobs SET unmet_dependencies = 1 WHERE id = :c"), {"c": child}
            )
            ending = asyncio.create_task(move(database, parent, "cancelled"))
            await until(
                lambda: fetch(database, "SELECT 1 FROM pg_locks WHERE NOT granted"), "the wait"
            )
        await ending
        assert await standing(caller, child) == ("cancelled", "DependencyNeverSatisfied")


async def test_many_ends_and_cancels_of_one_graph_at_once_agree(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """Layers of jobs that each wait for all of the layer before, ended from all sides."""
    async with stage(Puppet(), max_submitted_per_user=2000) as (_, client):
        caller = Caller(client, await make_person())
        labels = [[f"{layer}.{n}" for n in range(6)] for layer in range(5)]
        jobs = [
            {
                "label": label,
                "script": "x",
                "waits_for": [
                    {"label": above, "kind": "afterany" if (n + m) % 2 else "afterok"}
                    for m, above in enumerate(labels[layer - 1] if layer else [])
                ],
            }
            for layer, row in enumerate(labels)
            for n, label in enumerate(row)
        ]
        answer = await caller.post("/api/workflows", json={"jobs": jobs})
        ids = [job["job_id"] for job in answer.json()["jobs"]]

        async def end(job_id: int) -> None:
            async with database.transaction() as session:
                await transition(session, [Transition(job_id, JobState.STARTING, "x")])
            async with database.transaction() as session:
                state = JobState.COMPLETED if job_id % 5 else JobState.FAILED
                await transition(session, [Transition(job_id, state, "x")])

        while await fetch(database, "SELECT 1 FROM jobs WHERE state = 'queued' LIMIT 1"):
            cancels = [caller.ask("DELETE", f"/api/jobs/{i}") for i in ids[3::11]]
            answers = await asyncio.gather(*(end(i) for i in reversed(ids)), *cancels)
            assert {a.status_code for a in answers if a is not None} <= {200, 202, 409}
    await dependencies_hold(database)
    await counts_hold(database)


async def dependencies_hold(database: Database) -> None:
    """The count of each job is that of its rows, and no row is behind the times."""
    wrong = await fetch(
        database,
        """SELECT j.id FROM jobs j LEFT JOIN job_dependencies d
               ON d.job_id = j.id AND d.state <> 'satisfied' AND d.kind <> 'aftercorr'
           GROUP BY j.id HAVING j.unmet_dependencies <> count(d.job_id)""",
    )
    assert wrong == []
    rows = await fetch(
        database,
        """SELECT d.kind, d.state, p.state AS came_to FROM job_dependencies d
           JOIN jobs p ON p.id = d.depends_on WHERE d.state = 'waiting'""",
    )
    for row in rows:
        assert outcome(DependencyKind(row.kind), JobState(row.came_to)) == row.state

"""What a job asks of nodes: Slurm's words, what they come to, and what contradicts itself."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from queueapi.auth.models import Role
from queueapi.db.session import Database
from queueapi.executors.base import NodeInventory
from queueapi.jobs import attempts
from queueapi.jobs.schemas import JobSubmission
from queueapi.jobs.shape import Needs, parse_constraint
from tests.staging import Caller, Json, Puppet, Stage, fetch

Make = Callable[..., Any]
GB = 1024

SAME: list[tuple[Json, Needs]] = [
    ({}, Needs(1, 1, 1, 4 * GB, 0)),
    ({"nodes": 3}, Needs(3, 3, 1, 4 * GB, 0)),
    ({"nodes": 3.0, "cpu_cores": 8}, Needs(3, 3, 8, 4 * GB, 0)),
    ({"tasks": 16, "cpus_per_task": 2}, Needs(1, 16, 32, 4 * GB, 0)),
    ({"tasks": 16, "cpus_per_task": 2, "nodes": 4}, Needs(4, 16, 8, 4 * GB, 0)),
    ({"tasks": 10, "tasks_per_node": 4}, Needs(3, 10, 4, 4 * GB, 0)),
    ({"tasks": 10, "nodes": 4}, Needs(4, 10, 3, 4 * GB, 0)),
    ({"tasks": 4, "nodes": 4, "tasks_per_node": 4}, Needs(4, 4, 1, 4 * GB, 0)),
    ({"tasks_per_node": 8, "nodes": 2}, Needs(2, 16, 8, 4 * GB, 0)),
    ({"tasks_per_node": 8}, Needs(1, 8, 8, 4 * GB, 0)),
    ({"cpus_per_task": 6}, Needs(1, 1, 6, 4 * GB, 0)),
    ({"cpu_cores": 6, "tasks": 3, "cpus_per_task": 2}, Needs(1, 3, 6, 4 * GB, 0)),
    ({"cpu_cores": 6, "gpus_per_task": 2}, Needs(1, 1, 6, 4 * GB, 2)),
    ({"memory_per_node_gb": 2}, Needs(1, 1, 1, 2 * GB, 0)),
    ({"memory_per_cpu_gb": 1.5, "tasks": 4, "nodes": 2}, Needs(2, 4, 2, 3 * GB, 0)),
    ({"gpus_per_node": 2}, Needs(1, 1, 1, 4 * GB, 2)),
    ({"gpus_per_task": 1, "tasks": 6, "nodes": 2}, Needs(2, 6, 3, 4 * GB, 3)),
    ({"gpu_type": "v100", "nodes": 2}, Needs(2, 2, 1, 4 * GB, 1)),
    ({"gpu_count": 0, "gpus_per_task": 1}, Needs(1, 1, 1, 4 * GB, 1)),
    ({"nodes": None, "tasks": None, "memory_per_cpu_gb": None}, Needs(1, 1, 1, 4 * GB, 0)),
]


@pytest.mark.parametrize(("sent", "needs"), SAME)
def test_slurms_words_come_to_figures_for_each_node(sent: Json, needs: Needs) -> None:
    assert JobSubmission.model_validate({"script": "x"} | sent).needs == needs


CONTRADICTIONS: list[tuple[Json, set[str]]] = [
    ({"cpu_cores": 8, "tasks": 2}, {"cpu_cores", "tasks"}),
    ({"cpu_cores": 8, "cpus_per_task": 4}, {"cpu_cores", "cpus_per_task"}),
    (
        {"cpu_cores": 4, "tasks": 4, "cpus_per_task": 2, "nodes": 1},
        {"cpu_cores", "tasks", "cpus_per_task"},
    ),
    ({"tasks": 3, "nodes": 4}, {"tasks", "nodes"}),
    ({"tasks": 9, "nodes": 2, "tasks_per_node": 4}, {"tasks", "nodes", "tasks_per_node"}),
    ({"tasks": 5000, "tasks_per_node": 1}, {"tasks", "tasks_per_node"}),
    ({"tasks": 5000}, {"tasks"}),
    ({"tasks": 1000, "cpus_per_task": 5}, {"tasks", "cpus_per_task"}),
    ({"memory_gb": 4, "memory_per_cpu_gb": 4}, {"memory_gb", "memory_per_cpu_gb"}),
    ({"memory_gb": 4, "memory_per_node_gb": 4}, {"memory_gb", "memory_per_node_gb"}),
    ({"memory_per_cpu_gb": 65_536, "cpu_cores": 2}, {"memory_per_cpu_gb"}),
    ({"gpu_count": 2, "gpus_per_task": 2}, {"gpu_count", "gpus_per_task"}),
    ({"gpu_count": 1, "gpus_per_node": 1}, {"gpu_count", "gpus_per_node"}),
    ({"gpus_per_task": 64, "tasks": 2}, {"gpus_per_task"}),
]


@pytest.mark.parametrize(("sent", "fields"), CONTRADICTIONS)
def test_a_contradiction_names_each_of_its_fields(sent: Json, fields: set[str]) -> None:
    with pytest.raises(ValidationError) as refusal:
        JobSubmission.model_validate({"script": "x"} | sent)
    assert {error["loc"] for error in refusal.value.errors()} == {(name,) for name in fields}


@pytest.mark.parametrize(
    "wrong",
    [
        {"nodes": 0}, {"nodes": 4097}, {"nodes": "2"}, {"nodes": True}, {"nodes": 1.5},
        {"tasks": 0}, {"tasks_per_node": 0}, {"cpus_per_task": 0}, {"cpus_per_task": 10**9},
        {"memory_per_cpu_gb": 0}, {"memory_per_cpu_gb": "1G"}, {"gpus_per_task": -1},
        {"exclusive": 1}, {"exclusive": "true"}, {"exclusive": None},
        {"constraint": ""}, {"constraint": "a&"}, {"constraint": "a||b"}, {"constraint": "(a|b)"},
        {"constraint": "a b"}, {"constraint": "a\n"}, {"constraint": "-a"},
        {"constraint": "&".join(["f"] * 300)}, {"num_of_node": 2},
    ],
)  # fmt: skip
def test_what_is_no_shape_is_refused(wrong: Json) -> None:
    with pytest.raises(ValidationError):
        JobSubmission.model_validate({"script": "x"} | wrong)


def test_and_binds_tighter_than_or_and_the_order_of_words_is_nothing() -> None:
    assert parse_constraint("IB&CPU-N|BigMem") == (("BigMem",), ("CPU-N", "IB"))
    assert parse_constraint("BigMem|CPU-N&IB|BigMem&BigMem") == parse_constraint("IB&CPU-N|BigMem")
    assert parse_constraint(None) == ()


WIDE: Json = {
    "nodes": 2, "tasks": 6, "cpus_per_task": 2, "memory_per_cpu_gb": 0.5, "gpus_per_task": 1,
    "constraint": "IB&CPU-N|BigMem", "exclusive": True, "estimated_hours": 0.5,
}  # fmt: skip


async def test_a_shape_is_kept_shown_and_counted_over_all_nodes(
    stage: Stage, make_person: Make
) -> None:
    ann = await make_person()
    async with stage(Puppet(), price_per_cpu_hour=0.1, max_gpus=8) as (_, client):
        caller = Caller(client, ann)
        answer = await caller.post("/api/jobs", json={"script": "true"} | WIDE)
        stored = await caller.job(answer.json()["id"])
    shown = {
        "nodes": 2, "tasks": 6, "tasks_per_node": 3, "cpus_per_task": 2, "cpu_cores": 6,
        "memory_gb": 3, "gpu_count": 3, "constraint": "IB&CPU-N|BigMem", "exclusive": True,
    }  # fmt: skip
    assert {name: answer.json()[name] for name in shown} == shown
    assert {name: stored[name] for name in shown} == shown
    assert stored["estimated_cpu_minutes"] == 2 * 6 * 30
    assert stored["estimated_cost"] == pytest.approx(2 * 6 * 0.5 * 0.1)


async def test_limits_and_quota_count_all_nodes(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet(), max_cpu_cores=8, default_quota_cpu_minutes=400) as (_, client):
        caller = Caller(client, await make_person())
        wanted = {"script": "true", "nodes": 3, "cpu_cores": 3}
        over = (await caller.post("/api/jobs", json=wanted)).json()
        assert (over["status"], over["limit_name"], over["requested"]) == (403, "cpu_cores", 9)
        assert "over 3 nodes" in over["detail"]
        poor = await caller.post("/api/jobs", json=wanted | {"nodes": 2, "estimated_hours": 2})
        assert poor.json()["limit_name"] == "quota_cpu_minutes"
        assert poor.json()["requested"] == 2 * 3 * 120


async def test_a_contradiction_in_a_batch_points_at_the_job(
    stage: Stage, make_person: Make
) -> None:
    bad = {"script": "b", "cpu_cores": 8, "tasks": 2}
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        answer = await caller.post("/api/jobs/batch", json={"jobs": [{"script": "a"}, bad]})
        one = await caller.post("/api/jobs", json=bad)
    assert (answer.status_code, one.status_code) == (422, 422)
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert pointers == ["/jobs/1/cpu_cores", "/jobs/1/tasks"]
    assert "2 tasks on a node × 1 CPUs are 2 CPUs, and cpu_cores is 8" in one.json()["detail"]


async def test_what_no_node_here_gives_waits_and_says_why(stage: Stage, make_person: Make) -> None:
    async with stage() as (_, client):
        caller = Caller(client, await make_person())
        waits = [
            await caller.submit(**shape)
            for shape in ({"nodes": 2}, {"constraint": "IB"})
        ]  # fmt: skip
        await caller.until(await caller.submit(), "completed")
        for job_id in waits:
            found = await caller.job(job_id)
            assert (found["status"], found["reason"]) == ("queued", "ReqNodeNotAvail")


async def test_a_job_on_several_nodes_starts_on_all_of_them_at_once(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(*(NodeInventory(f"n{i}", 4, 8 * GB, ()) for i in (1, 2, 3)))
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        first = await caller.submit(cpu_cores=3, memory_gb=1)
        key = await puppet.begun(first)
        wide = await caller.submit(nodes=3, cpu_cores=2, memory_gb=1)
        await caller.until(first, "running")
        beside = await caller.submit(nodes=2, cpu_cores=4, memory_gb=1, estimated_hours=0.5)
        run = puppet.runs[await puppet.begun(beside)]
        assert run.nodes == ("n2", "n3")
        assert (await caller.job(wide))["reason"] in ("Resources", "Priority")
        puppet.end(key)
        puppet.end(run.key)
        wide_key = await puppet.begun(wide)
        assert puppet.runs[wide_key].nodes == ("n1", "n2", "n3")
        [attempt] = (await caller.until(wide, "running"))["attempts"]
        assert [share["node"] for share in attempt["nodes"]] == ["n1", "n2", "n3"]
        events = (await caller.get(f"/api/jobs/{wide}/events")).json()["events"]
        assert "on 3 nodes, from n1 to n3" in [event["message"] for event in events]


async def test_an_exclusive_job_shares_its_node_with_nobody_and_pays_for_all_of_it(
    stage: Stage, make_person: Make
) -> None:
    puppet = Puppet(NodeInventory("n1", 4, 8 * GB, ("a100",)))
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        alone = await caller.submit(exclusive=True, memory_gb=1)
        key = await puppet.begun(alone)
        other = await caller.submit(memory_gb=1)
        await caller.until(alone, "running")
        assert (await caller.job(other))["status"] == "queued"
        assert puppet.runs[key].cpus == 4
        puppet.end(key, ran=600)
        await puppet.launched(other)
        usage = (await caller.until(alone, "completed"))["usage"]
    assert usage["cpu_minutes"] == pytest.approx(40, rel=1e-3)
    assert usage["gpu_minutes"] == pytest.approx(10, rel=1e-3)
    assert usage["memory_gb_minutes"] == pytest.approx(80, rel=1e-3)


async def started(caller: Caller, database: Database, **shape: Any) -> Any:
    """The row of an attempt of such a job on two nodes of 16 CPUs, 32 GB and 2 GPUs each."""
    job_id = await caller.submit(nodes=2, cpu_cores=4, memory_gb=1, **shape)
    both = [attempts.NodeShare("a1", (0,)), attempts.NodeShare("a2", (1,))]
    new = attempts.NewAttempt(job_id, "local", "a1", (0,), both, 32, 64 * GB, 4)
    async with database.transaction() as session:
        [row] = await attempts.open_attempts(session, 1, [new])
    return row


async def test_an_attempt_holds_what_was_asked_or_whole_nodes(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """Which is charged, and so must be known although the nodes may change or go."""
    boss = await make_person(role=Role.ADMIN)
    puppet = Puppet()
    async with stage(puppet) as (_, client):
        caller = Caller(client, boss)
        held = []
        for exclusive in (False, True):
            row = await started(caller, database, exclusive=exclusive, gpu_count=1)
            held.append((await fetch(database, "SELECT * FROM attempts WHERE id = :i",
                                     i=row.attempt_id))[0])  # fmt: skip
        assert [(a.cpus, a.memory_mb, a.gpus) for a in held] == [(8, 2 * GB, 2), (32, 64 * GB, 4)]
        # The controller finds attempts that were never launched, launches them and settles them.
        for attempt in held:
            key = await puppet.begun(attempt.job_id)
            run = puppet.runs[key]
            assert (run.nodes, run.tasks, run.gpu_indices) == (("a1", "a2"), 2, (0,))
            puppet.end(key, ran=600)
            done = await caller.until(attempt.job_id, "completed")
            assert done["usage"]["cpu_minutes"] == pytest.approx(attempt.cpus * 10, rel=1e-3)
            assert done["usage"]["gpu_minutes"] == pytest.approx(attempt.gpus * 10, rel=1e-3)
            [document] = done["attempts"]
            assert document["node"] == "a1"
            assert document["nodes"] == [
                {"node": "a1", "gpu_indices": [0]},
                {"node": "a2", "gpu_indices": [1]},
            ]
        assert puppet.runs[str(puppet.key_of(held[0].job_id))].cpus == 4
        assert puppet.runs[str(puppet.key_of(held[1].job_id))].cpus == 16


async def test_a_job_on_one_node_shows_it(stage: Stage, make_person: Make) -> None:
    async with stage() as (_, client):
        caller = Caller(client, await make_person())
        done = await caller.until(await caller.submit(tasks=2), "completed")
    assert done["attempts"][0]["nodes"] == [{"node": "null", "gpu_indices": []}]
    assert done["usage"]["cpu_minutes"] >= 0

"""Who may use a cluster, and what they may ask of it: at the submit, and again at the launch."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.clusters.access import People, Rules, Who, Wish, admits, check, refusal, usable
from queueapi.clusters.caps import DEFAULTS, Ask, Caps, caps_of, excess
from queueapi.clusters.models import ClusterState
from queueapi.clusters.offers import read_offer
from queueapi.db.session import Database
from queueapi.errors import Conflict, Forbidden, LimitExceeded, NotFound
from queueapi.executors.base import Bind, Container, NodeInventory, Phase
from queueapi.executors.offer import NodeKind, Offer, Section
from tests.clusters.test_clusters import change, register
from tests.staging import Caller, Json, Puppet, Stage, fetch, until

Make = Callable[..., Any]
ADA = Who("ada@lab.edu", user_id=1, group_id=10)
SMALL = Ask(1, 1, 1, 1024, 0, 60)
OPEN = Rules("c", "slurm", ClusterState.UP, None, (), Caps(), False, (), People(), People())
WISH = Wish(ADA, SMALL)


@pytest.mark.parametrize(
    ("allow", "deny", "admitted"),
    [
        (People(), People(), True),
        (People(emails=("*@lab.edu",)), People(), True),
        (People(emails=("*@other.edu",)), People(), False),
        (People(emails=("ada@*",)), People(emails=("*@lab.edu",)), False),
        (People(users=frozenset({1})), People(), True),
        (People(users=frozenset({2})), People(groups=frozenset({11})), False),
        (People(groups=frozenset({10})), People(), True),
        (People(groups=frozenset({10})), People(users=frozenset({1})), False),
        (People(), People(groups=frozenset({10})), False),
        (People(users=frozenset({1})), People(emails=("*",)), False),
    ],
)
def test_deny_wins_and_nobody_allowed_means_everybody(
    allow: People, deny: People, admitted: bool
) -> None:
    assert admits(replace(OPEN, allow=allow, deny=deny), ADA) is admitted


def test_addresses_are_compared_without_regard_to_case() -> None:
    who = replace(ADA, email="Ada@LAB.edu")
    assert admits(replace(OPEN, allow=People(emails=("*@lab.edu",))), who)


def test_a_refusal_names_the_rule_and_nobody_elses() -> None:
    deny = People(emails=("bob@x.org", "*@lab.edu"), users=frozenset({7}))
    problem = refusal(replace(OPEN, deny=deny), WISH)
    assert isinstance(problem, Forbidden)
    assert "*@lab.edu" in problem.detail
    assert "bob" not in problem.detail
    allow = People(emails=("secret-project@x.org",), groups=frozenset({99}))
    problem = refusal(replace(OPEN, allow=allow), WISH)
    assert isinstance(problem, Forbidden)
    assert "secret" not in problem.detail
    assert "ada@lab.edu" in problem.detail


def test_the_default_caps_are_those_of_the_table() -> None:
    assert caps_of("slurm", {}) == DEFAULTS == Caps(50, 50, 50, 20, 50, 10, 10, 10)
    assert caps_of("slurm", {"nodes": 200}).nodes == 200
    assert caps_of("local", {}) == Caps()
    assert caps_of("local", {"hours": 1}) == Caps(hours=1)


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (Ask(51, 51, 1, 1024, 0, 60), "nodes"),
        (Ask(1, 51, 51, 1024, 0, 60), "tasks"),
        (Ask(1, 1, 51, 1024, 0, 60), "cpus_per_task"),
        (Ask(2, 2, 1, 1024, 11, 60), "gpus"),
        (Ask(1, 1, 8, 51 * 1024, 0, 60), "memory_gb"),
        (Ask(1, 1, 2, 21 * 1024, 0, 60), "memory_per_cpu_gb"),
        (Ask(1, 1, 2, 21 * 1024, 2, 60), "memory_per_gpu_gb"),
        (Ask(1, 1, 1, 1024, 0, 36_001), "hours"),
        (Ask(50, 50, 50, 50 * 1024, 0, 36_000), None),
        (Ask(20, 20, 1, 10 * 1024, 1, 36_000), None),
        (Ask(2, 4, 100, 1024, 0, 60), None),  # 2 tasks on a node, 50 CPUs each
    ],
)
def test_each_cap_holds_at_its_bound(ask: Ask, name: str | None) -> None:
    over = excess(DEFAULTS, ask)
    assert (over and over.name) == name


def test_a_cap_is_refused_with_its_numbers() -> None:
    problem = refusal(replace(OPEN, caps=DEFAULTS), replace(WISH, ask=Ask(60, 60, 1, 1, 0, 60)))
    assert isinstance(problem, LimitExceeded)
    assert problem.members == {"limit_name": "nodes", "limit": 50, "used": 0, "requested": 60}


def test_a_shared_account_takes_container_jobs_only() -> None:
    shared = replace(OPEN, is_community_account=True)
    problem = refusal(shared, WISH)
    assert isinstance(problem, Conflict)
    assert "container jobs only" in problem.detail
    image = replace(WISH, image="docker://python:3.12")
    assert refusal(replace(shared, images=("docker://python:*",)), image) is None


@pytest.mark.parametrize(
    ("image", "pattern", "taken"),
    [
        ("docker://python:3.12", "docker://python:*", True),
        ("docker://python:3.12", "docker://python:3.12", True),
        ("docker://evil/python:3.12", "docker://*:3.12", False),
        ("docker://lab/python", "docker://lab/*", True),
        ("docker://lab/a/b", "docker://lab/*", False),
        ("/images/a.sif", "/images/*.sif", True),
        ("/images/../etc/a.sif", "/images/*.sif", False),
        ("/images/aXsif", "/images/a.sif", False),
    ],
)
def test_images_are_those_of_the_list(image: str, pattern: str, taken: bool) -> None:
    rules = replace(OPEN, images=(pattern,))
    assert (refusal(rules, replace(WISH, image=image)) is None) is taken
    assert refusal(OPEN, replace(WISH, image=image)) is not None  # with no list there are none


def test_a_job_goes_where_it_may_and_says_why_it_may_not() -> None:
    far = replace(OPEN, name="far", deny=People(users=frozenset({1})))
    small = replace(OPEN, name="small", caps=Caps(hours=0.001))
    down = replace(OPEN, name="down", state=ClusterState.DOWN, reason="moved")
    plain = replace(OPEN, name="plain", kind="local", partitions=("a",))
    everything = [OPEN, far, small, down, plain]
    assert usable(everything, WISH) == ["c", "plain"]
    assert usable(everything, replace(WISH, site=(("qos", "high"),))) == ["c"]
    assert usable(everything, replace(WISH, kind="local")) == ["plain"]
    assert usable(everything, replace(WISH, cluster="small")) == []
    check(everything, WISH)
    check(everything, replace(WISH, cluster="c"))
    for name, kind, words in (
        ("far", Forbidden, "denies ada@lab.edu"),
        ("small", LimitExceeded, "0.001 hours"),
        ("down", Conflict, "moved"),
        ("nowhere", NotFound, "Yours: c, small, down, plain."),
    ):
        with pytest.raises(kind, match=words):
            check(everything, replace(WISH, cluster=name))
    with pytest.raises(Conflict) as error:
        check([far, small, down], WISH)
    assert "small" in error.value.detail and "moved" in error.value.detail
    assert "far" not in error.value.detail
    with pytest.raises(Forbidden):
        check([far], WISH)


def test_drained_clusters_take_jobs_that_wait() -> None:
    assert usable([replace(OPEN, state=ClusterState.DRAIN)], WISH) == ["c"]


def test_partitions_are_those_of_the_list() -> None:
    rules = replace(OPEN, partitions=("cpu", "gpu"))
    assert usable([rules], replace(WISH, site=(("partition", "gpu"),))) == ["c"]
    problem = refusal(rules, replace(WISH, site=(("partition", "secret"),)))
    assert isinstance(problem, Conflict)
    assert "cpu, gpu" in problem.detail


FEW = Offer((Section("cpu", True, (NodeKind(4, 8, 16_000),), max_seconds=3600.0),))


def test_what_a_cluster_can_never_give_is_refused_with_the_field_to_change() -> None:
    rules = replace(OPEN, offer=FEW)
    assert refusal(rules, WISH) is None
    problem = refusal(rules, replace(WISH, ask=replace(SMALL, cpus=9)))
    assert isinstance(problem, Conflict)
    assert "can never run this job: the partition cpu has no nodes with 9 CPUs" in problem.detail
    assert problem.errors[0].pointer == "/cpu_cores"


def test_a_clusters_defaults_and_partitions_count_where_a_job_says_nothing() -> None:
    small = Section("small", False, (NodeKind(1, 2, 4_000),))
    offer = Offer((*FEW.sections, small), accounts=("research",))
    four = replace(WISH, ask=replace(SMALL, cpus=4))
    assert refusal(replace(OPEN, offer=offer), four) is None
    assert refusal(replace(OPEN, offer=offer, partitions=("small",)), four) is not None
    rules = replace(OPEN, offer=offer, defaults=(("partition", "small"),))
    assert refusal(rules, four) is not None
    assert refusal(rules, replace(four, site=(("partition", "cpu"),))) is None
    assert refusal(replace(rules, defaults=(("account", "gone"),)), WISH) is not None


def test_jobs_go_where_they_can_run_and_wait_where_none_could() -> None:
    able = replace(OPEN, name="able")
    few = replace(OPEN, offer=FEW)
    large = replace(WISH, ask=replace(SMALL, cpus=9))
    assert usable([few, able], large) == ["able"]
    assert usable([few, able], WISH) == ["c", "able"]
    assert usable([few], large) == ["c"]


# ---- through the API ----

NODE = NodeInventory("n", 64, 256 * 1024, ())


async def two(boss: Caller, app: Any, **fields: Any) -> Puppet:
    """Register a second cluster, on strings as the first."""
    far = Puppet(NodeInventory("far-1", 64, 256 * 1024, ("a100",)))
    app.state.executors._makers["puppet"] = lambda config: far
    await register(boss, "far", kind="puppet", **fields)
    await until(lambda: "far" in app.state.executors and not app.state.executors.problem("far"))
    return far


async def says(caller: Caller, job_id: int, reason: str, word: str = "") -> Json:
    async def found() -> Any:
        job = await caller.job(job_id)
        is_said = (job["status"], job["reason"]) == ("queued", reason)
        return job if is_said and word in job["reason_message"] else None

    job: Json = await until(found, reason)
    return job


async def test_a_job_runs_on_the_cluster_that_it_names_or_on_any_of_its_owners(
    stage: Stage, make_person: Make
) -> None:
    near = Puppet(NODE)
    async with stage(near, scheduler_interval_seconds=0.2) as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        far = await two(boss, app)
        words: Json = {"partition": "gpu", "qos": "high", "gres": "gpu:a100:1,nvme:1"}
        named = await boss.submit(cluster="far", slurm=words)
        run = far.runs[await far.launched(named)]
        assert (run.site, run.gpu_type, run.gpus_per_node) == (
            {"partition": "gpu", "qos": "high", "gres": "nvme:1"},
            "a100",
            1,
        )
        local = await boss.submit(provider="local")
        await near.launched(local)
        large = {await boss.submit(cpu_cores=40) for _ in range(2)}  # one node has room for one
        await until(lambda: all({r.job_id for r in p.runs.values()} & large for p in (near, far)))
        job = await boss.job(named)
    assert (job["cluster"], job["site"]["partition"]) == ("far", "gpu")
    assert job["attempts"][0]["cluster"] == "far"


async def test_what_a_cluster_does_not_take_is_refused_at_the_submit(
    stage: Stage, make_person: Make
) -> None:
    ada = await make_person("ada@lab.edu", group="chem")
    async with stage(Puppet(NODE)) as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        await two(boss, app, deny={"emails": ["*@lab.edu"]})
        caller = Caller(client, ada)
        refused = {}
        bodies: dict[str, Json] = {
            "denied": {"cluster": "far"},
            "nowhere": {"cluster": "nowhere"},
            "words": {"slurm": {"partition": "x"}, "cluster": "local"},
        }
        for name, body in bodies.items():
            answer = await caller.post("/api/jobs", json={"script": "x"} | body)
            refused[name] = answer.status_code, answer.json()
        capped = await boss.post("/api/jobs", json={"script": "x", "cluster": "far", "nodes": 51})
        batch = await caller.post(
            "/api/jobs/batch", json={"jobs": [{"script": "x"}, {"script": "x", "cluster": "far"}]}
        )
        preview = (
            await caller.post("/api/jobs/preview", json={"script": "x", "cluster": "far"})
        ).json()
    assert refused["denied"][0] == batch.status_code == 403
    assert batch.json()["index"] == 1
    assert (preview["accepted"], preview["problem"]["status"]) == (False, 403)
    assert "Yours: local." in refused["nowhere"][1]["detail"]
    assert refused["nowhere"][0] == 404
    assert refused["words"][0] == 409
    assert capped.status_code == 403
    assert (capped.json()["limit_name"], capped.json()["limit"]) == ("nodes", 50)


async def test_what_a_cluster_says_it_could_give_holds_at_every_submit(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet(NODE), scheduler_interval_seconds=0.2) as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        far = await two(boss, app)
        large = {"script": "x", "cluster": "far", "cpu_cores": 9}
        taken = await boss.post("/api/jobs", json=large)  # nothing is known yet
        far.offered = FEW

        async def refused() -> Any:
            answer = await boss.post("/api/jobs/preview", json=large)
            return not answer.json()["accepted"] and answer

        preview = await until(refused, "the refusal")
        answer = await boss.post("/api/jobs", json=large)
        batch = await boss.post("/api/jobs/batch", json={"jobs": [{"script": "x"}, large]})
        elsewhere = await boss.submit(cpu_cores=9)
        small = await boss.submit(cluster="far")
        [(stored,)] = await fetch(database, "SELECT offer FROM clusters WHERE name = 'far'")
        # Another host may be another cluster: what the old one could give counts no more.
        far.offered = None
        await change(boss, "far", host="other.example")
        again = await boss.post("/api/jobs", json=large)
        await far.launched(small)
        job = await boss.job(elsewhere)
    assert taken.status_code == again.status_code == 201
    assert preview.json()["problem"]["status"] == answer.status_code == batch.status_code == 409
    assert answer.json()["errors"][0]["pointer"] == "/cpu_cores"
    assert batch.json()["index"] == 1
    assert read_offer(stored) == FEW
    assert job["attempts"] == [] or job["attempts"][0]["cluster"] == "local"


async def test_rules_that_change_hold_at_the_launch(stage: Stage, make_person: Make) -> None:
    ada = await make_person("ada@lab.edu")
    near = Puppet(NODE)
    async with stage(near) as (app, client):
        boss, caller = Caller(client, await make_person(role=Role.ADMIN)), Caller(client, ada)
        far = await two(boss, app)
        await change(boss, "far", state="drain", reason="upgrade")
        waiting = await caller.submit(cluster="far")
        await says(caller, waiting, "ReqNodeNotAvail", "drained")
        await change(boss, "far", state="up", deny={"users": ["ada@lab.edu"]})
        await says(caller, waiting, "AccountNotAllowed")
        assert far.submits == []
        await change(boss, "far", deny=None)
        await far.launched(waiting)
        await change(boss, "local", deny={"groups": ["default"]})
        anywhere = await caller.submit()  # not there, then
        await far.launched(anywhere)


async def test_a_queue_keeps_its_jobs_to_its_clusters(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet(NODE)) as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        far = await two(boss, app)
        for queue in ("express", "normal", "long"):
            await boss.ask("PATCH", f"/api/queues/{queue}", json={"clusters": ["local"]})
        made = {"name": "remote", "max_estimated_hours": 5, "clusters": ["far"]}
        assert (await boss.post("/api/queues", json=made)).status_code == 201
        unrouted = await boss.post("/api/jobs", json={"script": "x", "cluster": "far"})
        wrong = await boss.post(
            "/api/jobs", json={"script": "x", "cluster": "local", "queue": "remote"}
        )
        await far.launched(await boss.submit(queue="remote"))
    assert (unrouted.status_code, wrong.status_code) == (409, 409)
    assert "far" in unrouted.json()["detail"]
    assert "run on far" in wrong.json()["detail"]


async def test_removing_a_cluster_by_force_ends_its_jobs_as_failed(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(Puppet(NODE)) as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        far = await two(boss, app)
        job = await boss.submit(cluster="far", max_retries=3)
        key = await far.begun(job)
        await boss.until(job, "running")
        assert (await boss.ask("DELETE", "/api/clusters/far")).status_code == 409
        gone = await boss.ask("DELETE", "/api/clusters/far", params={"force": True})
        assert gone.status_code == 204
        ended = await boss.until(job, "failed")
        assert far.seen[key].phase is Phase.RUNNING
        assert (await boss.get("/api/nodes", params={"cluster": "far"})).json()["items"] == []
    assert ended["reason"] == "NodeFail"
    assert "far was removed" in ended["reason_message"]
    assert await fetch(database, "SELECT 1 FROM attempts WHERE ended_at IS NULL") == []


async def test_a_container_reaches_the_run_of_a_shared_account(
    stage: Stage, make_person: Make
) -> None:
    container: Json = {
        "image": "docker://python:3.12",
        "binds": [{"source": "/data/shared", "target": "/data"}],
        "gpus": True,
    }
    async with stage(Puppet(NODE)) as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        images = {"container_images": ["docker://python:*"], "container_binds": {"/data": "ro"}}
        far = await two(boss, app, is_community_account=True, options=images)
        plain = await boss.post("/api/jobs", json={"script": "x", "cluster": "far"})
        other = await boss.post(
            "/api/jobs", json={"script": "x", "container": {"image": "docker://evil"}}
        )
        nowhere = await boss.post(
            "/api/jobs", json={"script": "x", "cluster": "local", "container": container}
        )
        job = await boss.submit(container=container)  # which no other cluster takes
        run = far.runs[await far.launched(job)]
        read = await boss.job(job)
        for wrong in ("python", "docker://", "/a b", "http://x/y", "docker://a;b", "-o"):
            body = {"script": "x", "container": {"image": wrong}}
            assert (await boss.post("/api/jobs", json=body)).status_code == 422, wrong
    assert (plain.status_code, other.status_code, nowhere.status_code) == (409, 409, 409)
    assert run.container == Container(
        "docker://python:3.12", (Bind("/data/shared", "/data"),), gpus=True
    )
    assert read["container"]["binds"][0]["writable"] is False

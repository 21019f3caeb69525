"""Containers of jobs, as clients ask for them: what is stored, launched, shown and refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from queueapi.auth.models import Role
from queueapi.executors.base import Bind, Container, NodeInventory
from queueapi.jobs.schemas import JobSubmission
from tests.clusters.test_clusters import register
from tests.jobs.test_slurm_words import Make
from tests.staging import Caller, Json, Puppet, Stage, until

IMAGE = "/images/python.sif"
NODE = NodeInventory("n", 64, 256 * 1024, ("a100",))


def job(container: Json, **fields: Any) -> JobSubmission:
    return JobSubmission.model_validate({"container": {"image": IMAGE} | container} | fields)


def refused(container: Json, **fields: Any) -> set[str]:
    """The places that the refusal names."""
    with pytest.raises(ValidationError) as error:
        job(container, **fields)
    return {".".join(map(str, line["loc"])) for line in error.value.errors()}


def test_a_command_is_the_script() -> None:
    found = job({"command": ["python3", "-c", "print('a b')"]})
    assert found.script == "#!/bin/sh\nexec python3 -c 'print('\"'\"'a b'\"'\"')'\n"


def test_one_of_script_and_command_is_needed_and_not_both() -> None:
    assert refused({}) == {"script"}
    assert refused({"command": ["a"]}, script="b") == {"container"}
    assert refused({"command": []}) == {"container.command"}
    assert refused({"command": ["a\0"]}) == {"container.command.0"}
    assert refused({"command": ["x" * 32_768] * 33}) == {"container"}


def test_its_variables_are_the_jobs() -> None:
    found = job({"env": {"A": "1", "B": "2"}}, script="x", env={"B": "2", "C": "3"})
    assert found.env == {"A": "1", "B": "2", "C": "3"}
    assert refused({"env": {"A": "1"}}, script="x", env={"A": "2"}) == {"container"}
    assert refused({"env": {"IFS": "1"}}, script="x") == {"container.env"}


@pytest.mark.parametrize(
    "image",
    ["", "python", "images/x.sif", "--help", "/a b", "/a,b", "/a:b", "http://x/y", "docker://a b",
     "docker://", "/a\n", "/" + "a" * 500, None, 1],
)  # fmt: skip
def test_an_image_that_is_none_is_refused(image: Any) -> None:
    assert refused({"image": image}, script="x") == {"container.image"}


@pytest.mark.parametrize("path", ["", "a", "/a b", "/a:/b", "/a,b", "/", "/a/", "//a", "/a\0"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    for source, target, name in ((path, "/x", "source"), ("/x", path, "target")):
        found = refused({"binds": [{"source": source, "target": target}]}, script="x")
        assert found == {f"container.binds.0.{name}"}


def test_an_unknown_field_is_refused() -> None:
    assert refused({"privileged": True}, script="x") == {"container.privileged"}


async def test_a_container_job_goes_where_containers_run(stage: Stage, make_person: Make) -> None:
    near, far = Puppet(NODE), Puppet(NodeInventory("far-1", 64, 256 * 1024, ("a100",)))
    async with stage(near, scheduler_interval_seconds=0.2) as (app, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        asked: Json = {"image": IMAGE, "binds": [{"source": "/maps", "target": "/m"}]}
        refusal = await boss.post("/api/jobs", json={"script": "x", "container": asked})
        assert refusal.status_code == 409
        assert "does not run containers" in refusal.json()["detail"]
        app.state.executors._makers["puppet"] = lambda config: far
        options = {"container_images": ["/images/*.sif"]}
        await register(boss, "far", kind="puppet", is_community_account=True, options=options)
        await until(lambda: "far" in app.state.executors)
        ids = [await boss.submit(container=asked, gpu_count=count) for count in (0, 1)]
        array = await boss.submit(container=asked | {"gpus": True}, array="0-1")
        runs = [far.runs[await far.launched(each)] for each in ids]
        plain = await boss.submit()
        await near.launched(plain)
        answer = await boss.job(ids[0])
        tasks = await until(lambda: [r for r in far.runs.values() if r.array_task])
        assert array
    binds = (Bind("/maps", "/m"),)
    assert [run.container for run in runs] == [
        Container(IMAGE, binds, gpus=False), Container(IMAGE, binds, gpus=True),
    ]  # fmt: skip
    assert tasks[0].container == Container(IMAGE, binds, gpus=True)
    assert answer["container"] == asked | {
        "binds": [{"source": "/maps", "target": "/m", "writable": False}], "gpus": None,
    }  # fmt: skip
    assert all(run.container is None for run in near.runs.values())

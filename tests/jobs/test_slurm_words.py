"""What a job needs, in Slurm's words: they mean what our own fields mean, or are refused."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from queueapi.auth.models import Role
from queueapi.jobs.directives import warnings
from queueapi.jobs.schemas import JobSubmission
from tests.staging import Caller, Json, Puppet, Stage

Make = Callable[..., Any]


def job(slurm: Json, **fields: Any) -> JobSubmission:
    return JobSubmission.model_validate({"script": "x", "slurm": slurm} | fields)


def refused(slurm: Json, **fields: Any) -> set[str]:
    """The places that the refusal names."""
    with pytest.raises(ValidationError) as error:
        job(slurm, **fields)
    return {".".join(map(str, line["loc"])) for line in error.value.errors()}


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (90, 5400), (0.5, 30), ("90", 5400), ("90:30", 5430), ("01:30:00", 5400),
        ("1:30:15", 5415), ("2-0", 2 * 86_400), ("1-12:30", 131_400), ("1-00:00:01", 86_401),
        (" 10 ", 600), (8760 * 60, 8760 * 3600),
    ],
)  # fmt: skip
def test_times_are_slurms(time: Any, seconds: int) -> None:
    assert job({"time": time}).time_limit == seconds


@pytest.mark.parametrize(
    "time",
    [0, -1, "", "UNLIMITED", "1h", "1:2:3:4", "-5", "1-", "1e3", True, [], 8760 * 60 + 1, "0:00",
     float("nan"), "９０", "1-2-3", "0-00:00:00"],
)  # fmt: skip
def test_times_that_are_none_are_refused(time: Any) -> None:
    assert refused({"time": time}) == {"slurm.time"}


@pytest.mark.parametrize(
    ("size", "mb"),
    [("10G", 10_240), ("512M", 512), ("512", 512), (512, 512), ("1.5g", 1536), ("2048K", 2),
     ("1T", 1024**2), ("4GB", 4096), ("4 GiB", 4096)],
)  # fmt: skip
def test_sizes_are_slurms(size: Any, mb: int) -> None:
    assert job({"memory": size}).needs.memory_mb == mb


@pytest.mark.parametrize("size", ["", "0", "-1G", "10X", "G", "1e9", True, "100T", None, [], "1 0"])
def test_sizes_that_are_none_are_refused(size: Any) -> None:
    if size is None:
        assert job({"memory": size}).needs.memory_mb == 4096  # as if it were absent
    else:
        assert refused({"memory": size}) == {"slurm.memory"}


def test_all_words_of_cybergis_mean_our_fields() -> None:
    words = {"num_of_node": 2, "num_of_task": 4, "cpu_per_task": 3, "memory_per_cpu": "2G"}
    ours: Json = {"nodes": 2, "tasks": 4, "cpus_per_task": 3, "memory_per_cpu_gb": 2}
    for name in ("gpu_per_task", "gpus_per_task"):
        theirs = job(words | {name: 1, "time": 60})
        own = JobSubmission.model_validate(
            {"script": "x", "gpus_per_task": 1, "estimated_hours": 1} | ours
        )
        assert theirs.needs == own.needs
        assert theirs.time_limit == own.time_limit == 3600
    assert theirs.needs.cpus == 6
    assert theirs.needs.memory_mb == 12 * 1024


def test_memory_may_be_said_for_each_gpu() -> None:
    assert job({"memory_per_gpu": "8G", "gpus_per_node": 2}).needs.memory_mb == 16 * 1024
    assert job({}, memory_per_gpu_gb=4, gpu_count=3).needs.memory_mb == 12 * 1024
    assert refused({"memory_per_gpu": "8G"}) == {"slurm.memory_per_gpu"}
    assert refused({}, memory_per_gpu_gb=2048, gpu_count=64) == {"memory_per_gpu_gb"}


@pytest.mark.parametrize(
    ("gres", "gpus", "gpu_type", "rest"),
    [
        ("gpu", 1, None, None), ("gpu:2", 2, None, None), ("gpu:A100:2", 2, "a100", None),
        ("gpu:a100", 1, "a100", None), ("nvme:1", 0, None, {"gres": "nvme:1"}),
        ("gpu:v100=3,nvme:1", 3, "v100", {"gres": "nvme:1"}),
    ],
)  # fmt: skip
def test_gpus_of_gres_are_ours_and_the_rest_is_the_clusters(
    gres: str, gpus: int, gpu_type: str | None, rest: Json | None
) -> None:
    found = job({"gres": gres})
    assert (found.needs.gpus, found.gpu_type, found.site) == (gpus, gpu_type, rest)


@pytest.mark.parametrize(
    ("slurm", "fields", "places"),
    [
        ({"num_of_node": 2}, {"nodes": 3}, {"nodes", "slurm.num_of_node"}),
        ({"time": 60}, {"estimated_hours": 2}, {"estimated_hours", "slurm.time"}),
        ({"memory": "2G"}, {"memory_gb": 4}, {"memory_gb", "slurm.memory"}),
        ({"memory": "2G", "memory_per_cpu": "1G"}, {}, {"slurm.memory", "slurm.memory_per_cpu"}),
        ({"memory_per_cpu": "1G"}, {"memory_gb": 4}, {"memory_gb", "slurm.memory_per_cpu"}),
        ({"gpu_per_task": 1, "gpus_per_task": 2}, {},
         {"slurm.gpu_per_task", "slurm.gpus_per_task"}),
        ({"gres": "gpu:2"}, {"gpu_count": 2}, {"gpu_count", "slurm.gres"}),
        ({"gres": "gpu:2", "gpus_per_node": 1}, {}, {"slurm.gres", "slurm.gpus_per_node"}),
        ({"num_of_node": 4, "num_of_task": 2}, {}, {"slurm.num_of_node", "slurm.num_of_task"}),
        ({"constraint": "a"}, {"constraint": "b"}, {"constraint", "slurm.constraint"}),
        ({"cpu_per_task": 4}, {"cpu_cores": 2}, {"cpu_cores", "slurm.cpu_per_task"}),
    ],
)  # fmt: skip
def test_contradictions_are_refused_by_their_names(
    slurm: Json, fields: Json, places: set[str]
) -> None:
    assert refused(slurm, **fields) == places


def test_saying_the_same_twice_is_no_contradiction() -> None:
    found = job({"num_of_node": 2, "time": "1:30:00"}, nodes=2, estimated_hours=1.5)
    assert (found.needs.nodes, found.time_limit) == (2, 5400)


@pytest.mark.parametrize(
    "slurm",
    [
        {"partition": "-x"}, {"partition": "a b"}, {"partition": "a\n#SBATCH x"}, {"qos": ""},
        {"account": "$(id)"}, {"account": "a" * 101}, {"gres": "gpu:2;id"}, {"gres": "gpu:-1"},
        {"gres": "gpu:1,gpu:2"}, {"gres": "gpu::"}, {"num_of_node": 0}, {"num_of_node": "2"},
        {"num_of_task": 1.5}, {"cpu_per_task": -1}, {"gpu_per_task": 65}, {"mem": "1G"},
        {"constraint": "a*2"}, {"qos": "é"},
    ],
)  # fmt: skip
def test_words_that_could_be_read_as_others_are_refused(slurm: Json) -> None:
    [word] = slurm
    assert refused(slurm) == {f"slurm.{word}"}


@given(st.dictionaries(st.sampled_from(["time", "memory", "gres", "partition"]), st.text()))
def test_whatever_is_written_is_taken_or_refused_in_its_place(slurm: dict[str, str]) -> None:
    try:
        found = job(slurm)
    except ValidationError as error:
        assert all(line["loc"][0] == "slurm" for line in error.errors())
    else:
        for word in (found.site or {}).values():
            assert word.isascii() and word.isprintable() and not word.startswith("-")


def test_a_directive_is_named_and_a_comment_like_it_is_not() -> None:
    [one] = warnings("#!/bin/sh\n#SBATCH --mem=1G\ntrue\n")
    assert "(line 2)" in one
    [many] = warnings("#SBATCH -N 1\n" * 9)
    assert "(lines 1, 2, 3, 4, 5, ...)" in many
    for script in ("", "true", "# SBATCH x", "##SBATCH", "echo '\\n#SBATCHED'", "x #SBATCH y"):
        assert warnings(script) == []


async def test_the_answer_to_a_submit_says_that_directives_have_no_effect(
    stage: Stage, make_person: Make
) -> None:
    script = "#!/bin/sh\n#SBATCH --mem=100G\ntrue\n"
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person(role=Role.ADMIN))
        body = {"script": script}
        made = (await caller.post("/api/jobs", json=body, headers={"Idempotency-Key": "k"})).json()
        again = (await caller.post("/api/jobs", json=body, headers={"Idempotency-Key": "k"})).json()
        read = await caller.job(made["id"])
        jobs = [{"script": "true"}, body]
        batch = (await caller.post("/api/jobs/batch", json={"jobs": jobs})).json()
        preview = (await caller.post("/api/jobs/preview", json=body)).json()
    assert "#SBATCH" in made["warnings"][0]
    assert read["warnings"] == preview["warnings"] == again["warnings"] == made["warnings"]
    assert batch["warnings"] == [{"index": 1, "warnings": made["warnings"]}]
    assert made["memory_gb"] == 4

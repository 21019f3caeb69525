"""An admin registers a cluster and users ask by curl: the whole way to a real Slurm."""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queueapi.auth.models import Role
from tests.controller.serving import Server
from tests.files.archives import tar_gz
from tests.people import Person
from tests.slurm.lab import Lab
from tests.staging import until

Make = Callable[..., Any]
Json = dict[str, Any]


@dataclass
class Curl:
    """What a person asks of a server by curl."""

    url: str
    person: Person

    async def __call__(self, path: str, *options: str, body: Json | None = None) -> str:
        data = ("-H", "Content-Type: application/json", "-d", json.dumps(body)) if body else ()
        process = await asyncio.create_subprocess_exec(
            "curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60",
            "-H", f"Authorization: {self.person.headers['Authorization']}",
            *data, *options, f"{self.url}{path}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        stdout, stderr = await process.communicate()
        assert process.returncode == 0, (stdout, stderr)
        return stdout.decode()

    async def ask(self, path: str, *options: str, body: Json | None = None) -> Any:
        return json.loads(await self(path, *options, body=body))

    async def submit(self, script: str, **fields: Any) -> int:
        body = {"script": script, "memory_gb": 0.25, "queue": "slurm", **fields}
        return int((await self.ask("/api/jobs", body=body))["id"])

    async def until(self, job_id: int, status: str) -> Json:
        """Long-polls until the job is in that state."""
        job: Json = {}

        async def there() -> bool:
            nonlocal job
            job = await self.ask(f"/api/jobs/{job_id}?wait=5")
            return bool(job["status"] == status)

        await until(there, f"{status}: {job}")
        return job


async def register(boss: Curl, lab: Lab, root: Path, **fields: Any) -> None:
    """The lab as a cluster, and a queue whose jobs go there."""
    cluster: Json = {
        "name": "lab",
        "kind": "slurm",
        "host": lab.ssh_host,
        "port": lab.ssh_port,
        "login": lab.user,
        "private_key": lab.ssh_key.read_text(),
        "host_keys": [lab.host_key],
        "root_path": str(root),
        "options": {"poll_seconds": 0.3, "poll_seconds_most": 1.0},
        **fields,
    }
    await boss.ask("/api/clusters", body=cluster)

    async def has_nodes() -> bool:
        return len((await boss.ask("/api/nodes?cluster=lab"))["items"]) == 4

    await until(has_nodes, "the nodes of the cluster")
    queue = {"name": "slurm", "max_estimated_hours": 24, "clusters": ["lab"]}
    await boss.ask("/api/queues", body=queue)


async def test_from_the_registration_to_a_finished_job_a_followed_log_and_a_cancel(
    server: Server, make_person: Make, slurm_lab: Lab, root: Path
) -> None:
    boss = Curl(server.url, await make_person(role=Role.ADMIN))
    ann = Curl(server.url, await make_person())
    await register(boss, slurm_lab, root)
    tested = await boss.ask("/api/clusters/lab/test", "-X", "POST")
    assert all(check["ok"] for check in tested["checks"]), tested
    plain = await ann.submit("#SBATCH --account=thieves\nhostname; echo out; echo err >&2\n")
    gpu = await ann.submit("echo gpus: $CUDA_VISIBLE_DEVICES\n", gpu_count=1, gpu_type="v100")
    bad = await ann.submit("exit 7\n")
    live = await ann.submit("for i in 1 2 3; do echo line $i; sleep 0.3; done; sleep 300\n")
    done = await ann.until(plain, "completed")
    assert done["exit_code"] == 0 and done["attempts"][0]["cluster"] == "lab"
    assert (await ann(f"/api/jobs/{plain}/logs")).endswith("out\n")
    await ann.until(gpu, "completed")
    assert await ann(f"/api/jobs/{gpu}/logs") == "gpus: 0\n"
    assert (await ann.until(bad, "failed"))["exit_code"] == 7
    await ann.until(live, "running")
    followed = asyncio.create_task(ann(f"/api/jobs/{live}/logs?follow=true", "-N"))
    await asyncio.sleep(1.5)
    await ann.ask(f"/api/jobs/{live}", "-X", "DELETE")
    assert (await ann.until(live, "cancelled"))["reason"] == "Cancelled"
    assert "line 3" in await followed


async def test_what_can_never_run_there_is_refused_at_the_submit(
    server: Server, make_person: Make, slurm_lab: Lab, root: Path
) -> None:
    boss = Curl(server.url, await make_person(role=Role.ADMIN))
    await register(boss, slurm_lab, root)
    asks: tuple[tuple[Json, str], ...] = (
        ({"cpu_cores": 9}, "no nodes with 9 CPUs, and the job needs 1 (the largest has 8 CPUs)"),
        ({"gpu_count": 1, "gpu_type": "h100"}, "h100"),
        ({"constraint": "ib&slow"}, "ib&slow"),
        ({"nodes": 5}, "has 4 nodes, and the job needs 5"),
        ({"nodes": 3, "estimated_hours": 0.1, "slurm": {"partition": "short"}}, "2 nodes at most"),
        ({"estimated_hours": 0.5, "slurm": {"partition": "short"}}, "10 minutes at most"),
        ({"slurm": {"partition": "night"}}, "no partition night"),
        ({"slurm": {"account": "thieves"}}, "no account thieves"),
        ({"slurm": {"qos": "urgent"}}, "no QOS urgent"),
        ({"slurm": {"gres": "nvme:1"}}, "resource nvme"),
    )
    for ask, words in asks:
        body = {"script": "true", "memory_gb": 0.25, "queue": "slurm", **ask}

        async def refused(body: Json = body) -> Any:
            seen = await boss.ask("/api/jobs/preview", body=body)
            return seen.get("problem")  # once the cluster has told what it has

        problem = await until(refused, words)
        assert problem["status"] == 409 and words in problem["detail"], problem
    assert (await boss.ask("/api/jobs"))["jobs"] == []


async def test_code_that_was_uploaded_runs_there(
    server: Server, make_person: Make, slurm_lab: Lab, root: Path, tmp_path: Path
) -> None:
    boss = Curl(server.url, await make_person(role=Role.ADMIN))
    ann = Curl(server.url, await make_person())
    await register(boss, slurm_lab, root)
    archive = tmp_path / "project.tar.gz"
    archive.write_bytes(tar_gz({"main.sh": "echo it is $1\n", "lib/data": os.urandom(3 << 20)}))
    upload = ("--data-binary", f"@{archive}", "-H", "Content-Type: application/gzip")
    folder = await ann.ask("/api/folders?name=project", *upload)
    assert (await ann.ask("/api/folders", *upload))["id"] == folder["id"]
    script = 'wc -c <"$QUEUEAPI_EXECUTABLE/lib/data"; sh "$QUEUEAPI_EXECUTABLE/main.sh" well\n'
    jobs = [await ann.submit(script, executable=folder["ref"]) for _ in range(3)]
    for job_id in jobs:
        done = await ann.until(job_id, "completed")
        assert done["executable"] == folder["ref"]
        assert await ann(f"/api/jobs/{job_id}/logs") == f"{3 << 20}\nit is well\n"
    assert [path.name for path in (root / ".folders").iterdir()] == [folder["digest"]]


async def test_a_server_that_is_killed_finds_its_slurm_jobs_again(
    server: Server, make_person: Make, slurm_lab: Lab, root: Path
) -> None:
    boss = Curl(server.url, await make_person(role=Role.ADMIN))
    ann = Curl(server.url, await make_person())
    await register(boss, slurm_lab, root)
    marks = root.parent / "marks"
    script = f"echo x >>{marks}; sleep 4; exit 5\n"
    jobs = [await ann.submit(script) for _ in range(5)]
    await ann.until(jobs[0], "running")
    server.kill()
    await server.start()
    for job_id in jobs:
        job = await ann.until(job_id, "failed")
        assert (job["exit_code"], len(job["attempts"])) == (5, 1)
    assert marks.read_text() == "x\n" * len(jobs)
    marks.unlink()

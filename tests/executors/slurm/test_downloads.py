"""The server dies in the middle of a download: of a job's data, and of its results."""

import asyncio
import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from queueapi.auth.models import Role
from tests.controller.serving import Server
from tests.executors.slurm.test_server import Curl, register
from tests.executors.web import Slow, Web
from tests.slurm.lab import Lab
from tests.staging import until

Make = Callable[..., Any]
SIZE = 40_000_000
LARGE = (
    f'head -c {SIZE} /dev/urandom >"$QUEUEAPI_RESULT/large"; sha256sum <"$QUEUEAPI_RESULT/large"'
)


async def test_the_fetch_of_a_jobs_data_goes_on_without_the_server(
    server: Server, make_person: Make, slurm_lab: Lab, root: Path, web: Web
) -> None:
    boss = Curl(server.url, await make_person(role=Role.ADMIN))
    ann = Curl(server.url, await make_person())
    await register(boss, slurm_lab, root)
    options: dict[str, Any] = {"poll_seconds": 0.3, "poll_seconds_most": 1.0}
    options |= {"data_hosts": [web.address], "data_ca_file": str(web.ca_file)}
    await boss.ask("/api/clusters/lab", "-X", "PATCH", body={"options": options})
    slow = Slow(b"first ", b"rest\n")
    web.answers["/slow"] = slow
    data = {"target": f"{web.url}/slow"}
    job_id = await ann.submit("cat $QUEUEAPI_DATA/slow", data=data)
    await until(slow.begun.is_set, "the fetch")
    server.kill()
    slow.go.set()
    await until(lambda: list(root.glob("qa-*/exit")), "the end of the job, without the server")
    await server.start()
    job = await ann.until(job_id, "completed")
    assert len(job["attempts"]) == 1
    assert await ann(f"/api/jobs/{job_id}/logs") == "first rest\n"
    assert web.asked.count("/slow") == 1
    events = (await ann.ask(f"/api/jobs/{job_id}/events"))["events"]
    assert [e["kind"] for e in events].count("ended") == 1


async def test_a_client_goes_on_where_its_download_broke_off(
    server: Server, make_person: Make, slurm_lab: Lab, root: Path, tmp_path: Path
) -> None:
    boss = Curl(server.url, await make_person(role=Role.ADMIN))
    ann = Curl(server.url, await make_person())
    await register(boss, slurm_lab, root)
    job_id = await ann.submit(LARGE)
    await ann.until(job_id, "completed")
    digest = (await ann(f"/api/jobs/{job_id}/logs")).split()[0]
    file, tar = tmp_path / "large", tmp_path / "result.tar"
    path = f"/api/jobs/{job_id}/files/result/large"
    downloads = [
        asyncio.create_task(ann(path, "-o", str(file), "--limit-rate", "4M")),
        asyncio.create_task(
            ann(f"/api/jobs/{job_id}/result", "-o", str(tar), "--limit-rate", "4M")
        ),
    ]
    await until(lambda: all(p.exists() and p.stat().st_size > 1 << 20 for p in (file, tar)))
    server.kill()
    for download in downloads:  # curl says that it was cut off
        with pytest.raises(AssertionError, match=r"transfer closed|reset by peer|unexpected"):
            await download
    assert 0 < file.stat().st_size < SIZE
    with pytest.raises(tarfile.ReadError, match="unexpected end of data"), tarfile.open(tar) as cut:
        cut.extractall(tmp_path / "cut", filter="data")
    await server.start()
    await ann(path, "-o", str(file), "--continue-at", "-")
    assert file.stat().st_size == SIZE
    assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
    await ann(f"/api/jobs/{job_id}/result", "-o", str(tar))
    with tarfile.open(tar) as whole:
        member = whole.extractfile("large")
        assert member is not None
        assert hashlib.sha256(member.read()).hexdigest() == digest

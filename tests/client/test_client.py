"""Both clients against a server that runs, over a network that does not always."""

import io
import socket
import tarfile
from typing import Any

import pytest

from queueapi.client import AsyncClient, Client, NotAQueueApi, QueueApiError, ServerUnreachable
from tests.cli.server import PASSWORD, Server, until
from tests.client.conftest import EMAIL
from tests.client.proxy import Proxy


def test_journey(sdk: Client) -> None:
    job = sdk.submit("echo out; echo err >&2", name="j", cpu_cores=2, memory_gb=0.25)
    assert (job.name, job.cpu_cores, job.status) == ("j", 2, "queued")
    done = sdk.wait(job.id, timeout=60)
    assert (done.status, done.exit_code, done.stdout_tail) == ("completed", 0, "out\n")
    assert sdk.logs(job.id, "stderr").data == b"err\n"
    part = sdk.logs(job.id, offset=1, limit=2)
    assert (part.data, part.offset, part.size) == (b"ut", 1, 4)
    assert sdk.events(job.id)[0].kind == "submitted"
    assert b"".join(c.data for c in sdk.follow_logs(job.id, offset=2)) == b"t\n"
    assert sdk.me().user.email == EMAIL
    assert [g.name for g in sdk.groups()] == ["default"]


def test_control(sdk: Client) -> None:
    first = sdk.submit("sleep 600", cpu_cores=8, memory_gb=0.25)
    second = sdk.submit("true", cpu_cores=8, memory_gb=0.25)
    assert sdk.hold(second.id).held
    held = sdk.get(second.id)
    assert sdk.set_priority(second.id, 5, version=held.version).priority == 5
    with pytest.raises(QueueApiError) as refused:
        sdk.set_priority(second.id, 6, version=held.version)
    assert refused.value.status == 412
    assert not sdk.release(second.id).held
    # The scheduler hears of it a moment later.
    until(lambda: [entry.job_id for entry in sdk.queue().entries] == [second.id])
    with pytest.raises(TimeoutError, match=r"after 0\.2 seconds"):
        sdk.wait(first.id, timeout=0.2)
    sdk.suspend(first.id)
    until(lambda: sdk.suspend(first.id).status == "suspended")  # the repetition is no harm
    sdk.resume(first.id)
    until(lambda: sdk.get(first.id).status == "running")
    sdk.cancel(first.id)
    assert sdk.wait(first.id).status == "cancelled"
    assert sdk.wait(second.id).status == "completed"
    assert sdk.requeue(second.id).status == "queued"
    assert len(sdk.wait(second.id).attempts) == 2


def test_preview(sdk: Client) -> None:
    found = sdk.preview("true", cpu_cores=2, estimated_hours=0.5)
    assert (found.accepted, found.problem, found.cpu_minutes) == (True, None, 60)
    assert found.quota is not None and found.quota.quota_cpu_minutes > 0
    refused = sdk.preview("true", cpu_cores=97)
    assert refused.problem is not None
    assert (refused.accepted, refused.problem.status) == (False, 403)
    assert refused.problem.model_dump()["limit_name"] == "cpu_cores"


def test_workflows(sdk: Client) -> None:
    jobs: list[dict[str, Any]] = [
        {"label": "a", "script": "exit 1"},
        {"label": "b", "script": "true", "waits_for": [{"label": "a"}]},
        {"label": "c", "script": "true", "waits_for": [{"label": "a", "kind": "afterany"}]},
    ]
    workflow = sdk.submit_workflow(jobs, "three", idempotency_key="w1")
    assert sdk.submit_workflow(jobs, "three", idempotency_key="w1").id == workflow.id
    assert sdk.wait(workflow.ids["c"], timeout=60).status == "completed"
    done = sdk.get_workflow(workflow.id)
    assert (done.status, done.ended, done.counts.cancelled) == ("failed", True, 1)
    assert done.jobs[1].reason == "DependencyNeverSatisfied"
    assert next(iter(sdk.workflows())).id == workflow.id
    with pytest.raises(QueueApiError, match="nothing to cancel"):
        sdk.cancel_workflow(workflow.id)
    follower = sdk.submit("true", depends_on=[{"job_id": workflow.ids["c"], "kind": "after"}])
    assert sdk.wait(follower.id, timeout=60).depends_on[0].state == "satisfied"


def test_queues(sdk: Client) -> None:
    assert [queue.name for queue in sdk.queues()] == ["express", "normal", "long"]
    express = sdk.get_queue("express")
    assert (express.state, express.max_estimated_hours, express.groups) == ("up", 5 / 60, None)
    assert sdk.submit("true", estimated_hours=0.01).queue == "express"
    assert [job.queue for job in sdk.list(queue="express", limit=1)] == ["express"]
    for refused in (
        lambda: sdk.create_queue("gpu", 48, is_routed=True),
        lambda: sdk.change_queue("express", state="down"),
        lambda: sdk.delete_queue("express"),
    ):
        with pytest.raises(QueueApiError, match="Only administrators"):
            refused()


def test_arrays(sdk: Client) -> None:
    array = sdk.submit("echo $QUEUEAPI_ARRAY_TASK_ID", array="3-5", memory_gb=0.1)
    assert array.array is not None and array.array.tasks.queued == 3
    assert sdk.wait(array.id).status == "completed"
    assert [task.array_index for task in sdk.tasks(array.id, limit=2)] == [3, 4, 5]
    assert [task.array_index for task in sdk.tasks(array.id, indices="4-9")] == [4, 5]
    assert sdk.logs(sdk.task(array.id, 4).id).data == b"4\n"
    assert sdk.requeue(array.id, "4").status == "running"
    done = sdk.wait(array.id)
    assert done.array is not None and done.array.tasks.completed == 3


def test_files(sdk: Client) -> None:
    job = sdk.submit("echo text >out; echo more >$QUEUEAPI_RESULT/more")
    sdk.wait(job.id, 60)
    assert [file.path for file in sdk.files(job.id)] == ["work", "result"]
    assert [file.size for file in sdk.files(job.id, "work")] == [5]
    assert b"".join(sdk.read_file(job.id, "work/out")) == b"text\n"
    with tarfile.open(fileobj=io.BytesIO(b"".join(sdk.read_result(job.id)))) as tar:
        assert tar.getnames() == ["more"]
    with pytest.raises(QueueApiError) as error:
        list(sdk.read_file(job.id, "work/nothing"))
    assert error.value.status == 404


def test_list_goes_through_all_pages(sdk: Client) -> None:
    ids = sdk.submit_many([{"script": "true", "tags": ["many"], "memory_gb": 0.1}] * 7)
    found = [job.id for job in sdk.list(tag="many", limit=3)]
    assert found == sorted(ids, reverse=True)
    for job_id in ids:
        sdk.wait(job_id)


def test_errors_carry_the_problem_document(sdk: Client) -> None:
    with pytest.raises(QueueApiError) as refused:
        sdk.submit("true", cpu_cores=0, colour="red")
    error = refused.value
    assert (error.status, error.type) == (422, "/problems/invalid")
    assert {field.pointer for field in error.errors} == {"/cpu_cores", "/colour"}
    assert error.title and error.detail and error.instance


def test_lost_answer_gives_one_job(server: Server, token: str, proxy: Proxy) -> None:
    proxy.swallow = 2
    with Client(proxy.url, token) as client:
        job = client.submit("true", tags=["once"])
    assert proxy.connections == 3
    with Client(server.url, token) as client:
        assert [found.id for found in client.list(tag="once")] == [job.id]
        client.wait(job.id)


def test_what_may_not_be_repeated_is_not(sdk: Client, token: str, proxy: Proxy) -> None:
    job = sdk.submit("true", cpu_cores=1)
    sdk.wait(job.id)
    proxy.swallow = 1
    with Client(proxy.url, token) as client, pytest.raises(ServerUnreachable):
        client.requeue(job.id)
    assert proxy.connections == 1
    assert len(sdk.wait(job.id).attempts) == 2


def test_following_survives_cuts(sdk: Client, token: str, proxy: Proxy) -> None:
    job = sdk.submit("for i in 1 2 3 4 5 6; do echo $i é; sleep 0.2; done")
    proxy.cut_after = [2**30, 400, 2**30, 450, 2**30, 500]  # each stream, and the look after it
    with Client(proxy.url, token) as client:
        chunks = list(client.follow_logs(job.id))
    expected = "".join(f"{i} é\n" for i in range(1, 7)).encode()
    assert b"".join(chunk.data for chunk in chunks) == expected
    assert [c.offset for c in chunks] == sorted(c.offset for c in chunks)
    assert proxy.connections > 2


def test_refused_token_is_renewed(server: Server, token: str) -> None:
    asked: list[str | None] = []

    def renew(refused: str | None) -> str | None:
        asked.append(refused)
        return token

    with Client(server.url, "qa_old", renew=renew) as client:
        assert client.me().user.email == EMAIL
        client.me()
    assert asked == ["qa_old"]
    with Client(server.url, "qa_old", renew=lambda refused: "qa_older") as client:
        with pytest.raises(QueueApiError) as refused:
            list(client.follow_logs(1))
        assert refused.value.status == 401


def test_login_and_refresh(server: Server) -> None:
    with Client(server.url) as client:
        pair = client.login(EMAIL, PASSWORD)
        renewed = client.refresh(pair.refresh_token)
        assert client.token == renewed.token != pair.token
        client.logout()
        with pytest.raises(QueueApiError, match="Log in"):
            client.me()


def test_nobody_there() -> None:
    lonely = Client("http://127.0.0.1:1", "qa_x", patience=0.3)
    with lonely as client, pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
        client.me()
    for address in ("127.0.0.1", "ftp://host", "http://"):
        with pytest.raises(ValueError, match="is not an address"):
            Client(address)


def test_somebody_else_there(server: Server, token: str) -> None:
    with Client(server.url + "/docs?", token) as client, pytest.raises(NotAQueueApi):
        client.me()


async def test_async_client(server: Server, token: str, proxy: Proxy) -> None:
    proxy.swallow = 1
    async with AsyncClient(proxy.url, token) as sdk:
        job = await sdk.submit("echo one; sleep 0.3; echo two", memory_gb=0.25)
        data = [chunk.data async for chunk in sdk.follow_logs(job.id)]
        assert b"".join(data) == b"one\ntwo\n"
        assert (await sdk.wait(job.id)).status == "completed"
        assert (await sdk.preview("true")).accepted
        assert job.id in [found.id async for found in sdk.list()]
        assert [file.path async for file in sdk.files(job.id)] == ["work", "result"]
        assert b"".join([part async for part in sdk.read_result(job.id)]) == bytes(1024)
        with pytest.raises(QueueApiError) as refused:
            await sdk.get(999_999)
        assert refused.value.status == 404


async def test_async_client_renews(server: Server, token: str) -> None:
    async def renew(refused: str | None) -> str | None:
        return token

    async with AsyncClient(server.url, renew=renew) as sdk:
        assert (await sdk.me()).user.email == EMAIL
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url: Any = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with AsyncClient(url, patience=0.2) as sdk:
            with pytest.raises(ServerUnreachable):
                await sdk.me()

"""Servers that do not lead answer all the same: they ask the one that does. Only servers can."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from queueapi.auth.models import Role
from queueapi.config import ConfigurationError, Settings
from queueapi.controller.leadership import LEADER_LOCK
from queueapi.db.session import Database
from queueapi.errors import Unavailable
from queueapi.servers.answers import DIGEST, NONCE, SIGNATURE, Answers
from queueapi.servers.peers import Peers
from queueapi.servers.questions import Peer, Question
from queueapi.servers.seal import Seal, digest_of
from tests.staging import NODE, Caller, Puppet, Stage, fetch, until

Make = Callable[..., Any]
ECHO = Question("echo", TypeAdapter(str), TypeAdapter(str))


@asynccontextmanager
async def leader_and_follower(stage: Stage, person: Any) -> AsyncIterator[tuple[Caller, Caller]]:
    async with stage(Puppet(NODE)) as (first, one):
        await until(lambda: first.state.queue.leads, "the lead")
        async with stage(Puppet(NODE)) as (second, other):
            view = second.state.controller.view
            await until(lambda: view.follows and view.leader, "a leader that can be asked")
            yield Caller(one, person), Caller(other, person)


async def test_any_server_answers_what_the_leader_knows(stage: Stage, make_person: Make) -> None:
    ada = await make_person(role=Role.ADMIN)
    async with leader_and_follower(stage, ada) as (leader, follower):
        for _ in range(3):
            job_id = await follower.submit(gpu_type="h100", cpu_cores=2)

        async def is_ranked() -> bool:
            return bool((await leader.job(job_id))["position"] == 3)

        await until(is_ranked, "the last place")
        for path in (f"/api/jobs/{job_id}", "/api/nodes", "/api/nodes/local/stage"):
            answers = [await caller.get(path) for caller in (leader, follower)]
            assert [a.status_code for a in answers] == [200, 200], answers[1].text
            assert answers[0].json() == answers[1].json(), path
        lists = [(await caller.get("/api/jobs")).json()["jobs"] for caller in (leader, follower)]
        assert lists[0] == lists[1]
        assert {job["reason"] for job in lists[1]} == {"ReqNodeNotAvail"}
        pages = []
        for caller in (leader, follower):
            first = (await caller.get("/api/queue?limit=2")).json()
            rest = (await caller.get(f"/api/queue?limit=2&cursor={first['next']}")).json()
            assert (first["waiting"], rest["next"]) == (3, None)
            pages.append([entry["job_id"] for entry in first["entries"] + rest["entries"]])
        assert pages[0] == pages[1] == sorted(pages[0])
        found = (await follower.get("/api/scheduler")).json()
        assert found["leader"] == (await leader.get("/api/scheduler")).json()["leader"]
        assert found["leader"]["epoch"] >= 1
        seen = await follower.post("/api/jobs/preview", json={"script": "x", "gpu_type": "h100"})
        assert (seen.json()["accepted"], seen.json()["position"]) == (True, 4)
        change = {"state": "drain", "reason": "new disks"}
        drained = await follower.ask("PATCH", "/api/nodes/local/stage", json=change)
        assert (drained.status_code, drained.json()["state"]) == (200, "drain")
        assert (await follower.get("/api/nodes/local/none")).status_code == 404
        assert (await follower.client.get("/health/ready")).status_code == 200


async def test_while_nobody_leads_the_answer_is_503(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql(f"SELECT pg_advisory_lock({LEADER_LOCK})")
        async with stage(Puppet(NODE)) as (app, client):
            caller = Caller(client, await make_person())
            await until(lambda: app.state.queue.follows, "a follower")
            assert (await client.get("/health/ready")).status_code == 200
            for answer in [
                await caller.get("/api/queue"),
                await caller.get("/api/scheduler"),
                await caller.get("/api/nodes"),
                await caller.post("/api/jobs/preview", json={"script": "x"}),
            ]:
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert answer.json()["type"] == "/problems/unavailable"
            job_id = await caller.submit()
            waits = await caller.job(job_id)
            assert (waits["status"], waits["position"]) == ("queued", None)
            assert waits["reason"] and waits["reason_message"]
            listed = await caller.get("/api/jobs")
            assert (listed.status_code, listed.json()["jobs"][0]["reason"]) == (200, None)
            assert (await caller.ask("DELETE", f"/api/jobs/{job_id}")).status_code == 200
        await connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")


async def test_a_leader_that_is_somebody_else_is_not_believed_and_learns_nothing(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """Something listens where the leader did: it gets neither a token nor a say."""
    heard: list[bytes] = []

    async def imposter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(imposter, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ann = await make_person()
    async with server, leader_and_follower(stage, ann) as (_, follower):
        view = follower.client._transport.app.state.controller.view  # type: ignore[attr-defined]
        imposters = Peer(view.leader.id, f"127.0.0.1:{port}")
        view.follow(imposters)
        answer = await follower.get("/api/nodes")
        await follower.submit()

        async def deceived() -> bool:
            """Who leads is seen again soon, and may be before the list is read."""
            view.follow(imposters)
            listed = await follower.get("/api/jobs")
            assert listed.status_code == 200
            return listed.json()["jobs"][0]["reason"] is None

        await until(deceived, "a list without reasons")
    assert answer.status_code == 503
    assert ann.token.encode() not in heard[0]
    assert b"authorization" not in heard[0].lower()


@pytest.fixture
async def echo(make_settings: Callable[..., Settings]) -> AsyncIterator[tuple[Peer, Seal, Peers]]:
    """A server that repeats what it is asked."""
    settings = make_settings(max_body_bytes=1000)
    answers, peers = Answers(settings, "a-server"), Peers(settings)

    async def repeat(words: str) -> str:
        if words == "trouble":
            raise Unavailable("not now", retry_after=7)
        return words

    answers.to(ECHO, repeat)
    address = await answers.start()
    yield Peer("a-server", address), Seal(settings.signing_key), peers
    await peers.close()
    await answers.close()


async def test_servers_of_one_installation_understand_each_other(
    echo: tuple[Peer, Seal, Peers],
) -> None:
    peer, _, peers = echo
    assert await peers.ask(peer, ECHO, "größer\n") == "größer\n"
    with pytest.raises(Unavailable, match="not now") as caught:
        await peers.ask(peer, ECHO, "trouble")
    assert caught.value.retry_after == 7
    with pytest.raises(Unavailable, match="does not know"):
        await peers.ask(peer, Question("news", ECHO.asked, ECHO.answer), "x")
    other = Question("echo", TypeAdapter(list[int]), TypeAdapter(str))
    with pytest.raises(Unavailable, match="does not understand"):
        await peers.ask(peer, other, [1])


async def test_a_connection_that_ends_as_it_is_made_is_no_fault_of_ours(
    echo: tuple[Peer, Seal, Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """anyio looks for the socket of such a one and finds none; seen where a leader was killed."""

    def too_late(request: httpx.Request) -> httpx.Response:
        raise AttributeError("'NoneType' object has no attribute 'getpeername'")

    peer, _, peers = echo
    monkeypatch.setattr(peers._http, "_transport", httpx.MockTransport(too_late))
    with pytest.raises(Unavailable, match="does not answer"):
        await peers.ask(peer, ECHO, "x")


async def test_whoever_can_not_sign_is_refused(echo: tuple[Peer, Seal, Peers]) -> None:
    peer, seal, _ = echo
    nonce, right = secrets.token_hex(8), b'"x"'

    def sign(seal: Seal, server: bytes = b"a-server", body: bytes = right) -> str:
        return seal.of(b"ask", server, b"/echo", nonce.encode(), digest_of(body).encode())

    async with httpx.AsyncClient(base_url=f"http://{peer.address}") as client:

        async def status(
            signature: str, body: bytes = right, signed: bytes = right, path: str = "/echo"
        ) -> int:
            headers = {NONCE: nonce, DIGEST: digest_of(signed), SIGNATURE: signature}
            return (await client.post(path, content=body, headers=headers)).status_code

        assert await status(sign(seal)) == 200
        assert await status(sign(Seal("another secret " * 3))) == 401
        assert await status(sign(seal, b"before")) == 401  # another process had the address
        assert await status("") == 401
        assert await status(sign(seal), b'"y"') == 401
        assert await status(sign(seal), b'"y"', b'"y"') == 401
        assert await status(sign(seal), path="/other") == 401
        large = json.dumps("x" * 3_000_000).encode()
        assert await status(sign(seal, body=large), large, large) == 401
        assert (await client.get("/api/jobs")).status_code == 401


async def test_a_body_without_a_signature_is_not_waited_for(
    echo: tuple[Peer, Seal, Peers],
) -> None:
    host, _, port = echo[0].address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        await reader.read()  # it is closed
    writer.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
async def test_an_address_that_others_can_not_use_is_refused(
    make_settings: Callable[..., Settings], host: str
) -> None:
    with pytest.raises(ConfigurationError, match="QUEUEAPI_PEER_HOST"):
        await Answers(make_settings(peer_host=host), "x").start()


async def test_nobody_else_s_questions_are_passed_on(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """The address in the database is the one that is asked, whatever a request says."""
    async with leader_and_follower(stage, await make_person()) as (leader, follower):
        headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
        answer = await follower.get("/api/nodes", headers=headers)
        assert answer.json() == (await leader.get("/api/nodes")).json()
        rows = await fetch(database, "SELECT address FROM servers")
        assert all(row.address.startswith("127.0.0.1:") for row in rows)

"""Live logs, by server-sent events and by WebSocket: every byte, once, in order."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import websockets

from queueapi.auth.principal import Principal
from queueapi.executors.base import Observation, Phase, Stream
from queueapi.jobs import log_routes
from queueapi.jobs.logs import Follow, LogTarget
from queueapi.jobs.schemas import LogChunk
from tests.staging import NODE, Caller, Json, Puppet, Stage, listening, until

Make = Callable[..., Any]
LINES = ["one ø\n", "two 漢字\n", "three 🙂🙂\n", "four\r\n", "data: five\n\n", "six"]


def parse(text: str) -> list[tuple[str | None, str, Json]]:
    """Server-sent events as (id, name, data)."""
    events = []
    for block in text.strip("\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        if "data" in fields:
            events.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
    return events


def bytes_of(chunk: Json) -> bytes:
    if "text" in chunk:
        return str(chunk["text"]).encode()
    return base64.b64decode(chunk["base64"])


def joined(events: list[tuple[str | None, str, Json]]) -> bytes:
    return b"".join(bytes_of(data) for _, name, data in events if name == "log")


async def follow(caller: Caller, job_id: int, **options: Any) -> str:
    answer = await caller.get(f"/api/jobs/{job_id}/logs?follow=true", **options)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    return answer.text


async def test_from_the_queue_to_the_end(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet, max_running_per_user=1) as (_, client):
        caller = Caller(client, await make_person())
        first = await puppet.begun(await caller.submit())
        job_id = await caller.submit()
        following = asyncio.create_task(follow(caller, job_id))
        await caller.until(job_id, "queued")
        puppet.end(first)
        key = await puppet.begun(job_id)
        await caller.until(job_id, "running")
        for line in LINES:
            for half in (line.encode()[:5], line.encode()[5:]):  # a character may be cut
                puppet.write(key, half)
                await asyncio.sleep(0.05)
        puppet.write(key, b"err", Stream.STDERR)
        puppet.end(key, 7)
        events = parse(await following)
    assert joined(events) == "".join(LINES).encode()
    assert events[-1] == (None, "end", {"status": "failed", "exit_code": 7})
    offset = 0
    for event_id, name, chunk in events[:-1]:
        assert (name, chunk["stream"], chunk["offset"]) == ("log", "stdout", offset)
        offset += len(bytes_of(chunk))
        assert event_id == str(offset)
    assert len(events) > 3


async def test_a_resumed_stream_gives_the_rest_at_every_cut(
    stage: Stage, make_person: Make
) -> None:
    whole = "".join(LINES).encode() + b"\xfe\xff binary" + "漢".encode() + b"\xe6\xbc"
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        puppet.write(key, whole)
        puppet.end(key)
        await caller.until(job_id, "completed")
        for cut in range(len(whole) + 1):
            events = parse(await follow(caller, job_id, headers={"Last-Event-ID": str(cut)}))
            assert joined(events) == whole[cut:], cut
            assert events[-1][1] == "end"
        past = parse(await follow(caller, job_id, headers={"Last-Event-ID": "999"}))
        assert [name for _, name, _ in past] == ["end"]
        fresh = parse(await follow(caller, job_id, headers={"Last-Event-ID": ""}))
        assert joined(fresh) == whole
        path = f"/api/jobs/{job_id}/logs"
        by_accept = await caller.get(f"{path}?offset=4", headers={"Accept": "text/event-stream"})
        assert joined(parse(by_accept.text)) == whole[4:]
        for wrong in ("x", "-1", "1" * 19):
            answer = await caller.get(f"{path}?follow=true", headers={"Last-Event-ID": wrong})
            assert answer.status_code == 422, wrong


async def test_no_character_is_split_however_long_the_log(stage: Stage, make_person: Make) -> None:
    """Three bytes each, so that no chunk of a power of two ends where a character does."""
    whole = "漢".encode() * 100_000
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        puppet.write(key, whole)
        live = asyncio.create_task(follow(caller, job_id))
        await caller.until(job_id, "running")
        puppet.end(key)
        await caller.until(job_id, "completed")
        for text in (await live, await follow(caller, job_id)):
            events = parse(text)
            assert joined(events) == whole
            assert len(events) > 4
            assert all("text" in data for _, name, data in events if name == "log")


async def test_what_is_not_utf_8_comes_as_base64(stage: Stage, make_person: Make) -> None:
    whole = bytes(range(256)) * 1000
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        puppet.write(key, whole)
        puppet.end(key)
        await caller.until(job_id, "completed")
        events = parse(await follow(caller, job_id))
        assert joined(events) == whole
        assert int(events[-2][0] or 0) == len(whole)
        assert "base64" in events[0][2]


async def test_a_job_cancelled_in_the_queue_ends_its_log(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (app, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        following = asyncio.create_task(follow(caller, job_id))
        await caller.ask("DELETE", f"/api/jobs/{job_id}")
        assert parse(await following) == [(None, "end", {"status": "cancelled", "exit_code": None})]
        assert app.state.feed._waiters == {}


async def test_a_log_is_followed_within_one_attempt(stage: Stage, make_person: Make) -> None:
    """The machine fails, and the job runs anew before the follower looks again."""
    puppet, ann = Puppet(NODE), await make_person()
    async with stage(puppet, requeue_delay_seconds=0) as (app, client):
        caller, parts = Caller(client, ann), app.state
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        puppet.write(key, b"first")
        await caller.until(job_id, "running")
        principal = Principal(ann.user_id, ann.email, False, frozenset(), frozenset(), None)
        live = Follow(
            parts.database, parts.executors, parts.feed, principal, job_id, Stream.STDOUT, 0
        ).chunks()
        items = [await anext(live)]  # and here it stops to look
        puppet.show(key, Observation(Phase.LOST))
        second = await puppet.begun(job_id, 2)
        puppet.write(second, b"the second attempt's log")
        await caller.until(job_id, "running")
        puppet.write(key, b" attempt")
        async with asyncio.timeout(10):
            items += [item async for item in live]
        puppet.end(second)
        await caller.until(job_id, "completed")
    chunks = [item.text for item in items if isinstance(item, LogChunk)]
    assert chunks == ["first", " attempt"]
    assert isinstance(items[-1], LogTarget) and items[-1].ended


async def read_socket(url: str, headers: dict[str, str]) -> tuple[list[Json], int | None]:
    messages = []
    async with websockets.connect(url, additional_headers=headers) as socket:
        async for message in socket:
            messages.append(json.loads(message))
    return messages, socket.close_code


async def test_a_websocket_gives_the_same(stage: Stage, make_person: Make) -> None:
    puppet, person = Puppet(NODE), await make_person()
    whole = ("漢" * 50_000).encode() + b"\xff\n"
    async with stage(puppet) as (app, client), listening(app) as address:
        caller = Caller(client, person)
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        url = f"ws://{address}/api/jobs/{job_id}/logs"
        reading = asyncio.create_task(read_socket(url, person.headers))
        for part in (whole[:1], whole[1:100_000], whole[100_000:]):
            puppet.write(key, part)
            await asyncio.sleep(0.05)
        puppet.end(key, 2)
        messages, code = await reading
        assert code == 1000
        assert b"".join(bytes_of(m) for m in messages[:-1]) == whole
        assert messages[-1] == {"status": "failed", "exit_code": 2}
        rest, _ = await read_socket(f"{url}?offset={len(whole) - 2}", person.headers)
        assert b"".join(bytes_of(m) for m in rest[:-1]) == b"\xff\n"
        errors, _ = await read_socket(f"{url}?stream=stderr", person.headers)
        assert errors == [{"status": "failed", "exit_code": 2}]


async def test_a_listener_that_leaves_leaves_nothing_behind(
    stage: Stage, make_person: Make
) -> None:
    puppet, person = Puppet(NODE), await make_person()
    async with stage(puppet) as (app, client), listening(app) as address:
        job_id = await Caller(client, person).submit()
        key = await puppet.begun(job_id)
        puppet.write(key, b"hello")
        url = f"{address}/api/jobs/{job_id}/logs"
        async with websockets.connect(f"ws://{url}", additional_headers=person.headers) as socket:
            assert json.loads(await socket.recv())["text"] == "hello"
            await socket.send(b"\x00 nobody listens")
            await socket.send("nor to this")
            puppet.write(key, b" world")
            assert json.loads(await socket.recv())["text"] == " world"
        async with (
            httpx.AsyncClient() as http,
            http.stream("GET", f"http://{url}?follow=true", headers=person.headers) as answer,
        ):
            async for line in answer.aiter_lines():
                if line.startswith("data"):
                    break
        await until(lambda: not app.state.feed._waiters, "all gone")


async def test_a_silent_log_shows_that_it_lives(
    stage: Stage, make_person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the job waits: a proxy would give up on a connection that is silent."""
    monkeypatch.setattr(log_routes, "HEARTBEAT_SECONDS", 0.1)
    async with stage(Puppet()) as (app, client), listening(app) as address:
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        url = f"http://{address}/api/jobs/{job_id}/logs?follow=true"
        async with (
            httpx.AsyncClient() as http,
            http.stream("GET", url, headers=caller.person.headers) as answer,
            asyncio.timeout(10),
        ):
            assert await anext(answer.aiter_lines()) == ": still here"

"""A log of two gigabytes, served by a real server in constant memory."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from queueapi.config import Settings
from tests.controller.serving import Server, serving
from tests.staging import Caller

Make = Callable[..., Any]
GIB2 = 2 * 1024**3
PART = GIB2 // 4 * 3
ALLOWED = 50 * 1024**2  # bytes that the server may grow by
# Written by the job itself, sparse, so that no disk has to hold it.
SCRIPT = f"""#!/bin/sh
echo first
truncate -s {GIB2 - 6} /proc/self/fd/1
echo
echo last
"""


async def test_two_gigabytes_in_constant_memory(
    make_settings: Callable[..., Settings], make_person: Make, data_dir: Path
) -> None:
    settings = make_settings(
        executor="local", local_cpus=2, local_memory_gb=1, local_sandbox="none"
    )
    async with (
        serving(settings) as server,
        httpx.AsyncClient(base_url=server.url, timeout=60) as client,
    ):
        caller = Caller(client, await make_person())
        job_id = await caller.submit(SCRIPT, memory_gb=0.25)
        done = await caller.until(job_id, "completed", "failed")
        assert done["status"] == "completed", done["stderr_tail"]
        path = f"/api/jobs/{job_id}/logs"
        await caller.get(f"{path}?tail=1")
        before = server.resident()
        last = await caller.get(f"{path}?tail=1&limit=10")
        assert last.headers["x-log-size"] == str(GIB2)
        assert (await caller.get(f"{path}?offset={GIB2 - 5}")).text == "last\n"
        end = await caller.get(path, headers={"Range": "bytes=-5"})
        assert (end.status_code, end.text) == (206, "last\n")
        peak = await download(client, server, f"{path}?offset={PART}", caller.person.headers)
        assert peak - before < ALLOWED
        peak = await follow(client, server, f"{path}?follow=1", caller.person.headers)
        assert peak - before < ALLOWED
        assert (await caller.job(job_id))["stdout_tail"].endswith("last\n")


async def download(
    client: httpx.AsyncClient, server: Server, path: str, headers: dict[str, str]
) -> int:
    """The last quarter, by a bare socket for speed; the largest size of the server meanwhile."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert f"content-length: {GIB2 - PART}".encode() in head
    received = looks = peak = 0
    while data := await reader.read(1 << 20):
        received += len(data)
        if received >> 26 > looks:
            looks = received >> 26
            peak = max(peak, server.resident())
    writer.close()
    await writer.wait_closed()
    assert (received, looks) == (GIB2 - PART, 8)
    return peak


async def follow(
    client: httpx.AsyncClient, server: Server, path: str, headers: dict[str, str]
) -> int:
    """Live, by a client that reads slowly: what it does not take must not pile up."""
    peak = 0
    async with client.stream("GET", path, headers=headers) as answer:
        reading = answer.aiter_raw()
        for _ in range(60):
            await anext(reading)
            await asyncio.sleep(0.01)
            peak = max(peak, server.resident())
    return peak

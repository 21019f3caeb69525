"""A load generator in a process of its own: keep-alive connections that each repeat a request.

`python -m benchmarks.load HOST PORT CONNECTIONS SECONDS < request` prints a JSON line:
answers, seconds, and latencies' quantiles in milliseconds. The request is sent as it is.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import uvloop


@dataclass
class Tally:
    until: float
    latencies: list[float] = field(default_factory=list)  # seconds
    refused: dict[str, int] = field(default_factory=dict)  # by status


class Connection(asyncio.Protocol):
    """Sends the request, waits for the whole answer, and again until the time is up."""

    def __init__(self, request: bytes, tally: Tally, done: asyncio.Future[None]) -> None:
        self._request = request
        self._tally = tally
        self._done = done
        self._buffer = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by descent
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lowered = head.lower()
        start = lowered.index(b"content-length:") + len(b"content-length:")
        length = int(lowered[start:].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._buffer = body[length:]
        self._answered(head[9:12].decode())

    def _answered(self, status: str) -> None:
        now = time.perf_counter()
        if status.startswith("2"):
            self._tally.latencies.append(now - self._sent_at)
        else:
            self._tally.refused[status] = self._tally.refused.get(status, 0) + 1
        if now < self._tally.until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def run(host: str, port: int, connections: int, seconds: float, request: bytes) -> None:
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    tally = Tally(until=started + seconds)
    ends = []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        ends.append(done)
        await loop.create_connection(partial(Connection, request, tally, done), host, port)
    await asyncio.gather(*ends)
    elapsed = time.perf_counter() - started
    milliseconds = [value * 1000 for value in tally.latencies] or [0.0]
    result = {
        "answers": len(tally.latencies),
        "refused": tally.refused,
        "seconds": elapsed,
        "p50_ms": quantile(milliseconds, 0.5),
        "p99_ms": quantile(milliseconds, 0.99),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    host, port, connections, seconds = sys.argv[1:]
    uvloop.run(run(host, int(port), int(connections), float(seconds), sys.stdin.buffer.read()))

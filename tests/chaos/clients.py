"""Clients that send each request until it is answered, and judge every answer."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.orders import Kind, Order
from tests.chaos.stage import Server

ANSWER_SECONDS = 5.0  # then the client turns to another server
LONG_POLL = 3  # seconds
PATIENCE = 0.5  # seconds, on the average, whatever Retry-After asks for: so more is tried
PASSWORD = "correct horse battery"
ORDER = ("queued", "starting", "running", "completed", "failed", "cancelled")
ENDED = frozenset(ORDER[3:])
NO_ANSWER = "none"


@dataclass
class Heard:
    """What all clients were told."""

    answers: Counter[str] = field(default_factory=Counter)  # by status, or NO_ANSWER
    wrong: Counter[str] = field(default_factory=Counter)  # by what was wrong

    def complain(self, words: str) -> None:
        self.wrong[words] += 1


class StormClient:
    def __init__(
        self, number: int, servers: Sequence[Server], heard: Heard, marks: Path, dice: random.Random
    ) -> None:
        self._email = f"client{number}@lab.example"
        self._servers = servers
        self._heard = heard
        self._marks = marks
        self._dice = dice
        self._http = httpx.AsyncClient(timeout=ANSWER_SECONDS)
        self._background: set[asyncio.Task[None]] = set()

    async def enrol(self) -> None:
        """While the weather is fair."""
        person = {"email": self._email, "password": PASSWORD}
        for path in ("/api/auth/register", "/api/auth/login"):
            answer = await self._http.post(self._servers[0].url + path, json=person, timeout=60)
            answer.raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {answer.json()['token']}"

    async def send(self, orders: Sequence[Order], may_send: Callable[[], bool]) -> None:
        """All orders, each as soon as `may_send` allows one more."""
        for order in orders:
            while not may_send():  # noqa: ASYNC110 - a figure that many change
                await asyncio.sleep(0.05)
            await self._submit(order)
            self._follow_up(order)
        await asyncio.gather(*self._background)

    async def close(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._http.aclose()

    async def _submit(self, order: Order) -> None:
        order.sent = True
        bodies = [job.body(self._marks) for job in order.jobs]
        batch = len(bodies) > 1
        path, body = ("/api/jobs/batch", {"jobs": bodies}) if batch else ("/api/jobs", bodies[0])
        answer = await self._until_answered(
            "POST", path, {201}, json=body, headers={"Idempotency-Key": order.key}
        )
        told = answer.json()
        ids = told["job_ids"] if batch else [told["id"]]
        if order.ids and order.ids != ids:
            self._heard.complain(f"{order.key} was answered with {order.ids}, then with {ids}")
        if len(ids) != len(bodies):
            self._heard.complain(f"{order.key}: {len(bodies)} jobs sent, {len(ids)} answered")
        order.ids = ids

    def _follow_up(self, order: Order) -> None:
        chance = self._dice.random()
        if chance < 0.1:  # as if the answer had been lost
            self._later(self._submit(order))
        elif chance < 0.2:
            self._later(self._watch(order))
        for job, job_id in zip(order.jobs, order.ids, strict=True):
            if job.kind is Kind.CANCELLED:
                self._later(self._cancel(job_id))

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _cancel(self, job_id: int) -> None:
        await asyncio.sleep(self._dice.uniform(0, 3))
        await self._until_answered("DELETE", f"/api/jobs/{job_id}", {200, 202})

    async def _watch(self, order: Order) -> None:
        """Read a job until it has ended: it never goes back, and never is unknown."""
        job, job_id, reached = order.jobs[0], order.ids[0], 0
        while True:
            wait = self._dice.choice((0, LONG_POLL))
            answer = await self._until_answered("GET", f"/api/jobs/{job_id}?wait={wait}", {200})
            told = answer.json()
            state = told["status"]
            if ORDER.index(state) < reached:
                self._heard.complain(f"job {job_id} went back from {ORDER[reached]} to {state}")
            reached = ORDER.index(state)
            if state in ENDED:
                if job.kind is not Kind.CANCELLED and told["exit_code"] != job.exit_code:
                    self._heard.complain(f"job {job_id} was told to have ended: {answer.text}")
                return
            await asyncio.sleep(self._dice.uniform(0.2, 2))

    async def _until_answered(
        self, method: str, path: str, wanted: set[int], **request: Any
    ) -> httpx.Response:
        """Any server will do. 503 with Retry-After and no answer at all are fair; else wrong."""
        while True:
            server = self._dice.choice(self._servers)
            try:
                answer = await self._http.request(method, server.url + path, **request)
            except httpx.TransportError:
                self._heard.answers[NO_ANSWER] += 1
                await asyncio.sleep(self._dice.uniform(0, 2 * PATIENCE))
                continue
            self._heard.answers[str(answer.status_code)] += 1
            if answer.status_code in wanted:
                return answer
            if answer.status_code != 503 or not answer.headers.get("retry-after", "").isdigit():
                words = answer.text.partition('"instance"')[0][:400]
                self._heard.complain(f"{method}: {answer.status_code} {words}")
            await asyncio.sleep(self._dice.uniform(0, 2 * PATIENCE))

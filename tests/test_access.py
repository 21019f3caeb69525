"""What holds for every request: its id, its size, its place in the metrics, its errors."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from tests.conftest import Serve


@pytest.fixture
async def small(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A server that takes a hundred bytes."""
    async with serve(max_body_bytes=100) as (_, client):
        yield client


async def test_a_request_has_an_id_given_or_made(client: httpx.AsyncClient) -> None:
    for given in ("abc-123", "A.b_c", "x" * 64):
        answer = await client.get("/api/nowhere", headers={"X-Request-Id": given})
        assert answer.headers["x-request-id"] == given
        assert answer.json()["instance"] == f"urn:request:{given}"
    made = set()
    for bad in ("", "a b", "x" * 65, "<script>", "a\tb"):
        answer = await client.get("/api/nowhere", headers={"X-Request-Id": bad})
        assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"]), bad
        made.add(answer.headers["x-request-id"])
    assert len(made) == 5


async def test_an_unknown_path_or_method_is_a_problem(client: httpx.AsyncClient) -> None:
    nowhere = await client.get("/api/nowhere")
    assert nowhere.status_code == 404
    assert nowhere.headers["content-type"] == "application/problem+json"
    assert nowhere.json()["type"] == "/problems/not-found"
    assert "/api/nowhere" in nowhere.json()["detail"]
    wrong = await client.put("/api/version")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
    assert wrong.json()["type"] == "/problems/method-not-allowed"
    assert "PUT" in wrong.json()["detail"]
    slash = await client.get("/api/version/")
    assert slash.status_code == 404


def too_large(answer: httpx.Response) -> bool:
    document = answer.json()
    return (
        answer.status_code == document["status"] == 413
        and document["type"] == "/problems/payload-too-large"
        and "100 bytes" in document["detail"]
        and "x-request-id" in answer.headers
    )


async def test_a_body_that_says_it_is_too_large_is_not_read(small: httpx.AsyncClient) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"{}"

    for length in ("101", "9" * 30, "9" * 5000):
        answer = await small.post(
            "/api/auth/login", content=body(), headers={"Content-Length": length}
        )
        assert too_large(answer), answer.text
        assert answer.headers["connection"] == "close"
    assert read == []
    json = {"Content-Type": "application/json"}
    fits = await small.post("/api/auth/login", content=b"{}" + b" " * 98, headers=json)
    assert fits.status_code == 422  # it was read, and lacks all that it should have


async def test_a_body_without_a_length_is_counted(small: httpx.AsyncClient) -> None:
    sent = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            sent.append(1)
            yield b" " * 10

    answer = await small.post(
        "/api/auth/login", content=chunks(), headers={"Content-Type": "application/json"}
    )
    assert too_large(answer), answer.text
    assert len(sent) < 50  # it was not read to the end


async def test_metrics_are_kept_by_route_and_not_by_path(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    for path in ("/api/jobs/1", "/api/jobs/2", "/api/secret-word", "/health/live"):
        await client.get(path)
    await client.request("BREW", "/api/tea")
    await client.put("/api/version")
    metrics = (await client.get("/metrics")).text
    count = "queueapi_request_seconds_count"
    assert f'{count}{{method="GET",route="/api/jobs/{{job_id}}",status="401"}}' in metrics
    assert f'{count}{{method="GET",route="unmatched",status="404"}}' in metrics
    assert f'{count}{{method="GET",route="/health/live",status="200"}}' in metrics
    assert f'{count}{{method="other",route="unmatched",status="404"}}' in metrics
    assert f'{count}{{method="PUT",route="/api/version",status="405"}}' in metrics
    for never in ("secret-word", "BREW", "/api/jobs/1"):
        assert never not in metrics

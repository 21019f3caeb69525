"""Bodies that mean no good, over real HTTP: refused by name, by every route that takes one."""

import json
import re

import httpx
import pytest

from tests.external.conftest import JSON, ROOT, Server, expect_problem, job, register

pytestmark = pytest.mark.usefixtures("the_server_works_afterwards")


BODIES = {
    "nothing": (b"", 422, "body"),
    "no object": (b"[]", 422, "body"),
    "no script": (b"{}", 422, "/script"),
    "a number as the script": (b'{"script": 5}', 422, "/script"),
    "text as a number": (job(cpu_cores="4"), 422, "/cpu_cores"),
    "true as a number": (job(cpu_cores=True), 422, "/cpu_cores"),
    "half a processor": (job(cpu_cores=1.5), 422, "/cpu_cores"),
    "an unknown field": (job(cpus=1), 422, "/cpus"),
    "a computed field": (job(memory_mb=1), 422, "/memory_mb"),
    "10 MB of script": (job(script="x" * 10_000_000), 422, "/script"),
    "NUL in the script": (job(script="a\0b"), 422, "/script"),
    "NUL in the name": (job(name="a\0b"), 422, "/name"),
    "a newline in the name": (job(name="a\nb"), 422, "/name"),
    "NUL in a variable": (job(env={"A": "\0"}), 422, "/env/A"),
    "a variable's name with =": (job(env={"A=B": "1"}), 422, "/env/A=B"),
    "a variable of the server's": (job(env={"QUEUEAPI_JOB_ID": "1"}), 422, "/env"),
    "too many variables": (job(env={f"A{i}": "" for i in range(257)}), 422, "/env"),
    "negative memory": (job(memory_gb=-1), 422, "/memory_gb"),
    "no memory": (job(memory_gb=0), 422, "/memory_gb"),
    "infinite memory": (b'{"script": "true", "memory_gb": 1e999}', 422, "/memory_gb"),
    "NaN": (b'{"script": "true", "memory_gb": NaN}', 400, "JSON"),
    "2**63 processors": (job(cpu_cores=2**63), 422, "/cpu_cores"),
    "a number of 5000 digits": (
        b'{"script": "true", "cpu_cores": ' + b"9" * 5000 + b"}",
        400,
        "JSON",
    ),
    "input beyond any float": (b'{"script": "true", "input_data": 1e400}', 422, "/input_data"),
    "an infinite time": (b'{"script": "true", "estimated_hours": 1e999}', 422, "hours"),
    "priority 11": (job(priority=11), 422, "/priority"),
    "a shell's word as a tag": (job(tags=["$(id)"]), 422, "/tags/0"),
    "another group": (job(group="'; DROP TABLE jobs; --"), 404, "group"),
    "100,000 brackets": (b"[" * 100_000, 400, "JSON"),
    "half a document": (b'{"script": ', 400, "JSON"),
    "two documents": (job() + job(), 400, "JSON"),
    "half a surrogate pair": (b'{"script": "\\ud800"}', 400, "JSON"),
    "bytes that are not UTF-8": (b'{"script": "\xff"}', 400, "UTF-8"),
    "an overlong encoding": (b'{"script": "\xc0\xaf"}', 400, "UTF-8"),
    "UTF-16": ('{"script": "true"}'.encode("utf-16"), 400, "UTF-8"),
}


@pytest.mark.parametrize(("body", "status", "word"), BODIES.values(), ids=BODIES)
def test_a_body_that_is_wrong_is_refused_by_name(
    client: httpx.Client, body: bytes, status: int, word: str
) -> None:
    expect_problem(client.post("/api/jobs", content=body, headers=JSON), status, word)


def test_of_two_equal_keys_the_last_one_counts(client: httpx.Client) -> None:
    body = b'{"script": "true", "name": "first", "name": "last"}'
    assert client.post("/api/jobs", content=body, headers=JSON).json()["name"] == "last"


def test_input_data_may_hold_any_json(client: httpx.Client) -> None:
    nested = "[" * 150 + "]" * 150
    body = f'{{"script": "true", "input_data": {{"\\u0000": [-0.0, 1e-400, {2**64}, {nested}]}}}}'
    submitted = client.post("/api/jobs", content=body.encode(), headers=JSON)
    assert submitted.status_code == 201
    read = client.get(submitted.headers["location"])
    assert read.json()["input_data"] == json.loads(body)["input_data"]


MEDIA_TYPES = {
    "text": {"Content-Type": "text/plain"},
    "a form, as curl -d sends it": {"Content-Type": "application/x-www-form-urlencoded"},
    "parts without a boundary": {"Content-Type": "multipart/form-data; boundary="},
    "none": {},
    "compressed": JSON | {"Content-Encoding": "gzip"},
}


@pytest.mark.parametrize("headers", MEDIA_TYPES.values(), ids=MEDIA_TYPES)
def test_a_body_of_another_type_is_refused(client: httpx.Client, headers: dict[str, str]) -> None:
    expect_problem(client.post("/api/jobs", content=job(), headers=headers), 415, "Content-")


# To any route: all of them take an object, and none an unknown field.
ANYWHERE = {
    "nothing": (b"", 422, "body"),
    "no object": (b"[]", 422, "body"),
    "null": (b"null", 422, "body"),
    "an unknown field": (b'{"no_such_field": 1}', 422, "/no_such_field"),
    "NaN": (b'{"no_such_field": NaN}', 400, "JSON"),
    "a number of 5000 digits": (b'{"no_such_field": ' + b"9" * 5000 + b"}", 400, "JSON"),
    "100,000 brackets": (b"[" * 100_000, 400, "JSON"),
    "half a document": (b'{"name": ', 400, "JSON"),
    "bytes that are not UTF-8": (b'{"name": "\xff"}', 400, "UTF-8"),
    "UTF-16": ("{}".encode("utf-16"), 400, "UTF-8"),
}


@pytest.fixture(scope="module")
def routes() -> list[tuple[str, str]]:
    """Method and path of every route that takes JSON, with a 1 for each parameter."""
    paths = json.loads((ROOT / "openapi.json").read_text())["paths"]
    return [
        (method.upper(), re.sub(r"\{\w+\}", "1", path))
        for path, item in paths.items()
        for method, operation in item.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]


@pytest.fixture(scope="module")
def admin(null_server: Server) -> dict[str, str]:
    return register(null_server, "hostile-admin@lab.example", admin=True).headers


@pytest.mark.parametrize(("body", "status", "word"), ANYWHERE.values(), ids=ANYWHERE)
def test_every_route_refuses_a_body_that_is_wrong(
    client: httpx.Client,
    routes: list[tuple[str, str]],
    admin: dict[str, str],
    body: bytes,
    status: int,
    word: str,
) -> None:
    assert len(routes) >= 20
    for method, path in routes:
        answer = client.request(method, path, content=body, headers=JSON | admin)
        expect_problem(answer, status, word)


def test_every_route_refuses_a_body_of_another_type(
    client: httpx.Client, routes: list[tuple[str, str]], admin: dict[str, str]
) -> None:
    for method, path in routes:
        answer = client.request(method, path, content=b"a=1", headers=admin)
        expect_problem(answer, 415, "Content-")

"""Requests that mean no good: the answer says what to do, and the server works on."""

import base64
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest

from queueapi.auth import tokens
from queueapi.clock import utc_now
from tests.external.conftest import JSON, Account, Server, expect_problem, job

pytestmark = pytest.mark.usefixtures("the_server_works_afterwards")

MEBIBYTE = 1024**2
OVER_THE_LIMIT = 65  # mebibytes; the server takes 64


IDS = ["0", "-1", str(2**53), str(2**63), "1e3", "1.0", "%00", "%0d%0aX:%20y", "%20", "%201", "+1"]
IDS += ["1_0", "0x10", "%EF%BC%91", "%ff", "1;2", "NaN", "true", "9" * 5000]


@pytest.mark.parametrize("word", IDS, ids=[w[:12] for w in IDS])
@pytest.mark.parametrize("path", ["/api/jobs/{}", "/api/jobs/{}/logs", "/api/groups/{}"])
def test_what_is_no_id_is_refused(client: httpx.Client, path: str, word: str) -> None:
    expect_problem(client.get(path.format(word)), 422, "_id")


@pytest.mark.parametrize("path", ["/api/jobs/1/", "/api//jobs", "/api/jobs/..%2f..", "/%00", "/%"])
def test_a_path_that_leads_nowhere_is_not_found(client: httpx.Client, path: str) -> None:
    expect_problem(client.get(path), 404)


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


POSITIONS = ["x", "[]", "[1.5]", "[true]", '["a"]', "[null]", '{"a": 1}', "[" * 100]
POSITIONS += [f"[{2**70}, 1, 1, 1]", "[NaN, NaN, NaN, NaN]", '["a", 1.0, 1.0, 1]']
CURSORS = [*map(cursor, POSITIONS), "%00", "%ff", "====", "a", "é", "💥", "x" * 201]


@pytest.mark.parametrize(
    "path", ["/api/jobs", "/api/queue", "/api/groups", "/api/groups/1/members"]
)
def test_a_cursor_that_is_none_of_ours_is_refused(client: httpx.Client, path: str) -> None:
    for text in CURSORS:
        expect_problem(client.get(f"{path}?cursor={text}"), 422, "cursor")


EXTREMES = [f"[{2**63 - 1}]", f"[{-(2**63)}]", f"[{2**70}]", "[-1]", "[1e308, 1e308, 1e308, 1]"]
EXTREMES += ["[Infinity, 1.0, 1.0, 1]", "[-1e308, NaN, NaN, 1]", f"[1.0, 1.0, 1.0, {2**70}]"]


@pytest.mark.parametrize(
    "path", ["/api/jobs", "/api/queue", "/api/groups", "/api/groups/1/members"]
)
def test_a_made_up_cursor_is_read_or_refused(client: httpx.Client, path: str) -> None:
    for text in EXTREMES:
        answer = client.get(path, params={"cursor": cursor(text)})
        if answer.status_code != 200:
            expect_problem(answer, 422, "cursor")


QUERIES = {
    "/api/jobs": [
        *("limit=0", "limit=1e3", "limit=1001", "status=done", "tag=a%20b", "name=%00"),
        *("created_after=1", "created_after=yesterday", "created_after=2026-01-01"),
        *("created_after=2026-13-01T00:00:00Z", "created_after=2026-01-01T00:00:00"),
        "created_before=0001-01-01T00:00:00%2B14:00",
    ],
    "/api/jobs/{id}": ["wait=nan", "wait=inf", "wait=-1", "wait=61", "wait=1e309", "wait="],
    "/api/jobs/{id}/logs": [
        *("offset=-1", f"offset={2**63}", "limit=0", "tail=-1", "tail=1000001"),
        *("stream=stdin", "attempt=0", "follow=maybe"),
    ],
}


@pytest.mark.parametrize("path", QUERIES)
def test_a_query_that_is_wrong_is_refused_by_name(client: httpx.Client, path: str) -> None:
    made = client.post("/api/jobs", content=job(), headers=JSON).json()["id"]
    for query in QUERIES[path]:
        name = query.partition("=")[0]
        expect_problem(client.get(f"{path.format(id=made)}?{query}"), 422, name)


RANGES = ["bytes=-0", "bytes=0-", "bytes=5-2", "bytes=0-0,1-1", f"bytes={'9' * 190}-", "bytes=a-b"]
RANGES += [f"bytes=-{'9' * 20}", "lines=1-2", "bytes", "=", "bytes=-"]


@pytest.mark.parametrize("value", RANGES, ids=[r[:12] for r in RANGES])
def test_an_absurd_range_is_ignored_or_lies_outside(client: httpx.Client, value: str) -> None:
    made = client.post("/api/jobs", content=job(), headers=JSON)
    answer = client.get(f"{made.headers['location']}/logs", headers={"Range": value})
    if answer.status_code != 200:  # RFC 9110: what can't be understood is ignored
        expect_problem(answer, 416)


def test_a_range_that_is_too_long_is_refused(client: httpx.Client) -> None:
    made = client.post("/api/jobs", content=job(), headers=JSON)
    answer = client.get(f"{made.headers['location']}/logs", headers={"Range": "b" * 201})
    expect_problem(answer, 422, "Range")


@pytest.mark.parametrize("key", [b"", b"a b", b"x" * 256, b"\xff", "é".encode()])
def test_a_key_that_is_none_is_refused(client: httpx.Client, key: bytes) -> None:
    headers = [(b"Content-Type", b"application/json"), (b"Idempotency-Key", key)]
    expect_problem(client.post("/api/jobs", content=job(), headers=headers), 422, "Idempotency-Key")


@pytest.mark.parametrize("tag", ["*", "garbage", '"' * 999, ",,,", '""', 'W/"1"'])
def test_a_strange_entity_tag_matches_or_does_not(client: httpx.Client, tag: str) -> None:
    location = client.post("/api/jobs", content=job(), headers=JSON).headers["location"]
    assert client.get(location, headers={"If-None-Match": tag}).status_code in (200, 304)
    change = client.patch(location, json={"priority": 2}, headers={"If-Match": tag})
    assert change.status_code in (200, 409, 412)


def unsigned(token: str) -> str:
    """The same claims under `alg: none`."""
    header = base64.urlsafe_b64encode(b'{"alg": "none", "typ": "JWT"}').decode().rstrip("=")
    return f"{header}.{token.split('.')[1]}."


def expired(server: Server, account: Account) -> str:
    then = utc_now() - timedelta(hours=2)
    key, hour = server.jwt_secret, timedelta(hours=1)
    return tokens.issue(
        "access", key, user_id=account.user_id, session_id=1, now=then, lifetime=hour
    )


def for_refreshing(server: Server, account: Account) -> str:
    now, hour = utc_now(), timedelta(hours=1)
    return tokens.issue(
        "refresh", server.jwt_secret, user_id=account.user_id, session_id=1, now=now, lifetime=hour
    )


TOKENS: dict[str, Callable[[Server, Account], str]] = {
    "expired": expired,
    "a refresh token": for_refreshing,
    "alg none": lambda _, account: unsigned(account.token),
    "signature cut off": lambda _, account: account.token.rpartition(".")[0] + ".",
    "signature of others": lambda _, account: account.token[:-4] + "AAAA",
    "no token": lambda *_: "",
    "an API token that is none": lambda *_: "qa_" + "x" * 43,
    "60,000 characters": lambda *_: "a" * 60_000,
    "not ASCII": lambda *_: "ÿþ",
}


@pytest.mark.parametrize("make", TOKENS.values(), ids=TOKENS)
def test_a_token_that_does_not_hold_lets_nobody_in(
    null_server: Server, account: Account, make: Callable[[Server, Account], str]
) -> None:
    value = f"Bearer {make(null_server, account)}".strip().encode("latin-1")
    for path in ("/api/jobs", "/api/auth/me", "/api/queue"):
        answer = httpx.get(null_server.url + path, headers=[(b"Authorization", value)])
        expect_problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PUT"])
def test_a_method_that_is_not_there_is_refused_with_those_that_are(
    client: httpx.Client, method: str
) -> None:
    for path, allowed in (("/api/jobs", "GET, POST"), ("/api/jobs/batch", "POST")):
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == allowed
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_over_the_limit_is_refused_before_it_is_sent(client: httpx.Client) -> None:
    answer = client.post("/api/jobs", content=b" " * OVER_THE_LIMIT * MEBIBYTE, headers=JSON)
    expect_problem(answer, 413, "bytes")


def test_a_chunked_body_is_refused_when_it_passes_the_limit(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(OVER_THE_LIMIT):
            yield b" " * MEBIBYTE

    expect_problem(client.post("/api/jobs", content=chunks(), headers=JSON), 413, "bytes")


def exchange(server: Server, *lines: str, body: bytes = b"") -> bytes:
    """Sends these lines as they are and reads until the server has no more to say."""
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), address.port or 80), 10) as connection:
        connection.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while received := connection.recv(65_536):
            answer += received
    return answer


REFUSED_BELOW = {
    "TLS": ["\x16\x03\x01\x02\x00\x01\x00"],
    "HTTP/2": ["PRI * HTTP/2.0", "", "SM"],
    "no method": ["FOO /api/jobs HTTP/1.1", "Host: x"],
    "a tunnel": ["CONNECT x:80 HTTP/1.1", "Host: x"],
    "NUL in the path": ["GET /api/jobs/\0 HTTP/1.1", "Host: x"],
    "NUL in a header": ["GET /api/jobs HTTP/1.1", "X: a\0b"],
    "a length below nothing": ["POST /api/jobs HTTP/1.1", "Content-Length: -1"],
    "a length in words": ["POST /api/jobs HTTP/1.1", "Content-Length: many"],
    "two lengths": ["POST /api/jobs HTTP/1.1", "Content-Length: 2", "Content-Length: 3"],
    "length and chunks": [
        "POST /api/jobs HTTP/1.1",
        "Content-Length: 2",
        "Transfer-Encoding: chunked",
    ],
    "a length beyond 64 bits": ["POST /api/jobs HTTP/1.1", "Content-Length: " + "9" * 23],
}


@pytest.mark.parametrize("lines", REFUSED_BELOW.values(), ids=REFUSED_BELOW)
def test_what_is_not_http_is_refused_below_the_application(
    null_server: Server, lines: list[str]
) -> None:
    assert exchange(null_server, *lines).startswith(b"HTTP/1.1 400 ")


def test_a_length_that_lies_far_above_the_limit_is_refused_at_once(null_server: Server) -> None:
    head = ["POST /api/jobs HTTP/1.1", "Content-Length: 1000000000000", "Expect: 100-continue"]
    assert exchange(null_server, *head).startswith(b"HTTP/1.1 413 ")


def test_a_body_shorter_than_its_length_is_dropped(null_server: Server, account: Account) -> None:
    head = [
        "POST /api/jobs HTTP/1.1",
        f"Authorization: Bearer {account.token}",
        "Content-Length: 99",
    ]
    assert exchange(null_server, *head, "Content-Type: application/json", body=job()) == b""


def test_what_follows_a_body_is_not_taken_for_its_end(
    null_server: Server, account: Account
) -> None:
    head = [
        "POST /api/jobs HTTP/1.1",
        f"Authorization: Bearer {account.token}",
        "Content-Length: 2",
    ]
    answer = exchange(null_server, *head, "Content-Type: application/json", body=b"{}, smuggled")
    statuses = [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1")]
    assert statuses[-1] == b"400"
    assert b"201" not in statuses


HEADS = {
    "a hundred thousand headers": [f"X-{number}: y" for number in range(100_000)],
    "one header of 20 MB": ["X-Long: " + "y" * 20 * MEBIBYTE],
    "a path of 1 MB": [],
}


@pytest.mark.parametrize("case", HEADS)
def test_a_head_without_end_is_refused_before_it_takes_memory(
    null_server: Server, case: str
) -> None:
    path = "/" + "x" * MEBIBYTE if "path" in case else "/health/live"
    try:
        answer = exchange(null_server, f"GET {path} HTTP/1.1", "Host: x", *HEADS[case])
    except OSError:
        return  # cut off while we still sent: refused as well
    # A parser's own limit on the path may come first, with an ordinary 400.
    assert answer[:13] in (b"HTTP/1.1 431 ", b"HTTP/1.1 400 "), answer[:200]


@pytest.mark.parametrize("path", ["/api/jobs?statuss=x", "/api/jobs?limit=1&x=", "/api/queue?a=1"])
def test_an_unknown_query_parameter_is_refused_by_name(client: httpx.Client, path: str) -> None:
    unknown = path.partition("?")[2].rpartition("&")[2].partition("=")[0]
    expect_problem(client.get(path), 422, f'"pointer":"{unknown}"', "Known: ")


def test_a_request_id_with_other_characters_is_replaced(null_server: Server) -> None:
    answer = exchange(null_server, "GET /health/live HTTP/1.1", "X-Request-ID: a<script>\xe9")
    assert b"<script>" not in answer
    assert b"x-request-id: " in answer


def test_a_websocket_without_a_token_is_closed_with_a_reason(null_server: Server) -> None:
    upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    answer = exchange(null_server, "GET /api/jobs/1/logs HTTP/1.1", "Host: x", *upgrade, key)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert (4000 + 401).to_bytes(2) in answer

"""Which failures are met with another try, and when: no connection, no clock."""

import pytest

from queueapi.client import _requests
from queueapi.client._requests import Answer, Request
from queueapi.client._retries import Lost, Retries

READ = _requests.get(1)
SUBMIT = _requests.submit({"script": "true"}, "key")
ONCE = _requests.refresh("token")


def answer(status: int, at: float = 0.0, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, b"", "http://test", at)


@pytest.mark.parametrize(
    ("request_", "failure", "again"),
    [
        (READ, Lost("gone", sent=True), True),
        (SUBMIT, Lost("gone", sent=True), True),
        (ONCE, Lost("gone", sent=True), False),
        (ONCE, Lost("refused", sent=False), True),
        (READ, answer(503), True),
        (ONCE, answer(503, retry_after="1"), False),
        (ONCE, answer(429, retry_after="1"), True),
        (READ, answer(429), False),
        (READ, answer(500), False),
        (SUBMIT, answer(409), False),
    ],
)
def test_what_is_repeated(request_: Request[object], failure: Answer | Lost, again: bool) -> None:
    assert (Retries(60).delay(request_, failure, 0.5) is not None) == again


def test_pauses_grow_to_a_longest() -> None:
    retries = Retries(1000)
    pauses = [retries.delay(READ, Lost("gone", sent=True), 0.9999) for _ in range(9)]
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10], rel=0.01)
    assert Retries(60).delay(READ, Lost("gone", sent=True), 0.0) == pytest.approx(0.1)


def test_the_server_knows_better() -> None:
    assert Retries(60).delay(READ, answer(503, retry_after="7"), 0.5) == 7
    assert Retries(60).delay(READ, answer(429, retry_after="61"), 0.5) is None


def test_time_is_bounded_from_the_first_failure_on() -> None:
    retries = Retries(10)
    assert retries.delay(READ, answer(503, at=100.0), 0.5) is not None
    assert retries.delay(READ, answer(503, at=109.0), 0.5) is not None
    assert retries.delay(READ, answer(503, at=110.0), 0.5) is None
    retries.succeeded()
    assert retries.delay(READ, answer(503, at=200.0), 0.5) is not None

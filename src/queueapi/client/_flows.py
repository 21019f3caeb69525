"""What the clients do, apart from how: each flow is a generator that yields actions.

A driver, `Client` or `AsyncClient`, carries each action out and sends back its outcome, so that
retries, paging, waiting and following are written once. No action raises: failures are outcomes.
"""

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from queueapi.client import _requests
from queueapi.client._requests import Answer, Page, Request, error_of
from queueapi.client._retries import Lost, Retries
from queueapi.client.errors import QueueApiError, ServerUnreachable
from queueapi.client.models import JobDetail

T = TypeVar("T")

LONG_POLL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Send:
    """→ Answer | Lost"""

    request: Request[Any]


@dataclass(frozen=True, slots=True)
class Open:
    """Begin to receive a stream. → None, or Answer | Lost where it was refused."""

    request: Request[Any]


@dataclass(frozen=True, slots=True)
class Read:
    """More of the open stream. → bytes, none of them at its end | Lost"""


@dataclass(frozen=True, slots=True)
class Pause:
    """→ None"""

    seconds: float


@dataclass(frozen=True, slots=True)
class Renew:
    """The token was refused. → whether there is another one to try"""


@dataclass(frozen=True, slots=True)
class Now:
    """→ a monotonic clock's seconds"""


@dataclass(frozen=True, slots=True)
class Emit:
    """Give this to whoever iterates. → None"""

    value: Any


Action = Send | Open | Read | Pause | Renew | Now | Emit
Flow = Generator[Action, Any, T]


def exchange(request: Request[T], patience: float) -> Flow[T]:
    """One request to its answer, with retries. Raises QueueApiError."""
    retries = Retries(patience)
    while True:
        outcome: Answer | Lost = yield Send(request)
        if isinstance(outcome, Answer) and (outcome.status < 300 or outcome.status == 304):
            return request.parse(outcome)
        yield from recover(request, outcome, retries)


def recover(request: Request[Any], outcome: Answer | Lost, retries: Retries) -> Flow[None]:
    """Get ready for another try: a new token, or a pause. Raises QueueApiError if it is no use."""
    refused = isinstance(outcome, Answer) and outcome.status == 401
    if refused and request.with_token and not retries.renewed:
        retries.renewed = True
        if (yield Renew()):
            return
    pause = retries.delay(request, outcome, random.random())  # noqa: S311 - jitter
    if pause is None:
        raise failure(outcome)
    yield Pause(pause)


def failure(outcome: Answer | Lost) -> QueueApiError:
    if isinstance(outcome, Answer):
        return error_of(outcome)
    return ServerUnreachable(outcome.url, outcome.why)


def pages(
    path: str,
    params: Mapping[str, Any],
    items: Callable[[Page], Sequence[Any]],
    patience: float,
) -> Flow[None]:
    """Emits the items of all pages of a list."""
    cursor: str | None = None
    while True:
        found = yield from exchange(_requests.page(path, params, cursor), patience)
        for item in items(found):
            yield Emit(item)
        cursor = found.next
        if cursor is None:
            return


def wait(job_id: int, timeout: float | None, patience: float) -> Flow[JobDetail]:
    """The job once it has ended. Raises TimeoutError after `timeout` seconds."""
    begun: float = yield Now()
    job = yield from exchange(_requests.get(job_id), patience)
    while not job.ended:
        seconds = LONG_POLL_SECONDS
        if timeout is not None:
            now: float = yield Now()
            seconds = min(seconds, begun + timeout - now)
            if seconds <= 0:
                raise TimeoutError(f"Job {job_id} is {job.status} after {timeout:g} seconds.")
        job = (yield from next_change(job, patience, seconds)) or job
    return job


def next_change(
    job: JobDetail, patience: float, seconds: float = LONG_POLL_SECONDS
) -> Flow[JobDetail | None]:
    """The job after its next change; None if there is none within so many seconds."""
    request = _requests.changed(job.id, job.version, seconds)
    return (yield from exchange(request, patience))

"""Builds requests and reads answers. Pure: no connection, no clock."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter, ValidationError

from queueapi.client.errors import NotAQueueApi, QueueApiError
from queueapi.client.log_parts import LogPart
from queueapi.client.models import (
    Document,
    Event,
    Group,
    GroupSummary,
    Job,
    JobDetail,
    Member,
    Profile,
    Queue,
    QueuePage,
    Registered,
    SchedulerStatus,
    TokenPair,
    User,
    Workflow,
    WorkflowSummary,
)
from queueapi.client.submitted import SubmittedJob

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)

ANSWER_SECONDS = 30.0
SIGN_OF_LIFE_SECONDS = 15.0  # between two comments on a silent stream


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    at: float = 0.0  # of a monotonic clock, seconds


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """`repeatable`: carrying it out twice is the same as once, so that a lost answer is no harm."""

    method: str
    path: str
    parse: Callable[[Answer], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    file: Path | None = None  # the body, in place of `body`
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    with_token: bool = True
    timeout: float = ANSWER_SECONDS  # seconds without a byte


class Page(Document):
    """A page of any list: its items are under one of these names."""

    jobs: list[Job] | None = None
    items: list[dict[str, Any]] | None = None
    next: str | None = None


def error_of(answer: Answer) -> QueueApiError:
    """The error that an answer stands for, whoever sent it."""
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return NotAQueueApi(answer.status, answer.url, "not with a problem document")
    seconds = answer.headers.get("retry-after", "")
    return QueueApiError(answer.status, document, float(seconds) if seconds.isdigit() else None)


def _load(kind: Any, answer: Answer) -> Any:
    try:
        return TypeAdapter(kind).validate_json(answer.body)
    except ValidationError as error:
        why = f"{error.error_count()} part(s) of the answer are missing or of another kind"
        raise NotAQueueApi(answer.status, answer.url, why) from None


def _reader(kind: type[Model]) -> Callable[[Answer], Model]:
    def read(answer: Answer) -> Model:
        found: Model = _load(kind, answer)
        return found

    return read


def _nothing(answer: Answer) -> None:
    return None


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


# Accounts


def login(email: str, password: str) -> Request[TokenPair]:
    body = {"email": email, "password": password}
    return Request("POST", "/api/auth/login", _reader(TokenPair), body=body, with_token=False)


def refresh(refresh_token: str) -> Request[TokenPair]:
    """Never repeated after a lost answer: the second use of a refresh token ends the login."""
    body = {"refresh_token": refresh_token}
    return Request("POST", "/api/auth/refresh", _reader(TokenPair), body=body, with_token=False)


def logout() -> Request[None]:
    return Request("POST", "/api/auth/logout", _nothing, repeatable=True)


def register(email: str, password: str, group: str | None) -> Request[Registered]:
    body = _given(email=email, password=password, group=group)
    return Request("POST", "/api/auth/register", _reader(Registered), body=body, with_token=False)


def me() -> Request[Profile]:
    return Request("GET", "/api/auth/me", _reader(Profile), repeatable=True)


# Jobs


def submit(body: Mapping[str, Any], key: str) -> Request[SubmittedJob]:
    headers = {"Idempotency-Key": key}
    read = _reader(SubmittedJob)
    return Request("POST", "/api/jobs", read, body=body, headers=headers, repeatable=True)


def _job_ids(answer: Answer) -> list[int]:
    found: dict[str, Any] = _load(dict[str, Any], answer)
    return list(found.get("job_ids", []))


def submit_many(jobs: Sequence[Mapping[str, Any]], key: str) -> Request[list[int]]:
    return Request(
        "POST",
        "/api/jobs/batch",
        _job_ids,
        body={"jobs": list(jobs)},
        headers={"Idempotency-Key": key},
        repeatable=True,
        timeout=2 * ANSWER_SECONDS,
    )


def get(job_id: int, wait: float = 0.0) -> Request[JobDetail]:
    return Request(
        "GET",
        f"/api/jobs/{job_id}",
        _reader(JobDetail),
        params={"wait": wait} if wait else {},
        repeatable=True,
        timeout=ANSWER_SECONDS + wait,
    )


def changed(job_id: int, version: int, wait: float) -> Request[JobDetail | None]:
    """The job once it is past this version; None if it still is at it after `wait` seconds."""

    def read(answer: Answer) -> JobDetail | None:
        return None if answer.status == 304 else _reader(JobDetail)(answer)

    return Request(
        "GET",
        f"/api/jobs/{job_id}",
        read,
        params={"wait": wait},
        headers={"If-None-Match": f'"{version}"'},
        repeatable=True,
        timeout=ANSWER_SECONDS + wait,
    )


def page(path: str, params: Mapping[str, Any], cursor: str | None) -> Request[Page]:
    asked = {**params, "cursor": cursor} if cursor else dict(params)
    return Request("GET", path, _reader(Page), params=asked, repeatable=True)


def _control(
    job_id: int, verb: str, tasks: str | None, *, method: str = "POST", repeatable: bool = False
) -> Request[Job]:
    return Request(
        method,
        f"/api/jobs/{job_id}{verb}",
        _reader(Job),
        params=_given(tasks=tasks),
        repeatable=repeatable,
        timeout=4 * ANSWER_SECONDS,  # an array may have very many tasks
    )


def cancel(job_id: int, tasks: str | None = None) -> Request[Job]:
    return _control(job_id, "", tasks, method="DELETE", repeatable=True)


def hold(job_id: int, tasks: str | None = None) -> Request[Job]:
    return _control(job_id, "/hold", tasks, repeatable=True)


def release(job_id: int, tasks: str | None = None) -> Request[Job]:
    return _control(job_id, "/release", tasks)


def requeue(job_id: int, tasks: str | None = None) -> Request[Job]:
    return _control(job_id, "/requeue", tasks)


def task(array_id: int, index: int) -> Request[Job]:
    return Request("GET", f"/api/jobs/{array_id}/tasks/{index}", _reader(Job), repeatable=True)


def suspend(job_id: int) -> Request[Job]:
    return Request("POST", f"/api/jobs/{job_id}/suspend", _reader(Job), repeatable=True)


def resume(job_id: int) -> Request[Job]:
    return Request("POST", f"/api/jobs/{job_id}/resume", _reader(Job))


def set_priority(job_id: int, priority: int, version: int | None) -> Request[Job]:
    """With `version` it is refused (412) if the job is past it."""
    headers = {"If-Match": f'"{version}"'} if version is not None else {}
    return Request(
        "PATCH",
        f"/api/jobs/{job_id}",
        _reader(Job),
        body={"priority": priority},
        headers=headers,
        repeatable=version is None,
    )


def _events(answer: Answer) -> list[Event]:
    found: dict[str, list[Event]] = _load(dict[str, list[Event]], answer)
    return found.get("events", [])


def events(job_id: int) -> Request[list[Event]]:
    return Request("GET", f"/api/jobs/{job_id}/events", _events, repeatable=True)


def queue(limit: int, cursor: str | None, name: str | None) -> Request[QueuePage]:
    params = _given(limit=limit, cursor=cursor, queue=name)
    return Request("GET", "/api/queue", _reader(QueuePage), params=params, repeatable=True)


def scheduler() -> Request[SchedulerStatus]:
    return Request("GET", "/api/scheduler", _reader(SchedulerStatus), repeatable=True)


# Queues


def get_queue(name: str) -> Request[Queue]:
    return Request("GET", _queue_path(name), _reader(Queue), repeatable=True)


def create_queue(fields: Mapping[str, Any]) -> Request[Queue]:
    return Request("POST", "/api/queues", _reader(Queue), body=fields)


def change_queue(name: str, changes: Mapping[str, Any]) -> Request[Queue]:
    return Request("PATCH", _queue_path(name), _reader(Queue), body=changes, repeatable=True)


def delete_queue(name: str) -> Request[None]:
    return Request("DELETE", _queue_path(name), _nothing)


def _queue_path(name: str) -> str:
    return f"/api/queues/{quote(name, safe='')}"


# Workflows


def submit_workflow(body: Mapping[str, Any], key: str) -> Request[Workflow]:
    return Request(
        "POST",
        "/api/workflows",
        _reader(Workflow),
        body=body,
        headers={"Idempotency-Key": key},
        repeatable=True,
        timeout=2 * ANSWER_SECONDS,
    )


def get_workflow(workflow_id: int) -> Request[Workflow]:
    return Request("GET", f"/api/workflows/{workflow_id}", _reader(Workflow), repeatable=True)


def cancel_workflow(workflow_id: int) -> Request[Workflow]:
    return Request("DELETE", f"/api/workflows/{workflow_id}", _reader(Workflow), repeatable=True)


def as_workflows(found: Page) -> list[WorkflowSummary]:
    return [WorkflowSummary.model_validate(item) for item in found.items or ()]


# Logs


def _log_part(answer: Answer) -> LogPart:
    offset, size = (answer.headers.get(f"x-log-{name}", "0") for name in ("offset", "size"))
    return LogPart(answer.body, int(offset), int(size))


def logs(
    job_id: int,
    stream: str,
    *,
    attempt: int | None = None,
    offset: int | None = None,
    limit: int | None = None,
    tail: int | None = None,
) -> Request[LogPart]:
    params = _given(stream=stream, attempt=attempt, offset=offset, limit=limit, tail=tail)
    return Request("GET", f"/api/jobs/{job_id}/logs", _log_part, params=params, repeatable=True)


def live_log(job_id: int, stream: str, attempt: int | None, offset: int) -> Request[None]:
    """Server-sent events."""
    return Request(
        "GET",
        f"/api/jobs/{job_id}/logs",
        _nothing,
        params=_given(stream=stream, attempt=attempt, follow="true"),
        headers={"Accept": "text/event-stream", "Last-Event-ID": str(offset)},
        repeatable=True,
        timeout=3 * SIGN_OF_LIFE_SECONDS,
    )


# Groups and people


def create_group(fields: Mapping[str, Any]) -> Request[Group]:
    return Request("POST", "/api/groups", _reader(Group), body=fields)


def get_group(group_id: int) -> Request[Group]:
    return Request("GET", f"/api/groups/{group_id}", _reader(Group), repeatable=True)


def change_group(group_id: int, changes: Mapping[str, Any]) -> Request[Group]:
    path = f"/api/groups/{group_id}"
    return Request("PATCH", path, _reader(Group), body=changes, repeatable=True)


def set_member(group_id: int, user_id: int, role: str, **fields: Any) -> Request[Member]:
    path = f"/api/groups/{group_id}/members/{user_id}"
    body = {"role": role, **fields}
    return Request("PUT", path, _reader(Member), body=body, repeatable=True)


def change_user(user_id: int, changes: Mapping[str, Any]) -> Request[User]:
    path = f"/api/users/{user_id}"
    return Request("PATCH", path, _reader(User), body=changes, repeatable=True)


def as_jobs(found: Page) -> list[Job]:
    return found.jobs or []


def as_groups(found: Page) -> list[GroupSummary]:
    return [GroupSummary.model_validate(item) for item in found.items or ()]


def as_queues(found: Page) -> list[Queue]:
    return [Queue.model_validate(item) for item in found.items or ()]


def as_users(found: Page) -> list[User]:
    return [User.model_validate(item) for item in found.items or ()]

"""The job routes. Each takes one hop to a use case."""

import asyncio
import contextlib
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from starlette.requests import HTTPConnection

from queueapi import problems
from queueapi.auth.dependencies import require
from queueapi.auth.principal import Principal, Scope
from queueapi.db.session import Database, DatabaseOf, Session
from queueapi.errors import (
    Conflict,
    IdempotencyKeyReused,
    LimitExceeded,
    NotFound,
    Unavailable,
)
from queueapi.executors.base import Stream
from queueapi.fields import Id, Instant, QueueName, Word
from queueapi.jobs import control, history, query, queue, schemas
from queueapi.jobs.admission import Submission
from queueapi.jobs.changes import ChangeFeed
from queueapi.jobs.dependencies import WAITS
from queueapi.jobs.directives import warnings
from queueapi.jobs.group_commit import GroupCommit
from queueapi.jobs.kept import Executors
from queueapi.jobs.logs import Log
from queueapi.jobs.models import TERMINAL_STATES, JobState
from queueapi.jobs.submit import Accepted
from queueapi.jobs.waiting import NOT_SEEN, REQUEUED, explain
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["jobs"], route_class=StrictRoute)

MAX_WAIT_SECONDS = 60

Reader = Annotated[Principal, Depends(require(Scope.JOBS_READ))]
Writer = Annotated[Principal, Depends(require(Scope.JOBS_WRITE))]
JobId = Annotated[Id, Path(description="The job's id")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many to return at the most")]
Cursor = Annotated[
    str | None, Query(max_length=200, description="`next` of the page before this one")
]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Repeat a submit with the same key as often as you like: one job comes of it",
    ),
]
JOB_PROBLEMS = problems.responses(*problems.COMMON, NotFound)
SUBMIT_PROBLEMS = problems.responses(
    *problems.COMMON, NotFound, LimitExceeded, Conflict, IdempotencyKeyReused
)


# Asynchronous, although they wait for nothing: FastAPI runs plain functions in a thread.
async def get_group_commit(connection: HTTPConnection) -> GroupCommit:
    found: GroupCommit = connection.app.state.group_commit
    return found


async def get_queue(connection: HTTPConnection) -> queue.QueueView:
    found: queue.QueueView = connection.app.state.queue
    return found


async def get_feed(connection: HTTPConnection) -> ChangeFeed:
    found: ChangeFeed = connection.app.state.feed
    return found


async def get_executors(connection: HTTPConnection) -> Executors:
    found: Executors = connection.app.state.executors
    return found


Queue = Annotated[queue.QueueView, Depends(get_queue)]
Submitter = Annotated[GroupCommit, Depends(get_group_commit)]
Feed = Annotated[ChangeFeed, Depends(get_feed)]
ExecutorsOf = Annotated[Executors, Depends(get_executors)]


@router.post(
    "/jobs",
    operation_id="submit_job",
    status_code=201,
    response_model=schemas.SubmittedJob,
    responses=SUBMIT_PROBLEMS,
    summary="Submit a job",
)
async def submit_job(
    body: schemas.JobSubmission,
    principal: Writer,
    submitter: Submitter,
    key: Key = None,
) -> Response:
    """Stores the job; it is durable when this answers. Send an Idempotency-Key to be able to
    repeat the request after a lost answer without submitting twice. With `array` one request
    makes as many tasks as that names; each is a job, and the answer is the job for all."""
    accepted = await submitter.submit(Submission(principal, [body], key))
    [job_id] = accepted.job_ids
    if accepted.replayed or body.depends_on:
        async with submitter.database.transaction() as session:
            jobs = await query.documents_by_id(session, [job_id])
        if job_id not in jobs:
            raise query.not_found(job_id)
        job = schemas.SubmittedJob(**jobs[job_id].model_dump(), warnings=warnings(body.script))
    else:
        job = query.new_document(body, principal, accepted)
    headers = {"Location": f"/api/jobs/{job_id}", "ETag": control.etag(job.version)}
    return _created(job.model_dump_json(), headers | _replay_header(accepted))


@router.post(
    "/jobs/batch",
    operation_id="submit_jobs",
    status_code=201,
    response_model=schemas.BatchResult,
    responses=SUBMIT_PROBLEMS,
    summary="Submit many jobs, all or none",
)
async def submit_jobs(
    body: schemas.BatchSubmission, principal: Writer, submitter: Submitter, key: Key = None
) -> Response:
    """In one transaction: when one job is refused, none is stored, and the answer names it."""
    accepted = await submitter.submit(Submission(principal, body.jobs, key, in_list=True))
    said = ((index, warnings(job.script)) for index, job in enumerate(body.jobs))
    result = schemas.BatchResult.model_construct(
        job_ids=accepted.job_ids,
        warnings=[
            schemas.BatchWarning(index=index, warnings=words) for index, words in said if words
        ],
    )
    return _created(result.model_dump_json(), _replay_header(accepted))


def _created(content: str, headers: dict[str, str]) -> Response:
    return Response(content, status_code=201, media_type="application/json", headers=headers)


def _replay_header(accepted: Accepted) -> dict[str, str]:
    return {"Idempotency-Replayed": "true"} if accepted.replayed else {}


StatusWord = Literal[
    "pending", "queued", "starting", "running", "suspended", "completed", "failed", "cancelled"
]
Statuses = Annotated[
    list[StatusWord] | None,
    Query(description="Repeat it for several; `pending` is another word for queued"),
]


def as_states(words: list[StatusWord] | None) -> list[JobState]:
    return [JobState.QUEUED if word == "pending" else JobState(word) for word in words or ()]


@router.get(
    "/jobs",
    operation_id="list_jobs",
    response_model=schemas.JobPage,
    responses=JOB_PROBLEMS,
    summary="List jobs, newest first",
)
async def list_jobs(
    principal: Reader,
    database: DatabaseOf,
    view: Queue,
    status: Statuses = None,
    group: Annotated[schemas.Line | None, Query(description="A group's name")] = None,
    name: Annotated[schemas.Line | None, Query(description="A job's exact name")] = None,
    tag: Annotated[Word | None, Query(description="One of a job's tags")] = None,
    queue: Annotated[QueueName | None, Query(description="A queue's name")] = None,
    created_after: Annotated[Instant | None, Query(description="Or at that instant")] = None,
    created_before: Annotated[Instant | None, Query(description="Not at it")] = None,
    array_id: Annotated[
        Id | None, Query(description="The tasks of this array; else it is listed once itself")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Yours, those of the groups that you manage, and to administrators all. An array is one
    entry; its tasks are listed where `array_id` names it."""
    wanted = query.JobFilter(
        states=as_states(status),
        group=group,
        name=name,
        tag=tag,
        queue=queue,
        created_after=created_after,
        created_before=created_before,
        array_id=array_id,
    )
    async with database.transaction() as session:
        page = await query.list_jobs(session, principal, wanted, limit, cursor)
    await explain(database, view, {job.id: job for job in page.jobs})
    return Response(page.model_dump_json(), media_type="application/json")


@router.get(
    "/jobs/{job_id}",
    operation_id="get_job",
    response_model=schemas.JobDetail,
    responses=JOB_PROBLEMS | {304: {"description": "It is as you know it (If-None-Match)"}},
    summary="One job, with all that is known of it",
)
async def get_job(
    job_id: JobId,
    principal: Reader,
    database: DatabaseOf,
    feed: Feed,
    view: Queue,
    executors: ExecutorsOf,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=MAX_WAIT_SECONDS,
            allow_inf_nan=False,
            description="Seconds to wait for a change, of the version in If-None-Match or else "
            "of the present one; a job that has ended is not waited for",
        ),
    ] = 0,
    if_none_match: Annotated[
        str | None, Header(max_length=1000, description="The ETag of what you have")
    ] = None,
) -> Response:
    """The ETag is the version of the job's record. Log tails and estimates move without it."""
    record = await _record(database, principal, job_id)
    unchanged = if_none_match is None or control.matches(if_none_match, record.version)
    # A job that has ended will not change by itself: nobody should wait for it.
    if wait > 0 and unchanged and record.status not in TERMINAL_STATES:
        known = record.version
        with feed.watching(job_id) as changed:
            try:
                async with asyncio.timeout(wait):
                    while (record := await _record(database, principal, job_id)).version == known:
                        await changed.wait()
                        changed.clear()
            except TimeoutError:
                pass
    headers = {"ETag": control.etag(record.version)}
    if control.matches(if_none_match, record.version):
        return Response(status_code=304, headers=headers)
    detail = await _detail(record, view, executors)
    return Response(detail.model_dump_json(), media_type="application/json", headers=headers)


async def _record(database: Database, principal: Principal, job_id: int) -> query.JobRecord:
    async with database.transaction() as session:
        return await query.job_record(session, principal, job_id)


async def _detail(
    record: query.JobRecord, view: queue.QueueView, executors: Executors
) -> schemas.JobDetail:
    """The record with what the scheduler and the executor add to it."""
    fields = dict(record.fields)
    queued = record.status is JobState.QUEUED
    waits = queued and not record.fields["held"] and not record.waits_for_jobs
    waits = waits or record.goes_on
    outlook = None
    if waits:
        with contextlib.suppress(Unavailable):  # nobody leads: all else is known
            outlook = await view.outlook(record.waits_as)
    if outlook is not None and outlook.reason == WAITS:
        outlook = None  # what it waited for has just come, and the scheduler did not hear of it yet
    if outlook is not None:
        fields |= {"reason": outlook.reason, "reason_message": outlook.message}
    elif waits and fields["reason"] in REQUEUED:
        fields |= {"reason": NOT_SEEN.reason, "reason_message": NOT_SEEN.message}
    last = record.attempts[-1] if record.attempts else None
    tails = {}
    for stream in Stream:
        tails[stream] = ""
        if last is not None and last.cluster in executors and not last.files_removed_at:
            log = Log(executors[last.cluster], last.launch_key, stream)
            with contextlib.suppress(Unavailable):  # all else is known
                tails[stream] = await log.tail(await log.size())
    return schemas.JobDetail(
        **fields,
        script=record.script,
        warnings=warnings(record.script),
        env=record.env,
        input_data=record.input_data,
        provider_job_id=last.remote_id if last else None,
        position=outlook.position if outlook else None,
        priority_factors=outlook.priority if outlook else None,
        estimated_start=outlook.start.p50 if outlook and outlook.start else None,
        estimated_start_range=outlook.start if outlook else None,
        estimated_cpu_minutes=record.estimated_cpu_minutes,
        depends_on=record.depends_on,
        dependents=record.dependents,
        on_dependency_failure=record.on_dependency_failure,
        workflow_id=record.workflow_id,
        attempts=[history.attempt_document(a, executors.get(a.cluster)) for a in record.attempts],
        usage=record.usage,
        stdout_tail=tails[Stream.STDOUT],
        stderr_tail=tails[Stream.STDERR],
    )


@router.get(
    "/jobs/{job_id}/events",
    operation_id="list_job_events",
    response_model=schemas.EventList,
    responses=JOB_PROBLEMS,
    summary="What happened to a job, in order",
)
async def list_job_events(job_id: JobId, principal: Reader, session: Session) -> Any:
    """From the submission to the end: each change of its state, and what people did to it."""
    return await history.job_events(session, principal, job_id)

"""Dependencies at submit: what a graph must be, who may be waited for, and how it is stored."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.errors import FieldError, Invalid, NotFound
from queueapi.jobs.array_indices import ArrayIndices
from queueapi.jobs.by_task import Match, store_by_task, unlike
from queueapi.jobs.dependencies import NEVER, Decided, outcome
from queueapi.jobs.lifecycle import Transition, transition
from queueapi.jobs.models import DependencyKind, DependencyState, JobState, OnDependencyFailure
from queueapi.jobs.schemas import JobSubmission
from queueapi.jobs.workflow_schemas import WorkflowJob

MAX_WAITS = 100_000  # of all jobs of a workflow
MAX_SHOWN = 100  # errors in one answer
MAX_NAMED = 20  # labels of a circle


@dataclass(frozen=True, slots=True)
class Wait:
    """That one job of a submission waits for another; both are places in its list of jobs."""

    job: int
    waits_for: int
    kind: DependencyKind


@dataclass(frozen=True, slots=True)
class Graph:
    """What makes a workflow of the jobs of a submission."""

    name: str
    labels: Sequence[str]
    waits: Sequence[Wait]


@dataclass(frozen=True, slots=True)
class Edge:
    """A dependency to be stored, between jobs that have ids; `status` is the parent's state."""

    job_id: int
    depends_on: int
    kind: DependencyKind
    status: JobState

    @property
    def state(self) -> DependencyState:
        return outcome(self.kind, self.status)


Parents = Mapping[int, Row[Any]]  # by id: user_id, group_id, state, array_indices; locked

# The same lock that a transition takes, before the counts, as there: so neither waits in a circle,
# and a job that ends now is either seen to have ended, or will see who waits for it.
_LOOK = text("SELECT id, user_id, group_id, state, array_indices FROM jobs WHERE id = ANY(:ids)")
_LOCK = text(f"{_LOOK.text} ORDER BY id FOR NO KEY UPDATE")
_STORE = text("""
INSERT INTO job_dependencies (job_id, depends_on, kind, state)
SELECT * FROM unnest(CAST(:jobs AS bigint[]), CAST(:parents AS bigint[]), CAST(:kinds AS text[]),
                     CAST(:states AS text[]))
""")
_MARK = text("""
UPDATE jobs SET
    unmet_dependencies = coalesce(m.unmet, jobs.unmet_dependencies),
    on_dependency_failure = coalesce(m.on_failure, jobs.on_dependency_failure),
    has_dependents = jobs.has_dependents OR m.needed
FROM unnest(CAST(:ids AS bigint[]), CAST(:unmet AS int[]), CAST(:on_failure AS text[]),
            CAST(:needed AS bool[])) AS m (id, unmet, on_failure, needed)
WHERE jobs.id = m.id
""")
_STORE_WORKFLOW = text("""
WITH workflow AS (
    INSERT INTO workflows (user_id, group_id, name) VALUES (:user_id, :group_id, :name)
    RETURNING id
)
INSERT INTO workflow_jobs (workflow_id, label, job_id)
SELECT w.id, j.label, j.job_id
FROM workflow w, unnest(CAST(:labels AS text[]), CAST(:ids AS bigint[])) AS j (label, job_id)
""")


def arrange(name: str, jobs: Sequence[WorkflowJob]) -> Graph:
    """The graph that the labels describe. Raises Invalid, which names what is wrong with it."""
    places: dict[str, int] = {}
    errors = []
    for place, job in enumerate(jobs):
        first = places.setdefault(job.label, place)
        if first != place:
            words = f"{job.label!r} is the label of /jobs/{first} already; choose another"
            errors.append(FieldError(f"/jobs/{place}/label", words))
    total = sum(len(job.waits_for) for job in jobs)
    if total > MAX_WAITS:
        words = f"all jobs together wait for {total} others; the most is {MAX_WAITS}"
        errors.append(FieldError("/jobs", words))
    waits = []
    for place, job in enumerate(jobs if not errors else ()):
        seen: set[str] = set()
        for number, wait in enumerate(job.waits_for):
            wrong = _what_is_wrong(wait.label, job, places, seen)
            seen.add(wait.label)
            if wrong is None:
                waits.append(Wait(place, places[wait.label], wait.kind))
            else:
                errors.append(FieldError(f"/jobs/{place}/waits_for/{number}/label", wrong))
    errors = errors or _circle(jobs, waits) or unlike(_matches(jobs, places))
    if errors:
        raise Invalid(
            f"These jobs make no workflow. First, {errors[0].pointer}: {errors[0].message}.",
            errors=errors[:MAX_SHOWN],
        )
    return Graph(name, list(places), waits)


def _what_is_wrong(
    label: str, job: WorkflowJob, places: Mapping[str, int], seen: set[str]
) -> str | None:
    if label not in places:
        return f"no job of this workflow has the label {label!r}"
    if label == job.label:
        return f"{label!r} can't wait for itself"
    if label in seen:
        return f"{job.label!r} names {label!r} twice; once is enough"
    return None


def _circle(jobs: Sequence[WorkflowJob], waits: Sequence[Wait]) -> list[FieldError]:
    before: dict[int, list[int]] = {}
    for wait in waits:
        before.setdefault(wait.job, []).append(wait.waits_for)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]  # each waits for the next; the last is the first
        names = [jobs[place].label for place in circle]
        if len(names) > MAX_NAMED:
            names[MAX_NAMED - 1 : -1] = [f"({len(names) - MAX_NAMED} more)"]
        words = f"a circle, in which each waits for the next: {' → '.join(names)}"
        return [FieldError(f"/jobs/{place}/waits_for", words) for place in circle[:-1]]
    return []


def _matches(jobs: Sequence[WorkflowJob], places: Mapping[str, int]) -> Iterator[Match]:
    for place, job in enumerate(jobs):
        for number, wait in enumerate(job.waits_for):
            if wait.kind is DependencyKind.AFTERCORR:
                other = jobs[places[wait.label]].indices
                pointer = f"/jobs/{place}/waits_for/{number}/kind"
                yield Match(pointer, job.indices, repr(wait.label), other)


async def lock_parents(
    session: AsyncSession, jobs: Iterable[JobSubmission], *, lock: bool = True
) -> Parents:
    """The jobs that these are to wait for. They stay as they are until the transaction ends, but
    for a first look without `lock`."""
    ids = sorted({one.job_id for job in jobs for one in job.depends_on})
    if not ids:
        return {}
    return {row.id: row for row in await session.execute(_LOCK if lock else _LOOK, {"ids": ids})}


def check_parents(
    principal: Principal, jobs: Sequence[JobSubmission], parents: Parents, in_list: bool
) -> None:
    """Raises NotFound for a job that this person may not see, or that is not there, and Invalid
    for arrays that have not the same tasks where each is to wait for another."""
    errors, matches = [], []
    for place, job in enumerate(jobs):
        for number, one in enumerate(job.depends_on):
            row = parents.get(one.job_id)
            pointer = f"{f'/jobs/{place}' if in_list else ''}/depends_on/{number}"
            if row is None or not principal.may_see(row.user_id, row.group_id):
                words = f"there is no job {one.job_id} that you may see"
                errors.append(FieldError(f"{pointer}/job_id", words))
            elif one.kind is DependencyKind.AFTERCORR:
                other = ArrayIndices.parse(row.array_indices) if row.array_indices else None
                name = f"job {one.job_id}"
                matches.append(Match(f"{pointer}/kind", job.indices, name, other))
    if errors:
        raise NotFound(
            f"A job can't wait for what is not there: {errors[0].message}.",
            errors=errors[:MAX_SHOWN],
        )
    if wrong := unlike(matches):
        raise Invalid(
            f"These arrays can't wait task by task. First, {wrong[0].pointer}: {wrong[0].message}.",
            errors=wrong[:MAX_SHOWN],
        )


def edges(
    jobs: Sequence[JobSubmission], ids: Sequence[int], parents: Parents, graph: Graph | None
) -> list[Edge]:
    """The dependencies of jobs that have just been stored under these ids."""
    found = [
        Edge(job_id, one.job_id, one.kind, JobState(parents[one.job_id].state))
        for job_id, job in zip(ids, jobs, strict=True)
        for one in job.depends_on
    ]
    for wait in graph.waits if graph else ():
        found.append(Edge(ids[wait.job], ids[wait.waits_for], wait.kind, JobState.QUEUED))
    return found


async def link(session: AsyncSession, found: Sequence[Edge], staying: Collection[int]) -> None:
    """Store dependencies of new jobs. One that can't hold as things are cancels its job at once,
    but for those that asked to stay."""
    if not found and not staying:
        return
    values = {
        "jobs": [edge.job_id for edge in found],
        "parents": [edge.depends_on for edge in found],
        "kinds": [edge.kind for edge in found],
        "states": [edge.state for edge in found],
    }
    await session.execute(_STORE, values)
    await session.execute(_MARK, _marks(found, staying))
    by_task = [edge for edge in found if edge.kind is DependencyKind.AFTERCORR]
    dead = {}
    if by_task:
        pairs = {(e.job_id, e.depends_on): e.state is not DependencyState.WAITING for e in by_task}
        dead = await store_by_task(session, pairs, staying)
    for edge in found:
        fails = edge.state is DependencyState.FAILED and edge.kind is not DependencyKind.AFTERCORR
        if fails and edge.job_id not in staying:
            why = Decided(edge.job_id, edge.depends_on, edge.kind, edge.state, edge.status)
            dead[edge.job_id] = Transition(
                edge.job_id, JobState.CANCELLED, "cancelled", reason=NEVER, message=why.words
            )
    await transition(session, list(dead.values()))


def _marks(found: Sequence[Edge], staying: Collection[int]) -> dict[str, list[Any]]:
    unmet = Counter(
        edge.job_id
        for edge in found
        if edge.state is not DependencyState.SATISFIED and edge.kind is not DependencyKind.AFTERCORR
    )
    waiting = {edge.job_id for edge in found}
    needed = {e.depends_on for e in found if e.state is not DependencyState.SATISFIED}
    ids = sorted(waiting.union(needed, staying))
    return {
        "ids": ids,
        "unmet": [unmet[i] if i in waiting else None for i in ids],
        "on_failure": [OnDependencyFailure.WAIT if i in staying else None for i in ids],
        "needed": [i in needed for i in ids],
    }


async def store_workflow(
    session: AsyncSession, graph: Graph, user_id: int, group_ids: Iterable[int], ids: Sequence[int]
) -> None:
    """`group_ids`: that the jobs charge."""
    groups = set(group_ids)
    values = {
        "user_id": user_id,
        "group_id": groups.pop() if len(groups) == 1 else None,
        "name": graph.name,
        "labels": list(graph.labels),
        "ids": list(ids),
    }
    await session.execute(_STORE_WORKFLOW, values)

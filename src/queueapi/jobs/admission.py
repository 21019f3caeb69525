"""Whether jobs are accepted: what that is decided on, and the decision."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.clock import utc_now
from queueapi.clusters.access import Rules as ClusterRules
from queueapi.clusters.access import load_rules as load_cluster_rules
from queueapi.clusters.admission import check_reservation, open_reservations
from queueapi.clusters.models import NodeReservation
from queueapi.config import Settings
from queueapi.files.admission import Owned, check_folder, folder_id, load_owned
from queueapi.jobs.allowances import load_allowances
from queueapi.jobs.data_schemas import folders_of
from queueapi.jobs.graph import Graph, Parents, check_parents, lock_parents
from queueapi.jobs.limits import Admission, Allowance, check
from queueapi.jobs.schemas import JobSubmission
from queueapi.queues.admission import Rules, load_rules

# What a release added counts where it is asked for alone: while two releases serve one database, a
# submit that is repeated at the other one must be known for the same.
_ADDED: Final = frozenset(
    {"memory_per_gpu_gb", "slurm", "cluster", "container", "site", "executable", "data"}
)


@dataclass(frozen=True, slots=True)
class Submission:
    """What one request asks for. `key` is its Idempotency-Key."""

    principal: Principal
    jobs: Sequence[JobSubmission]
    key: str | None = None
    in_list: bool = False  # the jobs are the member `jobs` of the body, and not the body itself
    graph: Graph | None = None  # makes a workflow of them

    def body_hash(self) -> str:
        """Tells requests with the same key apart; blind to white space and to defaults."""
        digest = hashlib.sha256()
        if self.graph is not None:
            digest.update(f"workflow {self.graph.name!r}".encode())
        for job in self.jobs:
            unasked = {name for name in _ADDED if getattr(job, name) is None}
            digest.update(job.model_dump_json(exclude=unasked).encode())
        return digest.hexdigest()

    @property
    def rows(self) -> int:
        """How many jobs are stored, with the tasks of arrays."""
        return sum(job.array_size for job in self.jobs)


@dataclass(frozen=True, slots=True)
class Grounds:
    """What submissions are accepted or refused on."""

    now: datetime
    queues: Sequence[Rules]  # all
    clusters: Sequence[ClusterRules]  # all
    allowances: Mapping[int, Allowance]  # by user
    parents: Parents
    reservations: Mapping[str, NodeReservation]  # by name
    folders: Mapping[int, Owned]  # those that are named and are there


async def load_grounds(
    session: AsyncSession,
    settings: Settings,
    submissions: Sequence[Submission],
    *,
    lock: bool = True,
) -> Grounds:
    """What these submissions are decided on. With `lock` it holds until the transaction ends."""
    users = sorted({s.principal.user_id for s in submissions})
    jobs = [job for s in submissions for job in s.jobs]
    parents = await lock_parents(session, jobs, lock=lock)
    queues = await load_rules(session)
    clusters = await load_cluster_rules(session, users)
    allowances = await load_allowances(session, settings, queues, users, lock=lock)
    now = utc_now()
    named = {job.reservation for job in jobs if job.reservation is not None}
    reservations = await open_reservations(session, named, now)
    refs = {ref for job in jobs for ref in folders_of(job.executable, job.data).values()}
    folders = await load_owned(session, {folder_id(ref) for ref in refs}, lock=lock)
    return Grounds(now, queues, clusters, allowances, parents, reservations, folders)


def decide(settings: Settings, submission: Submission, grounds: Grounds) -> list[Admission]:
    """Where each job belongs. Raises the Problem of a refusal.

    Jobs that are accepted count: a later submission of the same user meets the higher figures.
    """
    allowance = grounds.allowances[submission.principal.user_id]
    _check_reservations(allowance, submission, grounds.reservations, grounds.now)
    _check_folders(allowance, submission, grounds.folders)
    check_parents(submission.principal, submission.jobs, grounds.parents, submission.in_list)
    return check(
        settings,
        submission.principal,
        allowance,
        grounds.queues,
        grounds.clusters,
        submission.jobs,
    )


def _check_reservations(
    allowance: Allowance,
    submission: Submission,
    reservations: Mapping[str, NodeReservation],
    now: datetime,
) -> None:
    """Whether each job may run in the reservation that it names. Raises a Problem."""
    for index, job in enumerate(submission.jobs):
        if job.reservation is not None:
            check_reservation(
                reservations.get(job.reservation),
                job.reservation,
                user_id=submission.principal.user_id,
                group_id=allowance.group(job.group).group_id,
                time_limit=job.time_limit,
                now=now,
                place=f"/jobs/{index}" if submission.in_list else "",
            )


def _check_folders(
    allowance: Allowance, submission: Submission, folders: Mapping[int, Owned]
) -> None:
    """Whether each job may use the folders that it names. Raises a Problem."""
    groups = {membership.group_id for membership in allowance.memberships.values()}
    for index, job in enumerate(submission.jobs):
        place = f"/jobs/{index}" if submission.in_list else ""
        for pointer, ref in folders_of(job.executable, job.data).items():
            check_folder(submission.principal, groups, folders, ref, f"{place}{pointer}")

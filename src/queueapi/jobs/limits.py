"""What a user may submit: pure checks on figures that the caller has read."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from queueapi.auth.principal import Principal
from queueapi.clusters.access import Rules as ClusterRules
from queueapi.clusters.access import Who, site_words
from queueapi.config import Settings
from queueapi.errors import Conflict, FieldError, Invalid, LimitExceeded, NotFound, Problem
from queueapi.jobs.placing import check_clusters
from queueapi.jobs.pricing import estimated_cost
from queueapi.jobs.schemas import JobSubmission, Provider
from queueapi.queues.admission import Applicant, Rules, choose


@dataclass(frozen=True, slots=True)
class Membership:
    group_id: int
    name: str
    is_default: bool
    quota: float  # CPU-minutes in the rolling 30 days
    used: float  # of it, settled
    max_submitted: int  # jobs that have not ended, per user


@dataclass(frozen=True, slots=True)
class Admission:
    """Where a new job belongs: who is charged and how much at the most, and what queue takes it."""

    group: Membership
    queue: Rules
    cost: Decimal  # if it runs to its time limit, an array all its tasks


@dataclass(slots=True)
class Allowance:
    """One user's: how many of their jobs have not ended, and the groups they may charge."""

    active: int
    memberships: dict[str, Membership] = field(default_factory=dict)
    in_queue: Counter[str] = field(default_factory=Counter)  # of `active`, where that is limited

    def add(self, membership: Membership) -> None:
        self.memberships[membership.name] = membership

    def group(self, name: str | None) -> Membership:
        """The group that a job charges: the one named, else the default, else the only one."""
        if name is not None:
            if name in self.memberships:
                return self.memberships[name]
            raise NotFound(
                f"You are in no group named {name!r}. Your groups: {self._names()}.",
                errors=[FieldError("/group", "name a group that you are a member of")],
            )
        defaults = [m for m in self.memberships.values() if m.is_default]
        if defaults or len(self.memberships) == 1:
            return defaults[0] if defaults else next(iter(self.memberships.values()))
        if not self.memberships:
            raise Conflict("You are in no group yet. Join one, then submit.")
        raise Conflict(f"Name a group, or choose a default one. Your groups: {self._names()}.")

    def _names(self) -> str:
        return ", ".join(sorted(self.memberships)) or "none"


def check(
    settings: Settings,
    principal: Principal,
    allowance: Allowance,
    queues: Sequence[Rules],
    clusters: Sequence[ClusterRules],
    jobs: Sequence[JobSubmission],
) -> list[Admission]:
    """The group and the queue of each job. Raises a Problem that names the first job refused.

    On success the jobs count: a later submission of the same user meets the higher figure.
    """
    if len(jobs) > settings.max_batch_jobs:
        raise LimitExceeded(
            f"The batch has {len(jobs)} jobs; the most is {settings.max_batch_jobs}. Send it in "
            "parts, or have the operator raise QUEUEAPI_MAX_BATCH_JOBS.",
            limit_name="max_batch_jobs",
            limit=settings.max_batch_jobs,
            used=0,
            requested=len(jobs),
        )
    admissions = []
    known: dict[Hashable, Admission] = {}  # the jobs of a batch are often alike
    for index, job in enumerate(jobs):
        try:
            alike = _alike(job)
            admission = known.get(alike)
            if admission is None:
                admission = _admit(settings, principal, allowance, queues, clusters, job)
                known[alike] = admission
            _check_script(settings, job)
        except Problem as problem:
            if len(jobs) > 1:
                problem.detail = f"Job {index} of the batch: {problem.detail}"
                problem.members["index"] = index
            raise
        admissions.append(admission)
    check_count(min(a.group.max_submitted for a in admissions), allowance.active, len(jobs))
    limited = Counter(a.queue for a in admissions if a.queue.max_submitted_per_user is not None)
    for queue, more in limited.items():
        check_queue_count(queue, allowance.in_queue[queue.name], more)
    allowance.active += len(jobs)
    for queue, more in limited.items():
        allowance.in_queue[queue.name] += more
    return admissions


def _alike(job: JobSubmission) -> Hashable:
    """Equal for jobs that are taken or refused alike, but for what their scripts are."""
    return (
        *(job.group, job.queue, job.provider, job.cluster, site_words(job.site)),
        *(job.needs, job.gpu_type, job.constraint, job.estimated_hours, job.array),
        job.container.image if job.container is not None else None,
        job.data.target if job.data is not None else None,
    )


def _admit(
    settings: Settings,
    principal: Principal,
    allowance: Allowance,
    queues: Sequence[Rules],
    clusters: Sequence[ClusterRules],
    job: JobSubmission,
) -> Admission:
    _check_size(settings, job)
    group = allowance.group(job.group)
    wanted = Applicant(job.queue, job.time_limit, group.group_id, group.name, job.cluster)
    queue = choose(queues, wanted)
    who = Who(principal.email, principal.user_id, group.group_id)
    check_clusters(clusters, queue, who, job)
    _check_quota(group, job)
    return Admission(group, queue, estimated_cost(settings, job))


def check_count(limit: int, active: int, more: int) -> None:
    """Whether a user with so many jobs that have not ended may have `more` of them."""
    if active + more > limit:
        raise LimitExceeded(
            f"{active} of your jobs have not ended; with {more} more they would pass the limit "
            f"of {limit}. Wait for some to end, cancel some, or ask an administrator to raise "
            "max_submitted_per_user.",
            limit_name="max_submitted_per_user",
            limit=limit,
            used=active,
            requested=more,
        )


def check_queue_count(queue: Rules, active: int, more: int) -> None:
    """Whether a user with so many jobs in the queue that have not ended may have `more` there."""
    limit = queue.max_submitted_per_user
    if limit is not None and active + more > limit:
        raise LimitExceeded(
            f"{active} of your jobs in the queue {queue.name} have not ended; with {more} more "
            f"they would pass its limit of {limit}. Wait for some to end, cancel some, or name "
            "another queue.",
            limit_name="queue_max_submitted_per_user",
            limit=limit,
            used=active,
            requested=more,
        )


def _check_size(settings: Settings, job: JobSubmission) -> None:
    nodes, needs = job.needs.nodes, job.needs
    if (
        nodes * needs.cpus > settings.max_cpu_cores
        or nodes * needs.memory_mb > settings.max_memory_gb * 1024
        or nodes * needs.gpus > settings.max_gpus
        or job.estimated_hours > settings.max_estimated_hours
    ):
        raise _too_large(settings, job)
    if job.array_size > settings.max_array_tasks:
        raise LimitExceeded(
            f"The array has {job.array_size} tasks; the most is {settings.max_array_tasks}. Submit "
            "it in parts, or have the operator raise QUEUEAPI_MAX_ARRAY_TASKS.",
            limit_name="max_array_tasks",
            limit=settings.max_array_tasks,
            used=0,
            requested=job.array_size,
        )
    if job.provider not in (Provider.AUTO, Provider.LOCAL):
        raise Conflict(
            f"No cluster of provider {job.provider} is registered here. Use auto or local."
        )


def _check_script(settings: Settings, job: JobSubmission) -> None:
    if len(job.script.encode()) > settings.max_script_bytes:
        raise Invalid(
            f"The script is over {settings.max_script_bytes} bytes. Let it fetch what it needs.",
            errors=[FieldError("/script", f"at most {settings.max_script_bytes} bytes")],
        )


def _too_large(settings: Settings, job: JobSubmission) -> LimitExceeded:
    """The refusal, which names the first of the amounts that is above its limit."""
    nodes, needs = job.needs.nodes, job.needs
    asked = (
        ("cpu_cores", nodes * needs.cpus, settings.max_cpu_cores),
        ("memory_gb", nodes * needs.memory_mb / 1024, settings.max_memory_gb),
        ("gpu_count", nodes * needs.gpus, settings.max_gpus),
        ("estimated_hours", job.estimated_hours, settings.max_estimated_hours),
    )
    name, value, limit = next(entry for entry in asked if entry[1] > entry[2])
    setting = "QUEUEAPI_MAX_GPUS" if name == "gpu_count" else f"QUEUEAPI_MAX_{name.upper()}"
    over = f" over {nodes} nodes" if nodes > 1 and name != "estimated_hours" else ""
    return LimitExceeded(
        f"{name} is {value:g}{over}; the most that a job may ask for is {limit:g}. Ask for "
        f"less, or have the operator raise {setting}.",
        limit_name=name,
        limit=limit,
        used=0,
        requested=value,
    )


def _check_quota(group: Membership, job: JobSubmission) -> None:
    if group.used + job.cpu_minutes > group.quota:
        what = f"this array of {job.array_size} tasks" if job.array else "this job"
        raise LimitExceeded(
            f"The group {group.name} has used {group.used:.1f} of its {group.quota:.1f} "
            f"CPU-minutes of the last 30 days; {what} may need {job.cpu_minutes:.1f}. Lower "
            "cpu_cores or estimated_hours, charge another group, or ask an administrator to "
            "raise the quota.",
            limit_name="quota_cpu_minutes",
            limit=group.quota,
            used=group.used,
            requested=job.cpu_minutes,
        )

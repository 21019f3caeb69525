"""What a limit that keeps a job waiting says: its figures, and what would help."""

from __future__ import annotations

from queueapi.scheduling.accounts import Accounts
from queueapi.scheduling.formula import TICKS_PER_MINUTE, commitment
from queueapi.scheduling.model import WaitingJob
from queueapi.scheduling.plan import ReasonCode
from queueapi.scheduling.wording import amount, counted


def limit_message(refusal: ReasonCode, job: WaitingJob, accounts: Accounts) -> str:
    """In words why `Accounts.refusal` gave this code."""
    if refusal is ReasonCode.GROUP_QUOTA:
        return _quota(job, accounts)
    user, group = "its user", "its group"  # who they are the job itself says, by name
    described = accounts.queues.get(job.queue)
    if refusal is ReasonCode.USER_RUNNING_LIMIT:
        limit: int | None = accounts.user_limit(job.group_id)
        return _already(user, accounts.running_by_user[job.user_id], limit)
    if refusal is ReasonCode.GROUP_RUNNING_LIMIT:
        limit = accounts.group(job.group_id).max_running
        return _already(group, accounts.usage.of_group(job.group_id).running, limit)
    if refusal is ReasonCode.QUEUE_USER_LIMIT:
        runs = accounts.running_in_queue_by_user[job.queue, job.user_id]
        limit = described.max_running_per_user if described else None
        return _already(user, runs, limit, f" in queue {job.queue}")
    if refusal is ReasonCode.QUEUE_GROUP_LIMIT:
        runs = accounts.running_in_queue_by_group[job.queue, job.group_id]
        limit = described.max_running_per_group if described else None
        return _already(group, runs, limit, f" in queue {job.queue}")
    runs = accounts.running_by_array[job.array_id or 0]
    return (
        f"array {job.array_id} already runs {runs} of {counted(job.array_limit or 0, 'task')} "
        "that may run at once; it can start when one of them ends"
    )


def _already(who: str, runs: int, limit: int | None, where: str = "") -> str:
    return (
        f"{who} already runs {runs} of {counted(limit or 0, 'job')}{where}; "
        "it can start when one of them ends"
    )


def _quota(job: WaitingJob, accounts: Accounts) -> str:
    asks = commitment(job.request, job.time_limit) / TICKS_PER_MINUTE
    quota = accounts.group(job.group_id).quota_cpu_minutes or 0
    claim, kept = accounts.claim_on(job), ""
    if claim is not None:
        kept = (
            f", and {amount(claim.ticks / TICKS_PER_MINUTE)} are kept for job {claim.job_id}, "
            "which has waited the longest"
        )
    return (
        f"asks for {amount(asks)} CPU-minutes, but its group has used "
        f"{amount(accounts.window_usage(job.group_id))} of {amount(quota)} in 30 days, and the "
        f"group's running jobs may use {amount(accounts.committed(job.group_id))} more{kept}; ask "
        "for fewer CPUs or a shorter time limit, or have the group's quota raised"
    )

"""Where a job may run, as a submit asks it of the clusters' rules."""

from collections.abc import Sequence

from queueapi.clusters.access import Rules, Who, Wish, check, site_words
from queueapi.clusters.caps import Ask
from queueapi.clusters.models import BUILT_IN
from queueapi.jobs.schemas import JobSubmission, Provider
from queueapi.queues.admission import Rules as QueueRules


def wish(who: Who, job: JobSubmission) -> Wish:
    needs = job.needs
    ask = Ask(needs.nodes, needs.tasks, needs.cpus, needs.memory_mb, needs.gpus, job.time_limit)
    return Wish(
        who,
        ask,
        cluster=job.cluster,
        kind=kind_of(job.provider),
        gpu_type=job.gpu_type,
        constraint=job.constraint,
        site=site_words(job.site),
        image=job.container.image if job.container is not None else None,
        data=job.data.target if job.data is not None else None,
    )


def kind_of(provider: str | None) -> str | None:
    """The kind of cluster that a provider stands for; None = any."""
    return BUILT_IN if provider == Provider.LOCAL else None


def check_clusters(
    clusters: Sequence[Rules], queue: QueueRules, who: Who, job: JobSubmission
) -> None:
    """Raises a Problem for a job that none of the clusters takes where the queue's jobs run."""
    check([rules for rules in clusters if queue.runs_on(rules.name)], wish(who, job))

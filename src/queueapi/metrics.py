"""The figures that /metrics shows, in Prometheus' words.

Workers keep them in files of one folder, and each of them shows the figures of all together.
"""

import os
from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

# Read by the library when it is imported: to be set before a worker is started.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
LATEST: Final = "livemostrecent"  # of several workers, what was set last counts

REQUEST_SECONDS = Histogram(
    "queueapi_request_seconds",
    "Time to answer a request",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)
CYCLE_SECONDS = Histogram(
    "queueapi_scheduler_cycle_seconds",
    "Time of one scheduler cycle",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
JOBS = Gauge(
    "queueapi_jobs",
    "Jobs that wait to start or hold resources",
    ["state", "group"],
    multiprocess_mode=LATEST,
)
LEADS = Gauge(
    "queueapi_scheduler_leads", "1 on the server that has the lead", multiprocess_mode="livemax"
)
LEADS_TAKEN = Counter("queueapi_scheduler_leads_taken", "Times that this server took the lead")
EPOCH = Gauge(
    "queueapi_scheduler_epoch",
    "Of the lead that this server took last",
    multiprocess_mode="livemax",
)
PEER_QUESTIONS = Counter(
    "queueapi_peer_questions", "Questions to other servers", ["question", "result"]
)
SUBMITTED = Counter("queueapi_jobs_submitted", "Jobs accepted")
LAUNCHES = Counter("queueapi_launches", "Launches handed to executors", ["result"])
ENDED = Counter("queueapi_attempts_ended", "Attempts that ended", ["state", "reason"])
REMOVED = Counter("queueapi_removed", "What had been kept long enough", ["what"])
WAIT_SECONDS = Histogram(
    "queueapi_job_wait_seconds",
    "From the queue to the start",
    buckets=(0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 1800, 3600, 21_600, 86_400),
)

HIT_RATE = Gauge(
    "queueapi_estimate_hit_rate",
    "Part of the jobs that started by their estimate, which should be as large as the quantile",
    ["quantile"],
    multiprocess_mode=LATEST,
)
OUTCOMES = Gauge(
    "queueapi_estimate_outcomes", "Starts that the hit rate is taken over", multiprocess_mode=LATEST
)
DOCTOR_FINDINGS = Gauge(
    "queueapi_doctor_findings",
    "What the doctor found wrong when it last looked",
    ["check"],
    multiprocess_mode=LATEST,
)
DOCTOR_LAST = Gauge(
    "queueapi_doctor_last_run",
    "When all checks were last done, in epoch seconds",
    multiprocess_mode=LATEST,
)
DOCTOR_SECONDS = Gauge(
    "queueapi_doctor_run_seconds",
    "How long that took, with all its rests",
    multiprocess_mode=LATEST,
)
DOCTOR_FAILURES = Counter("queueapi_doctor_failures", "Checks that could not be carried out")


def exposition() -> bytes:
    """All figures of this process, or of all workers that it is one of, as text."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget_process(pid: int | None) -> None:
    """A worker has ended: what it was doing at the moment counts no more; what it did, does."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]


_shown: set[tuple[str, str]] = set()


def set_jobs(counts: Mapping[tuple[str, str], int]) -> None:
    """Show `counts`, by state and group; what was shown before and is not in it falls to 0."""
    global _shown  # noqa: PLW0603 - the library's gauges are the process's too
    for gone in _shown.difference(counts):
        JOBS.labels(*gone).set(0)
    for (state, group), count in counts.items():
        JOBS.labels(state, group).set(count)
    _shown = set(counts)


def set_hit_rates(p50: float | None, p90: float | None, outcomes: int) -> None:
    """Show how often estimates were kept; nothing until there is an outcome."""
    OUTCOMES.set(outcomes)
    for quantile, rate in (("0.5", p50), ("0.9", p90)):
        if rate is not None:
            HIT_RATE.labels(quantile).set(rate)

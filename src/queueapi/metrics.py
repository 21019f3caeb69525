"""The figures that /metrics shows, in Prometheus' words."""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

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
WAITING = Gauge("queueapi_jobs_waiting", "Jobs that wait", ["group"])
RUNNING = Gauge("queueapi_jobs_running", "Jobs that hold resources", ["group"])
LEADS = Gauge("queueapi_scheduler_leads", "1 on the server that has the lead")
SUBMITTED = Counter("queueapi_jobs_submitted", "Jobs accepted")
LAUNCHES = Counter("queueapi_launches", "Launches handed to executors", ["result"])
ENDED = Counter("queueapi_attempts_ended", "Attempts that ended", ["state", "reason"])
WAIT_SECONDS = Histogram(
    "queueapi_job_wait_seconds",
    "From the queue to the start",
    buckets=(0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 1800, 3600, 21_600, 86_400),
)

_shown: dict[Gauge, set[str]] = {}


def set_by_group(gauge: Gauge, names: Mapping[int, str], counts: Mapping[int, int]) -> None:
    """Show `counts`, by group id; groups that were shown before and are not in it fall to 0."""
    now = {names.get(group, str(group)): count for group, count in counts.items()}
    for name in _shown.get(gauge, set()).difference(now):
        gauge.labels(name).set(0)
    for name, count in now.items():
        gauge.labels(name).set(count)
    _shown[gauge] = set(now)

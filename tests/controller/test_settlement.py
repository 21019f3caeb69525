"""What each observation means for each job: the whole table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from queueapi.clock import from_epoch
from queueapi.controller.placed import Placed
from queueapi.controller.settlement import (
    MAX_DELAY,
    Decision,
    Leaves,
    Relaunch,
    Resumed,
    Running,
    StandsStill,
    Suspended,
    decide,
    refused,
)
from queueapi.executors.base import Ending, Observation, Phase
from queueapi.jobs.attempts import ClosedAttempt
from queueapi.jobs.lifecycle import ALLOWED
from queueapi.jobs.models import PLACED_STATES, Intent, JobState

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PLACED = Placed(
    job_id=7,
    user_id=3,
    group_id=5,
    state=JobState.RUNNING,
    intent=None,
    attempt_id=11,
    key="qa-11-00000000",
    cluster="local",
    remote_id="r1",
    created_at=NOW - timedelta(seconds=100),
    started_at=NOW - timedelta(seconds=90),
    time_limit=600,
    memory_limit=2048,
    cpus=4,
    memory_mb=2048,
    gpus=1,
    retries=0,
    max_retries=2,
)
BEGAN, STOOD, ENDED = 1_700_000_000.0, 1_700_000_060.0, 1_700_000_120.0


def ending(code: int = 0, reason: str | None = None) -> Observation:
    return Observation(Phase.ENDED, BEGAN, Ending(code, reason, BEGAN, ENDED, 3 * 2**20, 1.5))


def of(placed: Placed, seen: Observation) -> Decision:
    return decide(placed, seen, NOW, 5.0)


def closed(placed: Placed, seen: Observation) -> ClosedAttempt:
    decision = of(placed, seen)
    assert isinstance(decision, ClosedAttempt)
    assert decision.attempt_id == decision.transition.attempt_id == 11
    assert decision.transition.to in ALLOWED[placed.state]
    return decision


SEEN = {
    "unknown": Observation(Phase.UNKNOWN),
    "pending": Observation(Phase.PENDING),
    "running": Observation(Phase.RUNNING, BEGAN),
    "suspended": Observation(Phase.SUSPENDED, BEGAN, None, STOOD),
    "ending": Observation(Phase.ENDING, BEGAN),
    "lost": Observation(Phase.LOST, BEGAN),
    "done": ending(),
    "failed": ending(3),
    "stopped": ending(143, "Cancelled"),
}
# What becomes of the job: None = nothing is done; "alive" = what it does is noted.
TABLE = {
    ("unknown", None): None,
    ("unknown", Intent.CANCEL): None,
    ("unknown", Intent.REQUEUE): None,
    ("pending", None): None,
    ("pending", Intent.CANCEL): None,
    ("pending", Intent.REQUEUE): None,
    ("running", None): "alive",
    ("running", Intent.CANCEL): "alive",
    ("running", Intent.REQUEUE): "alive",
    ("unknown", Intent.SUSPEND): None,
    ("pending", Intent.SUSPEND): None,
    ("running", Intent.SUSPEND): "alive",
    ("suspended", None): "alive",
    ("suspended", Intent.CANCEL): "alive",
    ("suspended", Intent.REQUEUE): "alive",
    ("suspended", Intent.SUSPEND): "alive",
    **dict.fromkeys((("ending", intent) for intent in (None, *Intent)), "leaves"),
    ("lost", Intent.SUSPEND): "queued",
    ("done", Intent.SUSPEND): "completed",
    ("failed", Intent.SUSPEND): "failed",
    ("stopped", Intent.SUSPEND): "cancelled",
    ("lost", None): "queued",
    ("lost", Intent.CANCEL): "cancelled",
    ("lost", Intent.REQUEUE): "queued",
    ("done", None): "completed",
    ("done", Intent.CANCEL): "completed",
    ("done", Intent.REQUEUE): "queued",
    ("failed", None): "failed",
    ("failed", Intent.CANCEL): "failed",
    ("failed", Intent.REQUEUE): "queued",
    ("stopped", None): "cancelled",
    ("stopped", Intent.CANCEL): "cancelled",
    ("stopped", Intent.REQUEUE): "queued",
}


# What is noted of a run that is alive, where the job's state does not say it already.
ALIVE = {
    ("running", JobState.STARTING): Running(from_epoch(BEGAN)),
    ("suspended", JobState.STARTING): Running(from_epoch(BEGAN)),
    ("suspended", JobState.RUNNING): Suspended(from_epoch(STOOD)),
    ("running", JobState.SUSPENDED): Resumed(0.0),
}


@pytest.mark.parametrize("state", sorted(PLACED_STATES))
@pytest.mark.parametrize(("seen", "intent"), TABLE)
def test_each_observation_in_each_state(seen: str, intent: Intent | None, state: JobState) -> None:
    wanted = TABLE[seen, intent]
    decision = of(replace(PLACED, state=state, intent=intent), SEEN[seen])
    if wanted == "leaves":
        assert decision == Leaves()
        return
    if wanted == "alive":
        expected = ALIVE.get((seen, state))
        if (seen, state, intent) == ("suspended", JobState.SUSPENDED, Intent.SUSPEND):
            expected = StandsStill()
        assert decision == expected
    elif wanted is None:
        assert decision is None
    else:
        assert isinstance(decision, ClosedAttempt)
        assert decision.transition.to == wanted
        assert decision.transition.to in ALLOWED[state]


@pytest.mark.parametrize(
    ("code", "reason", "state", "told", "words"),
    [
        (0, None, "completed", None, None),
        (1, None, "failed", "NonZeroExitCode", "code 1"),
        (139, None, "failed", "NonZeroExitCode", "signal 11"),
        (128, None, "failed", "NonZeroExitCode", "code 128"),
        (143, "TimeLimit", "failed", "TimeLimit", "600 s"),
        (0, "TimeLimit", "failed", "TimeLimit", "estimated_hours"),
        (137, "OutOfMemory", "failed", "OutOfMemory", "2048 MB"),
        (153, "OutputLimit", "failed", "OutputLimit", None),
        (143, "Cancelled", "cancelled", "Cancelled", None),
    ],
)
def test_an_end_is_told_from_its_record(
    code: int, reason: str | None, state: str, told: str | None, words: str | None
) -> None:
    decision = closed(PLACED, ending(code, reason))
    change = decision.transition
    assert (change.to, change.reason, change.exit_code) == (state, told, code)
    assert (words is None) == (change.message is None)
    assert words is None or words in str(change.message)
    assert (change.started_at, change.ended_at) == (from_epoch(BEGAN), from_epoch(ENDED))
    assert (decision.exit_code, decision.reason) == (code, told)
    assert (decision.peak_memory_mb, decision.cpu_seconds) == (3, 1.5)
    assert decision.seconds == 120
    assert (decision.cpus, decision.gpus, decision.memory_mb) == (4, 1, 2048)


def test_a_run_that_was_stopped_for_a_requeue_is_charged_and_waits_from_now() -> None:
    decision = closed(replace(PLACED, intent=Intent.REQUEUE), SEEN["stopped"])
    change = decision.transition
    assert (change.kind, change.reason, change.queued_at) == ("requeued", "Requeued", NOW)
    assert (change.retry, change.eligible_at) == (False, None)
    assert decision.seconds == 120


def test_a_lost_run_is_retried_later_and_later_and_is_not_charged() -> None:
    for retries, delay in ((0, 5), (1, 10), (2, 20), (6, 320), (7, MAX_DELAY), (10, MAX_DELAY)):
        decision = closed(replace(PLACED, retries=retries, max_retries=11), SEEN["lost"])
        change = decision.transition
        assert (change.to, change.reason, change.retry) == ("queued", "NodeFail", True)
        assert change.eligible_at == NOW + timedelta(seconds=delay)
        assert change.queued_at is None  # it keeps the place that its waiting has earned
        assert decision.seconds == 0


def test_a_lost_run_without_retries_fails() -> None:
    for retries, most in ((0, 0), (2, 2), (3, 2)):
        decision = closed(replace(PLACED, retries=retries, max_retries=most), SEEN["lost"])
        change = decision.transition
        assert (change.to, change.reason, change.ended_at) == ("failed", "NodeFail", NOW)
        assert "no retries left" in str(change.message)


def test_a_lost_run_that_was_to_be_stopped_needs_no_retry() -> None:
    spent = replace(PLACED, retries=2)
    requeued = closed(replace(spent, intent=Intent.REQUEUE), SEEN["lost"]).transition
    assert (requeued.to, requeued.retry, requeued.eligible_at) == ("queued", False, NOW)
    cancelled = closed(replace(spent, intent=Intent.CANCEL), SEEN["lost"]).transition
    assert (cancelled.to, cancelled.reason) == ("cancelled", "Cancelled")


def test_unknown_is_launched_again_only_while_nothing_is_known_of_a_launch() -> None:
    starting = replace(PLACED, state=JobState.STARTING, started_at=None)
    assert of(replace(starting, remote_id=None), SEEN["unknown"]) == Relaunch()
    assert of(starting, SEEN["unknown"]) is None
    # Nor when its id was lost, and it was seen running since.
    assert of(replace(PLACED, remote_id=None), SEEN["unknown"]) is None


@pytest.mark.parametrize("state", sorted(PLACED_STATES))
@pytest.mark.parametrize("intent", [None, *Intent])
def test_what_has_not_begun_is_launched_again_unless_it_was_seen_running(
    intent: Intent | None, state: JobState
) -> None:
    seen = Observation(Phase.PREPARED)
    expected = Relaunch() if state is JobState.STARTING else None
    assert of(replace(PLACED, state=state, intent=intent), seen) == expected
    assert of(replace(PLACED, state=state, remote_id=None), seen) == expected


def test_unknown_is_never_failed_before_its_time_is_long_past() -> None:
    limit = timedelta(seconds=600, hours=1)
    just = replace(PLACED, started_at=NOW - limit)
    assert of(just, SEEN["unknown"]) is None
    past = replace(PLACED, started_at=NOW - limit - timedelta(seconds=1))
    assert closed(past, SEEN["unknown"]).transition.reason == "NodeFail"
    starting = replace(PLACED, state=JobState.STARTING, started_at=None)
    never = replace(starting, created_at=NOW - limit - timedelta(seconds=1))
    assert closed(never, SEEN["unknown"]).transition.to == "queued"
    # What was never launched is launched, however long ago it was meant to be.
    assert of(replace(never, remote_id=None), SEEN["unknown"]) == Relaunch()


def test_the_time_in_which_it_stood_still_puts_its_limit_off() -> None:
    past = replace(PLACED, started_at=NOW - timedelta(seconds=601, hours=1))
    assert of(replace(past, suspended_seconds=2.0), SEEN["unknown"]) is None
    since = NOW - timedelta(seconds=2)
    still = replace(past, state=JobState.SUSPENDED, suspended_at=since)
    assert of(still, SEEN["unknown"]) is None
    assert of(past, SEEN["unknown"]) is not None


def test_what_has_given_back_its_resources_is_not_charged_for_them() -> None:
    held = replace(PLACED, state=JobState.SUSPENDED, intent=Intent.SUSPEND)
    released = replace(held, released_at=from_epoch(STOOD), released_seconds=15.0)
    assert of(released, SEEN["suspended"]) is None  # once is enough
    assert closed(released, SEEN["stopped"]).seconds == 120 - 60 - 15
    assert closed(replace(PLACED, released_seconds=15.0), SEEN["done"]).seconds == 105
    assert closed(replace(PLACED, released_seconds=1e9), SEEN["done"]).seconds == 0


def test_a_run_without_a_start_time_began_when_it_was_seen() -> None:
    starting = replace(PLACED, state=JobState.STARTING)
    assert of(starting, Observation(Phase.RUNNING)) == Running(NOW)


def test_a_refusal_fails_the_job_and_charges_nothing() -> None:
    decision = refused(replace(PLACED, state=JobState.STARTING), "no such account", NOW)
    change = decision.transition
    assert (change.to, change.reason, change.message) == (
        "failed", "LaunchFailed", "no such account",
    )  # fmt: skip
    assert (decision.seconds, decision.started_at, decision.reason) == (0, None, "LaunchFailed")


def test_an_end_before_its_start_is_no_credit() -> None:
    backwards = Observation(Phase.ENDED, ENDED, Ending(0, None, ENDED, BEGAN, None, None))
    decision = closed(PLACED, backwards)
    assert (decision.seconds, decision.peak_memory_mb) == (0, None)

"""How often a cluster is asked."""

from queueapi.executors.slurm.config import SlurmConfig
from queueapi.executors.slurm.pace import SHARE, Pace

CONFIG = SlurmConfig(
    "lab", "/q", "qa", poll_seconds=2.0, poll_seconds_least=0.25, poll_seconds_most=15.0
)


def busy(pace: Pace, ended: int, *, running: int, waiting: int = 0) -> float:
    """The interval after a second in which so many ended."""
    pace.news(ended, 1.0, running=running, waiting=waiting)
    return pace.seconds


def test_while_nothing_happens_it_is_asked_ever_less() -> None:
    pace = Pace(CONFIG)
    seen = []
    for _ in range(8):
        pace.nothing_new()
        seen.append(pace.seconds)
    assert seen[:2] == [3.0, 4.5]
    assert seen == sorted(seen)
    assert seen[-1] == 15.0


def test_an_order_is_looked_after_soon() -> None:
    pace = Pace(CONFIG)
    for _ in range(8):
        pace.nothing_new()
    pace.hurry()
    assert pace.seconds == 0.5
    pace.nothing_new()
    assert pace.seconds == 0.75


def test_short_jobs_with_none_to_follow_are_looked_at_as_often_as_may_be() -> None:
    assert busy(Pace(CONFIG), 20, running=10) == 0.25
    assert busy(Pace(CONFIG), 1, running=1) == 0.25  # few, but all


def test_long_jobs_are_not() -> None:
    assert busy(Pace(CONFIG), 0, running=30) == 2.0
    assert busy(Pace(CONFIG), 1, running=1000) == 2.0


def test_what_waits_in_slurm_bridges_the_time_between_two_looks() -> None:
    few = busy(Pace(CONFIG), 20, running=10, waiting=20)
    many = busy(Pace(CONFIG), 20, running=10, waiting=60)
    assert 0.25 <= few < many < 2.0


def test_a_burst_of_ends_is_remembered_for_some_rounds() -> None:
    pace = Pace(CONFIG)
    assert busy(pace, 50, running=10) == 0.25
    seen = [busy(pace, 0, running=10) for _ in range(16)]
    assert seen[0] == 0.25
    assert seen == sorted(seen)
    assert seen[-1] == 2.0


def test_a_controller_that_is_slow_is_spared() -> None:
    pace = Pace(CONFIG)
    pace.hurry()
    pace.answered(3.0)
    assert pace.seconds == 3.0 / SHARE

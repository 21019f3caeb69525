from __future__ import annotations

from queueapi.scheduling import Config, JobRemoved, ReasonCode
from tests.scheduling.scenario import HOUR, NOON, Scenario


def hours(scenario: Scenario, depth: int = 1000, steps: int = 1000) -> dict[int, float]:
    """Estimated starts in hours from noon."""
    scenario.checked = True
    starts = scenario.scheduler.forecast(NOON, depth, steps=steps)
    return {job_id: (start - NOON) / HOUR for job_id, start in starts.items()}


def test_jobs_start_one_after_another_as_limits_are_reached(scenario: Scenario) -> None:
    scenario.node(cpus=8).running(9, cpus=8, ends_in=2)
    scenario.job(1, cpus=8, hours=3, base=9).job(2, cpus=8, hours=1, base=5)
    assert hours(scenario) == {1: 2, 2: 5}


def test_the_forecast_of_the_reserved_job_is_its_reservation(scenario: Scenario) -> None:
    scenario.node(cpus=8).running(9, cpus=6, ends_in=2).job(1, cpus=8, base=9)
    scenario.job(2, cpus=2, hours=1).job(3, cpus=2, hours=3)
    assert hours(scenario) == {1: 2, 2: 0, 3: 3}


def test_overdue_jobs_are_expected_to_end_at_once(scenario: Scenario) -> None:
    scenario.node(cpus=8).running(9, cpus=8, ends_in=-1).job(1, cpus=8)
    assert hours(scenario) == {1: 0}


def test_limits_hold_in_the_future_too(scenario: Scenario) -> None:
    scenario.configured(Config(max_running_per_user=1)).node(cpus=8)
    scenario.job(1, hours=2, base=9).job(2, hours=2).job(3, user=2)
    assert hours(scenario) == {1: 0, 2: 2, 3: 0}


def test_a_job_that_cannot_start_has_no_estimate(scenario: Scenario) -> None:
    scenario.node(cpus=8).group(2, quota=1).job(1, cpus=9).job(2, group=2).job(3)
    assert hours(scenario) == {3: 0}


def test_what_jobs_use_fills_the_quota_for_good(scenario: Scenario) -> None:
    scenario.node(cpus=1).group(1, quota=120).job(1).job(2).job(3)
    assert hours(scenario) == {1: 0, 2: 1}


def test_a_job_with_a_begin_time_starts_no_earlier(scenario: Scenario) -> None:
    scenario.node(cpus=8).job(1, eligible_in=3).job(2, cpus=8, hours=5)
    assert hours(scenario) == {2: 0, 1: 5}
    assert hours(scenario.node("n2")) == {2: 0, 1: 3}


def test_depth_and_steps_bound_the_work(scenario: Scenario) -> None:
    scenario.node(cpus=1)
    for job_id in range(1, 9):
        scenario.job(job_id)
    assert hours(scenario, depth=3) == {1: 0, 2: 1, 3: 2}
    assert hours(scenario, steps=2) == {1: 0, 2: 1}


def test_a_forecast_changes_nothing(scenario: Scenario) -> None:
    scenario.node(cpus=2).running(9).job(1).job(2).job(3, eligible_in=1)
    before = scenario.plan(), scenario.scheduler.ranking(NOON, limit=9), scenario.scheduler.free
    hours(scenario)
    after = scenario.plan(), scenario.scheduler.ranking(NOON, limit=9), scenario.scheduler.free
    assert before == after


def test_a_job_that_waits_for_another_is_estimated_after_it(scenario: Scenario) -> None:
    scenario.checked = True
    scenario.node(cpus=8).running(9, cpus=8, ends_in=2).job(1, cpus=8, hours=3)
    scenario.job(2, depends_on=(1,), hours=1).job(3, depends_on=(1, 2)).job(4, depends_on=(77,))
    starts = scenario.scheduler.forecast(NOON)
    assert starts == {1: NOON + 2 * HOUR, 2: NOON + 5 * HOUR, 3: NOON + 6 * HOUR}


def test_the_end_of_a_maintenance_window_is_foreseen(scenario: Scenario) -> None:
    scenario.checked = True
    scenario.node().closed("upgrade", 1, 4).job(1, hours=2)
    assert scenario.scheduler.forecast(NOON) == {1: NOON + 4 * HOUR}


def test_what_one_more_job_would_delay_can_be_foreseen(scenario: Scenario) -> None:
    scenario.checked = True
    scenario.node(cpus=8).running(9, cpus=8, ends_in=1).job(1, cpus=8, base=2, hours=1)
    scenario.job(2, cpus=8, base=9, hours=5)
    extra = scenario.waiting.pop(2)
    scenario.scheduler.apply(JobRemoved(2))
    forecast = scenario.scheduler.foresee(NOON, extra=[extra])
    place = forecast.position(2)
    assert place is not None and (place.position, place.priority.base) == (1, 9)
    reason = forecast.explain(2)
    assert (reason.code, reason.estimated_start) == (ReasonCode.RESOURCES, NOON + HOUR)
    assert forecast.run(99) == {
        2: NOON + HOUR,
        1: NOON + 6 * HOUR,
    }
    assert scenario.scheduler.forecast(NOON) == {1: NOON + HOUR}

"""When a machine that is away is tried again."""

from hypothesis import given
from hypothesis import strategies as st

from queueapi.executors.remote.breaker import Backoff, Breaker


def test_it_stays_away_longer_after_each_failure() -> None:
    backoff = Backoff(first=1.0, longest=60.0, jitter=lambda: 0.0)
    assert [backoff.after(n) for n in (1, 2, 3, 4, 7, 8, 1000)] == [1, 2, 4, 8, 60, 60, 60]


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_chance_shortens_a_wait_by_a_half_at_most(failures: int, chance: float) -> None:
    whole = Backoff(jitter=lambda: 0.0).after(failures)
    assert whole / 2 <= Backoff(jitter=lambda: chance).after(failures) <= whole <= 60.0


def test_one_success_forgets_all_failures() -> None:
    breaker = Breaker(Backoff(first=1.0, jitter=lambda: 0.0))
    assert breaker.is_closed and breaker.wait(0.0) == 0.0
    breaker.failed(10.0, "gone")
    breaker.failed(11.0, "still gone")
    assert not breaker.is_closed
    assert breaker.wait(11.5) == 1.5
    assert breaker.wait(13.0) == 0.0
    assert not breaker.is_closed  # until a try has shown it
    assert breaker.why == "still gone"
    breaker.succeeded()
    assert breaker.is_closed
    breaker.failed(20.0, "again")
    assert breaker.wait(20.0) == 1.0

from __future__ import annotations

import pytest

from tests.scheduling.scenario import Scenario


def test_a_scenario_that_was_never_checked_fails() -> None:
    scenario = Scenario().node().job(1)
    with pytest.raises(AssertionError, match="nothing was expected"):
        scenario.close()


def test_a_scenario_that_was_checked_passes() -> None:
    scenario = Scenario().node().job(1).expect_starts(1)
    scenario.close()


def test_a_wrong_expectation_fails() -> None:
    with pytest.raises(AssertionError):
        Scenario().node().job(1).expect_starts(2)

"""Fixtures of the scheduler's tests. No event loop, no database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scheduling.scenario import Scenario


@pytest.fixture
def scenario() -> Iterator[Scenario]:
    """An empty scenario, which must be checked by the end of the test."""
    scenario = Scenario()
    yield scenario
    scenario.close()

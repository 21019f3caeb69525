"""Which way of planning the settings ask for."""

from __future__ import annotations

from queueapi.scheduling.conservative import Conservative
from queueapi.scheduling.cycle import Cycle
from queueapi.scheduling.plan import Plan
from queueapi.scheduling.state import State, keeps_reservations


def plan_of(state: State, now: float) -> Plan:
    """What to start at `now` (epoch seconds), and what is kept for later."""
    state.waiting.advance(now)
    if keeps_reservations(state.config):
        return Conservative(state, now).run()
    return Cycle(state, now).run()

"""Which way of planning the settings ask for."""

from __future__ import annotations

from queueapi.scheduling.arrival import ArrivalRanking
from queueapi.scheduling.claims import claims
from queueapi.scheduling.conservative import Conservative
from queueapi.scheduling.cycle import Cycle
from queueapi.scheduling.plan import Plan
from queueapi.scheduling.ranking import Ranking
from queueapi.scheduling.state import State


def plan_of(state: State, now: float) -> Plan:
    """What to start at `now` (epoch seconds), and what is kept for later.

    The state then holds the starts on trial, see State.
    """
    state.take_back()
    state.waiting.advance(now)
    accounts = state.accounts
    accounts.claims = claims(state.waiting, accounts.groups, state.board, state.config, now)
    try:
        if state.keeps_reservations:
            return Conservative(state, now).run()
        return Cycle(state, now).run()
    except BaseException:
        state.take_back()
        raise


def ranking_of(state: State, now: float) -> Ranking | ArrivalRanking:
    """The order of the jobs that wait and are eligible at `now` (epoch seconds)."""
    if state.in_order:
        return ArrivalRanking(state, now)
    return Ranking(state, now)

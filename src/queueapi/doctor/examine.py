"""All checks, and how one is carried out."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from queueapi.db.session import is_away
from queueapi.doctor import charges, counts, history, notices, runs, states, waits
from queueapi.doctor.check import Check, Finding, Premises
from queueapi.errors import NotFound

log = structlog.get_logger(__name__)

# What is mended by one may be what the next finds: an attempt is closed, and then charged.
CHECKS: tuple[Check, ...] = (
    *states.CHECKS,
    *charges.CHECKS,
    *waits.CHECKS,
    *counts.CHECKS,
    *history.CHECKS,
    *notices.CHECKS,
    *runs.CHECKS,
)
BY_NAME = {check.name: check for check in CHECKS}

STEP_SECONDS = 5.0  # after which a step ends
MOST_FINDINGS = 200  # of a step


@dataclass(frozen=True, slots=True)
class Treated:
    finding: Finding
    mended: bool


@dataclass(frozen=True, slots=True)
class Step:
    """What a part of a check brought; `next`: where to go on, None at the end."""

    treated: list[Treated]
    looked_at: int
    next: int | None


def find_check(name: str) -> Check:
    """Raises NotFound."""
    if name not in BY_NAME:
        raise NotFound(f"There is no check {name!r}. There are: {', '.join(BY_NAME)}.")
    return BY_NAME[name]


async def step(premises: Premises, check: Check, after: int, *, repair: bool) -> Step:
    """A few seconds' work on one check, from `after` on; with `repair` what it finds is mended,
    as far as the check can."""
    deadline = time.monotonic() + STEP_SECONDS
    treated: list[Treated] = []
    looked_at, at = 0, after
    while True:
        look = await check.look(premises, at)
        looked_at += look.looked_at
        for finding in look.findings:
            treated.append(Treated(finding, repair and await _mend(premises, check, finding)))
        if look.next is None:
            return Step(treated, looked_at, None)
        at = look.next
        if time.monotonic() > deadline or len(treated) >= MOST_FINDINGS:
            return Step(treated, looked_at, at)


async def _mend(premises: Premises, check: Check, finding: Finding) -> bool:
    """One that can't be mended must not keep the others from it."""
    if not finding.mendable:
        return False
    try:
        mended = await check.mend(premises, finding)
    except Exception as error:
        if is_away(error):
            raise
        log.exception("doctor_mend_failed", check=check.name, subject=finding.subject)
        return False
    log.warning(
        "doctor_mended" if mended else "doctor_left_alone",
        check=check.name,
        subject=finding.subject,
        finding=finding.message,
    )
    return mended


async def whole(premises: Premises, check: Check) -> AsyncIterator[Step]:
    """The check from its beginning to its end, look by look, and nothing mended."""
    at: int | None = 0
    while at is not None:
        look = await check.look(premises, at)
        yield Step([Treated(f, mended=False) for f in look.findings], look.looked_at, look.next)
        at = look.next

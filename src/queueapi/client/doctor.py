"""The doctor's checks, for administrators."""

from queueapi.client._requests import ANSWER_SECONDS, Answer, Request, _load, _reader
from queueapi.client.models import Document


class Check(Document):
    name: str
    what: str  # what must hold
    remedy: str  # what is to be done where it does not
    mends: bool  # whether a repair does that


class Finding(Document):
    check: str
    subject: str
    message: str
    remedy: str
    mendable: bool
    mended: bool


class CheckResult(Document):
    """A part of a check; `next` is where to go on, None at the end."""

    findings: list[Finding]
    looked_at: int
    next: int | None


def _checks(answer: Answer) -> list[Check]:
    found: dict[str, list[Check]] = _load(dict[str, list[Check]], answer)
    return found.get("checks", [])


def checks() -> Request[list[Check]]:
    return Request("GET", "/api/admin/doctor", _checks, repeatable=True)


def run_check(name: str, *, repair: bool, after: int) -> Request[CheckResult]:
    """It works for some seconds. A repair that is asked for twice finds nothing left to mend."""
    return Request(
        "POST",
        f"/api/admin/doctor/{name}",
        _reader(CheckResult),
        body={"repair": repair, "after": after},
        repeatable=True,
        timeout=4 * ANSWER_SECONDS,
    )

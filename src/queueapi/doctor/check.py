"""What every check has in common: it looks a little at a time, finds, and may mend."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.executors.base import Executor


@dataclass(frozen=True, slots=True)
class Premises:
    """What is looked at."""

    database: Database
    settings: Settings
    executors: Mapping[str, Executor]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that should not be so."""

    check: str
    key: int  # the id by which the check finds it again
    subject: str  # "job 17"
    message: str  # what is wrong
    remedy: str  # how it is mended, by us or by people
    mendable: bool  # by us


@dataclass(frozen=True, slots=True)
class Look:
    """What came of a part of the work."""

    findings: list[Finding]
    looked_at: int  # rows, or whatever the check goes through
    next: int | None  # where to go on; None = that was all


class Check(Protocol):
    """One invariant. Looking changes nothing and holds no lock that anybody waits for."""

    @property
    def name(self) -> str: ...

    @property
    def what(self) -> str:
        """What must hold, in words."""

    @property
    def remedy(self) -> str:
        """What is to be done where it does not."""

    @property
    def mends(self) -> bool:
        """Whether it can do so itself: where there is one right answer."""

    async def look(self, premises: Premises, after: int) -> Look:
        """Look at what comes next after `after`; 0 is the beginning."""

    async def mend(self, premises: Premises, finding: Finding) -> bool:
        """Look once more, under lock, and mend what is still so. True: it was mended."""

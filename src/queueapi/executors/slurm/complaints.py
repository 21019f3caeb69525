"""What Slurm's programs say when they fail, and what that means for what was asked."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_MAX_MESSAGE: Final = 300


class Kind(StrEnum):
    """What to do about a complaint."""

    UNREACHABLE = "unreachable"  # the controller or accounting is away: nothing was done
    UNCERTAIN = "uncertain"  # it may have been done: look for it before asking again
    LATER = "later"  # refused for now: a limit of the moment
    NEVER = "never"  # refused for good: the same request will be refused again
    NO_JOB = "no_job"  # Slurm does not know the job (any more)
    DENIED = "denied"  # the account on the cluster may not do this


@dataclass(frozen=True, slots=True)
class Complaint:
    """One failure of one program."""

    kind: Kind
    message: str  # Slurm's words, without the name of the program; may be shown to the user


# Slurm's own texts, in lower case. The first that occurs decides.
_TEXTS: Final = (
    (Kind.UNCERTAIN, "socket timed out"),
    (Kind.UNCERTAIN, "zero bytes were transmitted or received"),
    (Kind.UNCERTAIN, "transport endpoint is not connected"),
    (Kind.UNCERTAIN, "connection reset by peer"),
    (Kind.UNCERTAIN, "message receive failure"),
    (Kind.UNREACHABLE, "unable to contact slurm controller"),
    (Kind.UNREACHABLE, "connection refused"),
    (Kind.UNREACHABLE, "sending persistconninit msg"),
    (Kind.UNREACHABLE, "slurm_persist_conn_open"),
    (Kind.UNREACHABLE, "problem talking to the database"),
    (Kind.UNREACHABLE, "unable to connect to database"),
    (Kind.UNREACHABLE, "munge"),
    (Kind.UNREACHABLE, "protocol authentication error"),
    (Kind.UNREACHABLE, "in standby mode"),
    (Kind.UNREACHABLE, "unable to establish configuration source"),
    (Kind.NO_JOB, "invalid job id specified"),
    (Kind.NO_JOB, "job/step already completing or completed"),
    (Kind.NO_JOB, "job has already finished"),
    (Kind.DENIED, "access/permission denied"),
    (Kind.DENIED, "invalid user id"),
    (Kind.LATER, "temporarily unable to accept job"),
    (Kind.LATER, "resource temporarily unavailable"),
    (Kind.LATER, "job violates accounting/qos policy"),
    (Kind.LATER, "job submit limit"),
    (Kind.LATER, "too many pending rpcs"),
    (Kind.LATER, "required partition not available"),
    (Kind.LATER, "partition is down"),
    (Kind.LATER, "requested nodes are busy"),
)
_PROGRAM: Final = re.compile(
    r"^(?:[a-z_]+: )?(?:error: |fatal: )?(?:Batch job submission failed: )?"
)


def parse_complaint(stderr: str) -> Complaint:
    """What a program's standard error says, after an exit status other than 0.

    Words that are unknown count as ``NEVER``, as all of Slurm's reasons to refuse a request are.
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    lowered = "\n".join(lines).lower()
    kind = next((kind for kind, text in _TEXTS if text in lowered), Kind.NEVER)
    words = [_PROGRAM.sub("", line) for line in lines]
    return Complaint(kind, " ".join(words)[:_MAX_MESSAGE])

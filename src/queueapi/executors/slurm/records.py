"""The text of `squeue`, `sacct` and `sinfo` as records, whatever names it contains.

A job's name may hold newlines, pipes and what looks like another job's record. So the fields end
in a mark that is drawn anew for each question, and that nobody can have put into a name before.
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_MARK: Final = re.compile(r"\|[0-9a-f]{16}\|")
# Times as seconds since the epoch, so that no time zone matters. The other variables would
# change what is asked for, and come from the account's profile on the cluster.
_FORGET: Final = (
    *("SQUEUE_ACCOUNT", "SQUEUE_ALL", "SQUEUE_ARRAY", "SQUEUE_ARRAY_UNIQUE", "SQUEUE_FEDERATION"),
    *("SQUEUE_FORMAT", "SQUEUE_FORMAT2", "SQUEUE_LICENSES", "SQUEUE_LOCAL", "SQUEUE_NAMES"),
    *("SQUEUE_PARTITION", "SQUEUE_PRIORITY", "SQUEUE_QOS", "SQUEUE_SIBLING", "SQUEUE_SORT"),
    *("SQUEUE_STATES", "SQUEUE_USERS", "SACCT_FORMAT", "SACCT_FEDERATION", "SACCT_LOCAL"),
    *("SINFO_ALL", "SINFO_FORMAT", "SINFO_FEDERATION", "SINFO_LOCAL", "SINFO_PARTITION"),
    *("SINFO_SORT", "SLURM_CLUSTERS", "SCONTROL_ALL", "SCONTROL_FEDERATION", "SCONTROL_LOCAL"),
    *("SLURM_BITSTR_LEN",),
)
_ENVIRONMENT: Final = (
    "env",
    *(word for name in _FORGET for word in ("-u", name)),
    "LC_ALL=C",
    "TZ=UTC",
    "SLURM_TIME_FORMAT=%s",
)


class BadOutput(ValueError):  # noqa: N818 - it reads as the event it is
    """Slurm's answer was cut short, or is of a form that we do not know: it proves nothing."""


def question(*argv: str) -> tuple[str, ...]:
    """The argv of a program of Slurm's, in an environment in which its answer is predictable."""
    return (*_ENVIRONMENT, *argv)


def job_ids(ids: Iterable[int]) -> str:
    """A list of job ids, as the programs take it. Raises ValueError for what is no id."""
    found = [int(each) for each in ids]
    if not found or any(each <= 0 for each in found):
        raise ValueError("not a list of job ids")
    return ",".join(map(str, found))


def new_mark() -> str:
    """What ends each field of one answer."""
    return f"|{secrets.token_hex(8)}|"


def long_format(fields: Sequence[str], mark: str) -> str:
    """The value of `--Format`: the fields in full length, each with the mark behind it."""
    if not _MARK.fullmatch(mark):
        raise ValueError(f"not a mark: {mark!r}")
    return ",".join(f"{field}:{mark}" for field in fields)


def split_records(text: str, mark: str, width: int) -> Iterator[list[str]]:
    """The records of ``width`` fields in a whole answer, in its order.

    Lines before the first record, as a login script may print, are passed over. Raises
    :class:`BadOutput` for an answer that does not end where a record ends.
    """
    *fields, rest = text.split(mark)
    if len(fields) % width or (fields and rest.strip()):
        raise BadOutput("the answer was cut short")
    for start in range(0, len(fields), width):
        record = fields[start : start + width]
        if start == 0:
            record[0] = record[0].rpartition("\n")[2]
        elif record[0].startswith("\n"):
            record[0] = record[0][1:]
        else:
            raise BadOutput("a record does not begin on a line of its own")
        yield record


def number(text: str) -> int | None:
    """A whole number that is not negative; None for anything else, as N/A."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def word(text: str) -> str:
    """A field that may have no value."""
    text = text.strip()
    return "" if text in _NOTHING else text


_NOTHING: Final = frozenset({"(null)", "N/A", "n/a", "None assigned", "Unknown"})

"""How a job ended: `exit code:signal` as Slurm tells it, and the one code that we make of it."""

import re
from dataclasses import dataclass
from typing import Final

from queueapi.executors.slurm.states import MEANING, State

_PAIR: Final = re.compile(r"(\d{1,10}):(\d{1,10})", re.ASCII)
_RAW: Final = re.compile(r"\d{1,10}", re.ASCII)
_LAST_SIGNAL: Final = 64  # Slurm itself uses 125 for "out of memory"
_SIGNALLED: Final = 128
_BYTE: Final = 0xFF


@dataclass(frozen=True, slots=True)
class Exit:
    """Of a job, or of one of its steps."""

    code: int  # 0-255
    signal: int  # 0 = none; 125 = out of memory

    @property
    def status(self) -> int:
        """As a shell tells it: the code, or 128 + the signal."""
        if 0 < self.signal <= _LAST_SIGNAL:
            return _SIGNALLED + self.signal
        return self.code


def parse_exit(text: str) -> Exit | None:
    """Of `3:0` or, from `squeue` of 22.05, of a wait status as `768`; None without a value.

    Raises ValueError for other text.
    """
    text = text.strip()
    if match := _PAIR.fullmatch(text):
        return Exit(int(match[1]) & _BYTE, int(match[2]) & 0x7F)
    if _RAW.fullmatch(text):
        raw = int(text)
        return Exit(raw >> 8 & _BYTE, raw & 0x7F)
    if text in {"", "N/A", "(null)"}:
        return None
    raise ValueError(f"not an exit code of Slurm's: {text[:80]!r}")


def exit_status(state: State, own: Exit | None, batch: Exit | None, recorded: int | None) -> int:
    """The exit code of a run that ended, 0-255.

    ``own`` is the job's, ``batch`` its batch step's, ``recorded`` what the run wrapper wrote.
    The wrapper was nearest to the script. Accounting tells of a code of 128 and more as if it were
    128 less, so without the wrapper's word that of `squeue` is the better one. The job's own code
    is 0 where Slurm ended it in the middle, and the batch step has the signal. An end that is no
    success is never 0.
    """
    least = MEANING[state].least_code
    candidates = [
        recorded,
        batch.status if batch else None,
        own.status if own else None,
        least,
    ]
    known = [code for code in candidates if code is not None]
    if least == 0:
        return known[0]
    return next((code for code in known if code), least)

"""Every state of Slurm's has a meaning, and every end an exit code that is true."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueapi.executors.base import Phase
from queueapi.executors.slurm.exits import Exit, exit_status, parse_exit
from queueapi.executors.slurm.states import MEANING, State, cancelled_by, parse_state

# squeue(1), "JOB STATE CODES", and sacct(1), of Slurm 22.05 to 25.05.
WORDS = """
BF BOOT_FAIL, CA CANCELLED, CD COMPLETED, CF CONFIGURING, CG COMPLETING, DL DEADLINE, F FAILED,
NF NODE_FAIL, OOM OUT_OF_MEMORY, PD PENDING, PR PREEMPTED, R RUNNING, RD RESV_DEL_HOLD,
RF REQUEUE_FED, RH REQUEUE_HOLD, RQ REQUEUED, RS RESIZING, RV REVOKED, SI SIGNALING,
SE SPECIAL_EXIT, SO STAGE_OUT, ST STOPPED, S SUSPENDED, TO TIMEOUT
"""


def test_each_state_is_known_by_its_long_and_its_compact_word() -> None:
    for pair in WORDS.replace("\n", " ").split(","):
        compact, long = pair.split()
        assert parse_state(compact) is parse_state(long) is State(long)


def test_each_state_means_something() -> None:
    assert set(MEANING) == set(State)
    for state, meaning in MEANING.items():
        ends = meaning.phase in {Phase.ENDED, Phase.LOST}
        assert ends or (meaning.reason is None and meaning.least_code == 0), state
        assert not ends or state is State.COMPLETED or meaning.least_code > 0, state


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("CANCELLED by 1000", State.CANCELLED),
        ("CANCELLED+", State.CANCELLED),
        ("completed", State.COMPLETED),
        (" RUNNING ", State.RUNNING),
        ("", State.UNKNOWN),
        ("QUANTUM_LEAP", State.UNKNOWN),
    ],
)
def test_what_accounting_adds_to_a_state_is_passed_over(text: str, state: State) -> None:
    assert parse_state(text) is state


def test_a_state_that_is_unknown_proves_nothing() -> None:
    assert MEANING[parse_state("VAPORISED")].phase is Phase.UNKNOWN


def test_who_cancelled_is_told() -> None:
    assert cancelled_by("CANCELLED by 1000") == 1000
    assert cancelled_by("CANCELLED by 0") == 0
    assert cancelled_by("CANCELLED") is None
    assert cancelled_by("CANCELLED by somebody") is None
    assert cancelled_by("COMPLETED by 1000") is None


@pytest.mark.parametrize(
    ("text", "code", "signal"),
    [
        ("0:0", 0, 0),
        ("3:0", 3, 0),
        ("0:9", 0, 9),
        ("0:125", 0, 125),
        ("0", 0, 0),
        ("768", 3, 0),
        ("9", 0, 9),
        ("139", 0, 11),  # dumped core
        ("253", 0, 125),
        ("65280", 255, 0),
    ],
)
def test_an_exit_is_read_as_a_pair_or_as_a_wait_status(text: str, code: int, signal: int) -> None:
    assert parse_exit(text) == Exit(code, signal)


def test_no_exit_is_none_and_what_is_no_exit_is_refused() -> None:
    assert parse_exit("") is None
    assert parse_exit("N/A") is None
    for text in ("0:0:0", "-1:0", "one", "0:", "1:９"):
        with pytest.raises(ValueError, match="not an exit code"):
            parse_exit(text)


CLEAN = Exit(0, 0)


@pytest.mark.parametrize(
    ("state", "own", "batch", "recorded", "status"),
    [
        (State.COMPLETED, CLEAN, CLEAN, 0, 0),
        (State.COMPLETED, CLEAN, None, None, 0),
        (State.FAILED, Exit(3, 0), Exit(3, 0), 3, 3),
        (State.FAILED, Exit(0, 9), Exit(0, 9), None, 137),
        (State.FAILED, Exit(0, 1), None, None, 129),  # never started: bad constraints
        (State.FAILED, CLEAN, None, None, 1),
        # The job says 0:0; its batch step has the signal.
        (State.TIMEOUT, CLEAN, Exit(0, 15), None, 143),
        (State.TIMEOUT, CLEAN, Exit(0, 9), None, 137),
        # The script caught the signal and left with 0: still no success.
        (State.TIMEOUT, CLEAN, CLEAN, 0, 143),
        (State.TIMEOUT, CLEAN, None, None, 143),
        (State.CANCELLED, CLEAN, Exit(0, 15), 143, 143),
        (State.CANCELLED, CLEAN, Exit(7, 0), 7, 7),
        (State.CANCELLED, CLEAN, None, None, 143),
        (State.OUT_OF_MEMORY, Exit(0, 125), Exit(0, 125), 0, 137),
        (State.OUT_OF_MEMORY, Exit(0, 125), Exit(0, 125), 137, 137),
        (State.OUT_OF_MEMORY, Exit(0, 125), Exit(0, 125), None, 137),
        (State.DEADLINE, CLEAN, None, None, 143),
        (State.NODE_FAIL, Exit(1, 0), None, None, 1),
    ],
)  # fmt: skip
def test_the_exit_code_is_true(
    state: State, own: Exit, batch: Exit | None, recorded: int | None, status: int
) -> None:
    assert exit_status(state, own, batch, recorded) == status


def test_an_end_that_is_no_success_never_has_code_0() -> None:
    exits = (None, CLEAN, Exit(5, 0), Exit(0, 15), Exit(0, 125))
    for state, own, batch, recorded in itertools.product(State, exits, exits, (None, 0, 5)):
        status = exit_status(state, own, batch, recorded)
        assert 0 <= status <= 255
        if MEANING[state].phase in {Phase.ENDED, Phase.LOST} and state is not State.COMPLETED:
            assert status > 0, (state, own, batch, recorded)


@given(st.text(max_size=30))
def test_any_text_is_a_state(text: str) -> None:
    assert MEANING[parse_state(text)]
    cancelled_by(text)
    try:
        found = parse_exit(text)
    except ValueError:
        return
    assert found is None or (0 <= found.code <= 255 and 0 <= found.signal <= 127)

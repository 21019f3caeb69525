"""What is concluded from Slurm, its accounting and a run's folder when they do not agree."""

from dataclasses import replace

import pytest

from queueapi.executors.base import Observation, Phase
from queueapi.executors.slurm.evidence import Clock, Witnesses, alive, of_alive, of_gone, resumed
from queueapi.executors.slurm.exits import Exit
from queueapi.executors.slurm.folders import Folder
from queueapi.executors.slurm.sacct import Accounted, Step
from queueapi.executors.slurm.site import clock_of
from queueapi.executors.slurm.squeue import QueuedJob
from queueapi.executors.slurm.states import MEANING, State
from queueapi.executors.slurm.tres import Resources

CLOCK = Clock(2000.0)
JOB = QueuedJob(
    job_id=7, array_id="7", state=State.RUNNING, reason="", exit=Exit(0, 0), user="u",
    account="a", partition="p", qos="q", resources=Resources(), time_limit=60.0,
    run_seconds=100.0, submitted_at=1800.0, eligible_at=1800.0, started_at=1900.0,
    ends_at=1960.0, priority=1, restarts=0, nodes=("n1",), name="qa-7",
)  # fmt: skip
RUN = Accounted(
    job_id=7, array_id="7", state=State.COMPLETED, cancelled_by=None, exit=Exit(0, 0),
    submitted_at=1800.0, started_at=1900.0, ended_at=1950.0, elapsed=50.0, cpu_seconds=4.5,
    resources=Resources(), nodes=("n1",), reason="", user="u", name="qa-7",
    steps=(Step("batch", State.COMPLETED, Exit(0, 0), 4.5, 3_000_000),),
)  # fmt: skip
RAN = Folder(
    exists=True, submitting_at=1799.0, job_ids=(7,), claimed=True, started_at=1900.5,
    exit_code=0, ended_at=1950.5,
)  # fmt: skip
NOTHING = Folder(exists=False)


def ended(state: State, **changes: object) -> Accounted:
    return replace(RUN, state=state, **changes)  # type: ignore[arg-type]


def concluded(seen: Observation | None) -> tuple[int, str | None]:
    assert seen is not None and seen.phase is Phase.ENDED and seen.ending is not None, seen
    return seen.ending.exit_code, seen.ending.reason


def test_times_and_use_are_those_of_slurm() -> None:
    seen = of_gone(Witnesses(RAN, runs=[RUN]), CLOCK)
    assert seen is not None and seen.ending is not None
    assert (seen.ending.started_at, seen.ending.ended_at) == (1900.0, 1950.0)
    assert (seen.ending.peak_memory_bytes, seen.ending.cpu_seconds) == (3_000_000, 4.5)


@pytest.mark.parametrize(
    ("state", "own", "recorded", "wanted", "conclusion"),
    [
        (State.COMPLETED, Exit(0, 0), 0, None, (0, None)),
        (State.FAILED, Exit(3, 0), 3, None, (3, None)),
        (State.FAILED, Exit(121, 0), 121, None, (121, None)),  # the script's own
        (State.FAILED, Exit(137, 0), 137, None, (137, None)),
        (State.FAILED, Exit(0, 9), None, None, (137, None)),
        (State.FAILED, Exit(0, 9), 0, None, (0, None)),  # its wrapper, and not its script
        (State.FAILED, Exit(3, 0), 0, None, (3, None)),
        (State.CANCELLED, Exit(0, 15), 143, None, (143, "Cancelled")),
        (State.CANCELLED, Exit(0, 0), 5, None, (5, "Cancelled")),  # it caught the signal
        (State.CANCELLED, Exit(0, 0), 0, None, (143, "Cancelled")),
        (State.CANCELLED, Exit(0, 15), 143, "TimeLimit", (143, "TimeLimit")),
        (State.FAILED, Exit(143, 0), 143, "TimeLimit", (143, "TimeLimit")),
        (State.COMPLETED, Exit(0, 0), 0, "TimeLimit", (0, None)),  # it was quicker
        (State.TIMEOUT, Exit(0, 0), None, None, (143, "TimeLimit")),
        (State.OUT_OF_MEMORY, Exit(0, 125), None, None, (137, "OutOfMemory")),
        (State.NODE_FAIL, Exit(0, 0), 0, None, (0, None)),  # the node failed after it
        (State.DEADLINE, Exit(0, 0), None, None, (143, "Deadline")),
    ],
)
def test_how_it_ended(
    state: State,
    own: Exit,
    recorded: int | None,
    wanted: str | None,
    conclusion: tuple[int, str | None],
) -> None:
    folder = replace(RAN, exit_code=recorded, wanted=wanted)
    seen = Witnesses(folder, runs=[ended(state, exit=own, steps=())])
    assert concluded(of_gone(seen, CLOCK)) == conclusion


@pytest.mark.parametrize(
    ("state", "own", "recorded"),
    [
        (State.NODE_FAIL, Exit(0, 0), None),
        (State.NODE_FAIL, Exit(0, 15), 143),  # the signal came before the node was gone
        (State.NODE_FAIL, Exit(0, 15), 1),  # it reached a part of the script first
        (State.BOOT_FAIL, Exit(0, 0), None),
        (State.PREEMPTED, Exit(0, 15), 143),
        (State.PREEMPTED, Exit(0, 0), 0),
        (State.FAILED, Exit(121, 0), None),  # begun a second time
        (State.FAILED, Exit(121, 0), 143),
        (State.FAILED, Exit(121, 0), 1),
    ],
)
def test_what_was_taken_from_it_is_lost(state: State, own: Exit, recorded: int | None) -> None:
    seen = of_gone(
        Witnesses(replace(RAN, exit_code=recorded), runs=[ended(state, exit=own)]), CLOCK
    )
    assert seen is not None and seen.phase is Phase.LOST


def test_a_second_start_that_failed_by_itself_says_nothing_of_the_first() -> None:
    """It came after the run had begun, and ended before it could see that it had."""
    folder = replace(RAN, exit_code=None, ended_at=None)
    first = ended(State.REQUEUED, ended_at=1910.0)
    second = ended(State.FAILED, exit=Exit(1, 0), started_at=1912.0)
    told = replace(JOB, state=State.FAILED, exit=Exit(1, 0), started_at=1912.0, restarts=1)
    for jobs, runs in (([told], [second]), ([told], []), ([], [first, second])):
        seen = of_gone(Witnesses(folder, jobs, runs, patient=False), CLOCK)
        assert seen is not None and seen.phase is Phase.LOST


def test_a_second_start_that_is_the_one_that_ran_counts() -> None:
    """The first never came to our script; the disk was too full for a record."""
    folder = replace(RAN, started_at=1912.5, exit_code=None, ended_at=None)
    first = ended(State.NODE_FAIL, ended_at=1910.0)
    second = ended(State.FAILED, exit=Exit(1, 0), started_at=1912.0)
    assert concluded(of_gone(Witnesses(folder, runs=[first, second]), CLOCK)) == (1, None)


def test_a_job_that_never_started_has_no_time() -> None:
    run = ended(State.CANCELLED, started_at=None, ended_at=1850.0, steps=(), cpu_seconds=0.0)
    folder = Folder(exists=True, job_ids=(7,))
    seen = of_gone(Witnesses(folder, runs=[run]), CLOCK)
    assert concluded(seen) == (143, "Cancelled")
    assert seen is not None and seen.ending is not None
    assert seen.ending.started_at == seen.ending.ended_at == 1850.0


def test_a_node_that_can_not_read_the_folder_is_not_the_scripts_fault() -> None:
    folder = Folder(exists=True, job_ids=(7,))
    run = ended(State.FAILED, exit=Exit(127, 0), steps=())
    assert concluded(of_gone(Witnesses(folder, runs=[run]), CLOCK)) == (127, "LaunchFailed")


def test_the_controller_knows_codes_that_accounting_cuts() -> None:
    folder = replace(RAN, exit_code=None, ended_at=None)  # no record, as on a disk that is full
    batch = replace(RUN.steps[0], state=State.FAILED, exit=Exit(9, 0))
    run = ended(State.FAILED, exit=Exit(9, 0), steps=(batch,))
    told = replace(JOB, state=State.FAILED, exit=Exit(137, 0))
    assert concluded(of_gone(Witnesses(folder, [told], [run]), CLOCK)) == (137, None)
    assert concluded(of_gone(Witnesses(folder, runs=[run]), CLOCK)) == (9, None)


def test_what_found_no_room_on_the_disk_has_not_begun() -> None:
    folder = Folder(exists=True, job_ids=(7,))
    run = ended(State.FAILED, exit=Exit(120, 0), steps=())
    seen = of_gone(Witnesses(folder, runs=[run]), CLOCK)
    assert seen is not None and seen.phase is Phase.LOST
    assert seen.why is not None and "was full" in seen.why
    own = replace(RAN, exit_code=120)  # the script's own code is the script's
    assert concluded(of_gone(Witnesses(own, runs=[run]), CLOCK)) == (120, None)


def test_accounting_that_has_not_heard_yet_is_waited_for_and_then_not() -> None:
    job = replace(JOB, state=State.FAILED, exit=Exit(3, 0))
    stale = ended(State.RUNNING, ended_at=None)
    folder = replace(RAN, exit_code=3)
    for runs in ([], [stale]):
        assert of_gone(Witnesses(folder, [job], runs), CLOCK) is None
        seen = of_gone(Witnesses(folder, [job], runs, patient=False), CLOCK)
        assert concluded(seen) == (3, None)
        assert seen is not None and seen.ending is not None and seen.ending.cpu_seconds is None


def test_its_own_record_is_enough_when_slurm_has_forgotten_it() -> None:
    folder = replace(RAN, exit_code=4)
    assert of_gone(Witnesses(folder), CLOCK) is None
    assert concluded(of_gone(Witnesses(folder, patient=False), CLOCK)) == (4, None)


@pytest.mark.parametrize(
    "folder", [NOTHING, replace(RAN, exit_code=None, ended_at=None), Folder(exists=True)]
)
def test_what_nobody_knows_is_unknown_and_not_failed(folder: Folder) -> None:
    assert of_gone(Witnesses(folder, patient=False), CLOCK) == Observation(Phase.UNKNOWN)


def test_of_two_submissions_the_one_that_claimed_the_run_counts() -> None:
    folder = replace(RAN, exit_code=0, job_ids=(7, 8))
    loser = replace(RUN, job_id=8, state=State.FAILED, exit=Exit(121, 0))
    for runs in ([RUN, loser], [loser, RUN]):
        assert concluded(of_gone(Witnesses(folder, runs=runs), CLOCK)) == (0, None)


def test_the_last_run_of_a_job_that_slurm_ran_again_counts() -> None:
    first = ended(State.NODE_FAIL, exit=Exit(0, 0))
    assert concluded(of_gone(Witnesses(RAN, runs=[first, RUN]), CLOCK)) == (0, None)


@pytest.mark.parametrize("state", list(State))
def test_every_state_of_slurm_is_told_as_what_it_means(state: State) -> None:
    job = replace(JOB, state=state)
    living = alive([job])
    meant = MEANING[state].phase
    if living is not None:
        assert of_alive(living, CLOCK).phase is meant
        return
    seen = of_gone(Witnesses(replace(RAN, exit_code=None), [job], patient=False), CLOCK)
    assert seen is not None
    assert seen.phase in (meant, Phase.LOST, Phase.UNKNOWN)
    assert seen.phase is not Phase.ENDED or meant is Phase.ENDED


def test_one_that_runs_goes_before_one_that_waits() -> None:
    waits = replace(JOB, job_id=6, state=State.PENDING)
    assert alive([waits, JOB]) is JOB
    assert alive([replace(JOB, state=State.COMPLETED)]) is None


def test_seconds_of_suspensions_add_up() -> None:
    stopped = replace(JOB, state=State.SUSPENDED, run_seconds=40.0)
    first = resumed(Observation(Phase.RUNNING, 1900.0), of_alive(stopped, CLOCK))
    assert (first.suspended_at, first.suspended_seconds) == (1940.0, 0.0)
    again = resumed(first, of_alive(stopped, Clock(2100.0)))
    assert again.suspended_at == 1940.0
    goes_on = of_alive(replace(JOB, run_seconds=45.0), Clock(2000.0))
    assert goes_on.suspended_seconds == 55.0
    later = replace(JOB, state=State.SUSPENDED, run_seconds=50.0)
    second = resumed(goes_on, of_alive(later, Clock(2050.0)))
    assert (second.suspended_at, second.suspended_seconds) == (1900.0 + 50.0 + 55.0, 55.0)


def test_a_clock_that_is_ahead_is_allowed_for() -> None:
    here = 1.8e9
    clock = clock_of(f"Welcome!\n{here + 3600.5:.9f}\n", here, here + 1)
    assert clock.ahead == pytest.approx(3600.0)
    run = ended(State.COMPLETED, started_at=here + 3590.0, ended_at=here + 3600.0)
    seen = of_gone(Witnesses(RAN, runs=[run]), clock)
    assert seen is not None and seen.ending is not None
    assert seen.ending.started_at == pytest.approx(here - 10.0)
    assert seen.ending.ended_at == pytest.approx(here)


@pytest.mark.parametrize("told", [0.3, -0.9, 1.9, None])
def test_what_can_not_be_told_from_right_is_right(told: float | None) -> None:
    here = 1.8e9
    text = "noon\n" if told is None else f"{here + told:.9f}\n"
    assert clock_of(text, here, here + 0.5).ahead == 0.0


@pytest.mark.parametrize(("code", "status"), [(7, 7), (120, 120), (121, 121)])
def test_of_a_folder_that_nobody_can_look_into_nothing_is_concluded(code: int, status: int) -> None:
    hidden = replace(NOTHING, hidden=True, job_ids=(7,))
    run = ended(State.FAILED, exit=Exit(code, 0))
    assert concluded(of_gone(Witnesses(hidden, runs=[run], patient=False), CLOCK)) == (status, None)
    assert of_gone(Witnesses(hidden, patient=True), CLOCK) is None
    unknown = of_gone(Witnesses(hidden, patient=False), CLOCK)
    assert unknown is not None and unknown.phase is Phase.UNKNOWN

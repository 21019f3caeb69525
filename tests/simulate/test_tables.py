"""Reading traces as tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from queueapi.simulate.read import read_trace
from queueapi.simulate.tables import UBCCR
from queueapi.simulate.trace import Trace, TraceError

HEAD = "submit,run,time_limit"


def read(tmp_path: Path, *lines: str) -> Trace:
    path = tmp_path / "jobs.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_trace(path)


def test_all_columns(tmp_path: Path) -> None:
    head = (
        "id,submit,run,time_limit,nodes,cpus,memory_mb,gpus,gpu_type,constraint,exclusive,user,"
        "group,priority,waited"
    )
    [job] = read(tmp_path, head, "a,1.5,60,90,2,4,8000,1,a100,IB&x|y,1,ann,bio,9,30").jobs
    assert (job.name, job.submit, job.run, job.time_limit) == ("a", 1.5, 60, 90)
    assert (job.nodes, job.cpus, job.memory_mb, job.gpu_count, job.gpu_type) == (
        (2, 4, 8000, 1, "a100")
    )
    assert (job.constraint, job.exclusive) == ((("IB", "x"), ("y",)), True)
    assert (job.user, job.group, job.base_priority, job.waited) == ("ann", "bio", 9, 30)


def test_what_is_absent_or_empty_has_a_default(tmp_path: Path) -> None:
    [job] = read(tmp_path, f"{HEAD},cpus,memory_mb", "0,0,60,,").jobs
    assert (job.name, job.cpus, job.nodes, job.memory_mb, job.gpu_count) == ("2", 1, 1, None, 0)


def test_comments_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    assert len(read(tmp_path, HEAD, "# a remark", "", "0,1,2").jobs) == 1


def test_a_semicolon_separates_as_well(tmp_path: Path) -> None:
    [job] = read(tmp_path, f"{HEAD},user".replace(",", ";"), '0;1;2;"a;b"').jobs
    assert job.user == "a;b"


@pytest.mark.parametrize(
    ("head", "line", "problem"),
    [
        ("run,submit", "1,2", "jobs.csv:1: no column time_limit"),
        (f"{HEAD},cores", "0,1,2,3", "jobs.csv:1: unknown column 'cores'"),
        (f"{HEAD},run", "0,1,2,3", "jobs.csv:1: a column is there twice"),
        (HEAD, "0,1", "jobs.csv:2: 2 cells; the first line names 3"),
        (HEAD, "0,1,0", "jobs.csv:2: time_limit must be above 0 and below 1e10, not '0'"),
        (HEAD, "-5,1,2", "jobs.csv:2: submit must be 0 or more and below 1e10, not '-5'"),
        (HEAD, "0,nan,2", "jobs.csv:2: run must be 0 or more and below 1e10, not 'nan'"),
        (HEAD, "0,,2", "jobs.csv:2: run must be 0 or more and below 1e10, not ''"),
        (f"{HEAD},cpus", "0,1,2,0", "jobs.csv:2: cpus must be a whole number from 1, not '0'"),
        (f"{HEAD},gpus", "0,1,2,x", "jobs.csv:2: gpus must be a whole number from 0, not 'x'"),
        (f"{HEAD},cpus", f"0,1,2,{'9' * 5000}", "jobs.csv:2: cpus must be a whole number from 1"),
        (f"{HEAD},user", '0,1,2,"a', "jobs.csv:2: unexpected end of data"),
        (f"{HEAD},priority", "0,1,2,11", "jobs.csv:2: priority must be from 1 to 10, not 11"),
        (f"{HEAD},exclusive", "0,1,2,ja", "jobs.csv:2: exclusive must be 1 or 0, not 'ja'"),
        (f"{HEAD},constraint", "0,1,2,a&", "jobs.csv:2: 'a&' is not a constraint"),
        (
            f"{HEAD},gpus,gpu_type",
            "0,1,2,0,a100",
            "jobs.csv:2: gpu_type a100 and no gpus",
        ),
    ],
)
def test_a_bad_cell_is_named_with_its_place(
    tmp_path: Path, head: str, line: str, problem: str
) -> None:
    with pytest.raises(TraceError) as caught:
        read(tmp_path, head, line)
    assert problem in str(caught.value)


def test_the_table_of_slurms_simulator(tmp_path: Path) -> None:
    trace = read(
        tmp_path,
        ";".join(UBCCR),
        "49;1002;1201;user1;30;36;12;account1;normal;normal;CPU-N;;",
        "60;1003;-1;user4;16;1;1;account2;normal;normal;;500000;gpu:2",
    )
    wide, large = trace.jobs
    assert (wide.submit, wide.run, wide.time_limit) == (49, 1201, 1800)
    assert (wide.nodes, wide.cpus, wide.constraint) == (3, 12, (("CPU-N",),))
    assert (wide.user, wide.group, wide.memory_mb) == ("user1", "account1", None)
    assert (large.run, large.memory_mb, large.gpu_count) == (960, 500_000, 2)  # until its limit

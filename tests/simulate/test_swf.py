"""Reading the Standard Workload Format."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from queueapi.simulate.read import read_trace
from queueapi.simulate.swf import read_swf
from queueapi.simulate.trace import Trace, TraceError
from tests.simulate.traces import SMALL, real_trace

LINE = "7 100 20 60 4 -1 -1 8 90 -1 1 3 2 -1 -1 -1 -1 -1"


def job(**changed: str) -> str:
    names = (
        "id submit wait run allocated cpu used requested time memory status user group app queue "
        "part before think"
    )
    values = dict(zip(names.split(), LINE.split(), strict=True)) | changed
    return " ".join(values.values())


def read(tmp_path: Path, *lines: str, header: str = "; MaxProcs: 10") -> Trace:
    path = tmp_path / "trace.swf"
    path.write_text("\n".join([header, *lines]) + "\n")
    return read_swf(path)


def test_a_line_is_a_job(tmp_path: Path) -> None:
    trace = read(tmp_path, ";", "", LINE)
    [only] = trace.jobs
    assert trace.processors == 10
    assert (only.name, only.submit, only.run, only.time_limit) == ("7", 100, 60, 90)
    assert (only.cpus, only.nodes, only.user, only.group, only.waited) == (8, None, "3", "2", 20)


def test_allocated_processors_stand_for_requested_ones_that_are_not_known(tmp_path: Path) -> None:
    [only] = read(tmp_path, job(requested="-1")).jobs
    assert only.cpus == 4


def test_a_job_is_cut_off_at_its_limit(tmp_path: Path) -> None:
    [only] = read(tmp_path, job(run="100")).jobs
    assert only.run == 90


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"run": "0"}, "without a run time"),
        ({"run": "-1"}, "without a run time"),
        ({"time": "-1"}, "without a requested time"),
        ({"submit": "-1"}, "submitted before the trace begins"),
        ({"requested": "11"}, "larger than the machine"),
        ({"allocated": "11"}, "larger than the machine"),
        ({"requested": "-1", "allocated": "-1"}, "without processors"),
    ],
)
def test_a_job_that_can_not_have_run_is_left_out(
    tmp_path: Path, changed: dict[str, str], why: str
) -> None:
    trace = read(tmp_path, LINE, job(**changed))
    assert len(trace.jobs) == 1
    assert trace.dropped == {why: 1}


def test_without_any_requested_time_run_times_stand_for_them(tmp_path: Path) -> None:
    trace = read(tmp_path, job(time="-1"))
    assert trace.jobs[0].time_limit == 60
    assert "no requested times" in trace.notes[0]


def test_jobs_are_put_in_order_and_ties_stay_as_they_are(tmp_path: Path) -> None:
    trace = read(tmp_path, job(id="1"), job(id="2", submit="50"), job(id="3"))
    assert [each.name for each in trace.jobs] == ["2", "1", "3"]


def test_memory_is_asked_for_each_processor(tmp_path: Path) -> None:
    [only] = read(tmp_path, job(memory="2048")).jobs
    assert only.memory_mb == 16


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (LINE + " 5", "19 fields; the Standard Workload Format has 18"),
        (LINE.rpartition(" ")[0], "17 fields; the Standard Workload Format has 18"),
        (job(run="ten"), "field 4 (run time) must be a number below 1e+10, not 'ten'"),
        (job(think="inf"), "field 18 (think time) must be a number below 1e+10, not 'inf'"),
        (job(run="1e18"), "field 4 (run time) must be a number below 1e+10, not '1e18'"),
        (job(requested="2.5"), "field 8 (requested processors) must be whole, not '2.5'"),
        (job(submit="nan"), "field 2 (submit time) must be a number below 1e+10, not 'nan'"),
    ],
)
def test_a_bad_line_is_named_with_its_place(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(TraceError) as caught:
        read(tmp_path, LINE, line)
    assert str(caught.value) == f"{tmp_path / 'trace.swf'}:3: {problem}"


def test_a_bad_header_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"trace.swf:1: MaxProcs must be a whole number from 1"):
        read(tmp_path, LINE, header="; MaxProcs: many")


def test_a_trace_without_a_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"no job to simulate \(1 without a run time left out\)"):
        read(tmp_path, job(run="0"))


def test_gzip_is_told_by_the_file_and_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "packed"
    path.write_bytes(gzip.compress(SMALL.read_bytes()))
    assert read_trace(path).jobs == read_trace(SMALL).jobs
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TraceError, match="the gzip file is damaged"):
        read_trace(path)


@pytest.mark.parametrize(("content", "problem"), [(None, "No such file"), ("\n \n", "is empty")])
def test_a_file_without_anything_is_refused(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    path = tmp_path / "trace"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TraceError, match=problem):
        read_trace(path)


def test_a_file_of_anything_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(TraceError, match="neither a trace in the Standard Workload Format"):
        read_trace(path)


@pytest.mark.parametrize(("name", "jobs"), [("KTH", 28_481), ("SDSCSP2", 54_006)])
def test_of_real_traces_the_jobs_of_the_reference_are_kept(name: str, jobs: int) -> None:
    assert len(real_trace(name).jobs) == jobs

"""`queueapi simulate`, as a person calls it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from queueapi.cli.main import app
from tests.cli.server import Cli, Server
from tests.simulate.traces import EXAMPLES, ROOT, SMALL

NODES = str(EXAMPLES / "nodes.conf")
TABLE = """\
submit,run,time_limit,nodes,cpus,gpus,constraint,user,group,waited
0,600,900,8,12,,,ann,bio,0
10,600,900,1,4,2,,bob,bio,10
20,600,900,2,12,,CPU-N|CPU-M,eve,chem,40
30,60,900,1,1,,BigMem,eve,chem,0
"""


@pytest.fixture
def cli(new_cli: Callable[..., Cli]) -> Cli:
    return new_cli()


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "jobs.csv"
    path.write_text(TABLE)
    return str(path)


def test_policies_are_compared(cli: Cli) -> None:
    shown = cli.run("simulate", str(SMALL), "--policy", "easy", "--compare", "fcfs,easy:exact")
    head, *lines = shown.stdout.splitlines()
    assert head.split() == ["easy", "fcfs", "ratio", "easy:exact", "ratio"]
    rows = {name: cells for name, *cells in (re.split(r"  +", line) for line in lines)}
    assert rows["jobs"][:2] == ["500", "500"]
    assert float(rows["mean wait, s"][2]) > 10
    assert {"utilisation", "Jain's index, groups", "unfair starts, %"} <= rows.keys()


def test_the_guides_example_is_what_comes_out(cli: Cli) -> None:
    guide = (ROOT / "docs" / "simulate.md").read_text()
    command, shown = re.findall(
        r"\$ queueapi (simulate .+small\.swf.*)\n((?:[^`$]+\n)+)```", guide
    )[0]
    printed = cli.run(*command.replace("docs/examples/small.swf", str(SMALL)).split()).stdout
    same = [line for line in shown.splitlines() if "jobs/s" not in line]
    assert [line for line in printed.splitlines() if "jobs/s" not in line] == same


def test_json_has_all_figures(cli: Cli) -> None:
    [found] = json.loads(cli.run("simulate", str(SMALL), "--json", "--jobs", "50").stdout)
    assert (found["policy"], found["jobs"], found["never_started"]) == ("easy", 50, 0)
    assert 0 < found["utilisation"] <= 1
    assert found["unfair_starts"]["jobs"] >= 0
    assert found["simulated_jobs_per_second"] > 0


def test_a_table_is_replayed_on_real_nodes_beside_what_happened(cli: Cli, table: str) -> None:
    shown = cli.run("simulate", table, "--nodes", NODES, "--json", "--no-fair-starts")
    recorded, easy = json.loads(shown.stdout)
    assert (recorded["policy"], recorded["mean_wait"]) == ("recorded", 12.5)
    assert easy["jobs"] == 4
    assert easy["unfair_starts"] is None


def test_a_row_for_each_job_is_written(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "jobs.csv"
    cli.run("simulate", str(SMALL), "--compare", "fcfs", "--csv", str(out))
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 1000
    assert {row["policy"] for row in rows} == {"easy", "fcfs"}
    first = rows[0]
    assert (first["id"], first["start"], first["end"], first["wait"]) == ("1", "0", "2480", "0")


def test_a_picture_is_drawn(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "waits.png"
    cli.run("simulate", str(SMALL), "--jobs", "100", "--plot", str(out))
    assert out.read_bytes().startswith(b"\x89PNG")
    refused = cli.run("simulate", str(SMALL), "--jobs", "9", "--plot", "waits.bmp3", expect=2)
    assert "waits.bmp3" in refused.stderr


def test_the_history_of_a_server_that_runs_can_be_replayed(
    new_cli: Callable[..., Cli], server: Server
) -> None:
    beside = new_cli(**server.variables)
    refused = beside.run("simulate", "--from-database", "--until", "2020-01-01", expect=1)
    assert refused.stderr == "Error: no job has ended in this time.\n"


def test_what_was_left_out_is_said(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "trace.swf"
    path.write_text(SMALL.read_text().replace("MaxProcs: 64", "MaxProcs: 31"))
    stderr = cli.run("simulate", str(path), "--jobs", "9").stderr
    assert re.search(r"jobs left out: \d+ larger than the machine", stderr)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Error: name a trace, or give --from-database, and not both"),
        ([str(SMALL), "--from-database"], 2, "Error: name a trace, or give --from-database"),
        (["--from-database", "--since", "soon"], 2, "--since: 'soon' is not a time"),
        ([str(SMALL), "--since", "2026-11-01"], 2, "--since and --until are of --from-database"),
        ([str(SMALL), "--policy", "easy+reservations=0"], 2, "one reservation, and a depth"),
        (["nowhere.swf"], 1, "Error: nowhere.swf: No such file or directory."),
        ([str(SMALL), "--policy", "esay"], 2, "Error: unknown policy 'esay'; there are fcfs,"),
        ([str(SMALL), "--estimates", "bad"], 2, "Error: unknown estimates 'bad'"),
        ([str(SMALL), "--compare", "easy+x=1"], 2, "Error: unknown setting 'x'"),
        ([str(SMALL), "--nodes", str(SMALL)], 1, "small.swf: no node; write lines such as"),
        ([str(SMALL), "--jobs", "0"], 2, "--jobs"),
        ([str(SMALL), "--jobs", "1", "--csv", "/tmp"], 1, "/tmp is a folder"),
        ([str(SMALL), "--jobs", "1", "--csv", "/no/where"], 1, "/no/where: there is no folder /no"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], code: int, message: str) -> None:
    """In this process: a dozen of others would take their time."""
    found = CliRunner().invoke(app, ["simulate", *arguments])
    assert (found.exit_code, message in found.stderr) == (code, True), found.stderr

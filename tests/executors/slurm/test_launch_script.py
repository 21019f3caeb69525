"""The script that launches jobs on a login node, by itself: what it makes, and what it leaves."""

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from queueapi.executors.slurm.folders import (
    Launched,
    Prepared,
    Programs,
    launch_argv,
    new_mark,
    pack,
    parse_launch,
)

DAY = 86_400.0


def launch(root: Path, *keys: str, sbatch: Sequence[str] = ("echo", "17")) -> dict[str, Launched]:
    """``sbatch``: what is run in its place."""
    mark = new_mark()
    jobs = [Prepared(key, {"script": b"true\n"}, tuple(sbatch)) for key in keys]
    packed = pack(Programs.of(str(root)), jobs)
    done = subprocess.run(
        launch_argv(str(root), mark, ()), input=packed, capture_output=True, check=True
    )
    return parse_launch(done.stdout.decode(), mark)


def drafts(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob(".new-*"))


def test_each_job_gets_its_folder_and_no_draft_is_left(tmp_path: Path) -> None:
    root = tmp_path / "jobs"
    assert launch(root, "qa-1-a", "qa-2-b") == {
        "qa-1-a": Launched(17, None),
        "qa-2-b": Launched(17, None),
    }
    assert (root / "qa-1-a/script").read_text() == "true\n"
    assert drafts(root) == []


def test_of_those_who_launch_the_same_jobs_at_the_same_time_one_submits_each(
    tmp_path: Path,
) -> None:
    keys = [f"qa-{number}-a" for number in range(20)]
    sbatch = ("sh", "-c", f"echo x >>{tmp_path}/submits; sleep 0.01; echo 17")

    def launch_all(_: int) -> dict[str, Launched]:
        return launch(tmp_path / "jobs", *keys, sbatch=sbatch)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(launch_all, range(4)))
    assert (tmp_path / "submits").read_text() == "x\n" * len(keys)
    for key in keys:
        assert Launched(17, None) in [told[key] for told in found], key


def test_one_that_was_killed_in_the_middle_is_found_again_and_its_draft_is_cleared_away_in_time(
    tmp_path: Path,
) -> None:
    root = tmp_path / "jobs"
    killed = Prepared("qa-1-a", {"script": b"true\n"}, ("sh", "-c", 'kill -9 "$PPID"; echo 17'))
    next_to_it = Prepared("qa-2-b", {"script": b"true\n"}, ("echo", "17"))
    done = subprocess.run(
        launch_argv(str(root), new_mark(), ()),
        input=pack(Programs.of(str(root)), [killed, next_to_it]),
        capture_output=True,
        check=False,
    )
    assert done.returncode < 0
    assert len(drafts(root)) == 1
    assert not (root / "qa-2-b/submitting").exists()
    # Nobody knows whether it was submitted: it is not submitted again, just like that.
    assert launch(root, "qa-1-a", "qa-2-b") == {
        "qa-1-a": Launched(None, None),
        "qa-2-b": Launched(17, None),
    }
    [left] = drafts(root)  # somebody may still be at it
    os.utime(root / left, (root.stat().st_mtime - 2 * DAY,) * 2)
    launch(root, "qa-3-c")
    assert drafts(root) == []

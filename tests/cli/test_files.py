"""`queueapi files`, `fetch` and `submit --data`: what a job leaves, and what it asks for."""

from pathlib import Path

import pytest

from tests.cli.server import Cli

LEAVES = (
    "mkdir -p sub $QUEUEAPI_RESULT/deep; echo one >sub/one; echo two >$QUEUEAPI_RESULT/deep/two;"
    " ln -s /etc/passwd $QUEUEAPI_RESULT/out; head -c 3000000 /dev/zero >$QUEUEAPI_RESULT/large"
)


@pytest.fixture(scope="module")
def job_id(ada: Cli) -> int:
    found = ada.submit(LEAVES)
    ada.run("wait", found)
    return found


def fetched(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def test_a_jobs_folder_is_listed(ada: Cli, job_id: int) -> None:
    assert [file["path"] for file in ada.json("files", job_id)] == ["work", "result"]
    shown = ada.run("files", job_id, "result").stdout.splitlines()
    assert [line.split()[-1] for line in shown] == [
        "PATH", "result/deep", "result/large", "result/out"
    ]  # fmt: skip
    assert "422" in ada.run("files", job_id, "../x", expect=1).stderr


def test_a_file_and_all_results_are_fetched(ada: Cli, job_id: int) -> None:
    ada.run("fetch", job_id, "work/sub/one", "-o", "one")
    assert (ada.home / "one/one").read_text() == "one\n"
    for folder, words in (("all", ()), ("again", ("--result",))):
        ada.run("fetch", job_id, *words, "-o", folder)
        assert fetched(ada.home / folder) == {"deep/two": 4, "large": 3_000_000}


def test_what_can_not_be_fetched_leaves_nothing(ada: Cli, job_id: int) -> None:
    for path in ("work/nothing", "result/out", "work/sub"):
        assert "Error" in ada.run("fetch", job_id, path, "-o", "none", expect=1).stderr
    assert fetched(ada.home / "none") == {}
    ada.run("fetch", job_id, "work/sub/one", "--result", expect=2)


def test_data_are_asked_for_and_refused_by_name(ada: Cli) -> None:
    refused = ada.run("submit", "--data", "path:/etc", "--command", "x", expect=1)
    assert "/data/target" in refused.stderr

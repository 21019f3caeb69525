"""`queueapi folder`, and `--executable`."""

from pathlib import Path

import pytest

from tests.cli.server import Cli

CODE = 'cat "$QUEUEAPI_EXECUTABLE/main.py"'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "main.py").write_text("print(1)\n")
    (folder / "again").symlink_to("main.py")
    return folder


def test_a_folder_from_its_upload_to_its_end(ada: Cli, project: Path) -> None:
    ref = ada.run("folder", "upload", str(project)).stdout.strip()
    number = ref.removeprefix("folder:")
    assert number.isdigit()
    assert ada.run("folder", "upload", str(project)).stdout.strip() == ref
    shown = ada.json("folder", "show", number)
    assert [entry["path"] for entry in shown["entries"]] == ["again", "main.py"]
    assert "→ main.py" in ada.run("folder", "show", ref).stdout
    assert "project" in ada.run("folder", "list").stdout
    for given in (str(project), ref, number):
        done = ada.run("run", "--executable", given, "--memory", "256M", "-c", CODE)
        assert done.stdout == "print(1)\n"
    job_id = ada.submit(CODE, "--executable", str(project))
    assert ada.json("status", job_id)["executable"] == ref
    assert "accepted" in ada.run("preview", "--executable", ref, "-c", CODE).stdout
    ada.run("wait", job_id)
    ada.run("folder", "delete", ref)
    assert ref not in ada.run("folder", "list").stdout


def test_what_can_not_be_sent_is_told(ada: Cli, tmp_path: Path) -> None:
    missing = ada.run("submit", "--executable", str(tmp_path / "none"), "-c", "x", expect=2)
    assert "No such file" in missing.stderr
    assert "write 17" in ada.run("folder", "show", "x", expect=2).stderr
    gone = ada.run("submit", "--executable", "999999", "-c", "x", expect=1)
    assert "folder:999999" in gone.stderr
    (tmp_path / "empty").mkdir()
    assert "no file" in ada.run("folder", "upload", str(tmp_path / "empty"), expect=1).stderr

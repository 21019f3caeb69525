"""Folders by both clients."""

import tarfile
from pathlib import Path

import pytest

from queueapi.client import AsyncClient, Client, QueueApiError
from queueapi.client.folders import packed
from tests.cli.server import Server

CODE = 'sh "$QUEUEAPI_EXECUTABLE/lib/tool.sh" well'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Code, and what is not meant to go with it."""
    folder = tmp_path / "project"
    for name in ("lib/__pycache__", ".git/objects"):
        (folder / name).mkdir(parents=True)
    (folder / "lib/tool.sh").write_text("echo it is $1\n")
    (folder / "run").symlink_to("lib/tool.sh")
    (folder / "lib/__pycache__/x.pyc").write_text("x")
    (folder / ".git/objects/y").write_text("y")
    return folder


def test_a_folder_goes_up_and_a_job_runs_what_is_in_it(sdk: Client, project: Path) -> None:
    folder = sdk.upload_folder(project)
    assert (folder.name, folder.files) == ("project", 1)
    assert [e.path for e in sdk.folder(folder.id).entries] == ["lib", "lib/tool.sh", "run"]
    assert sdk.upload_folder(project, name="again").id == folder.id
    job = sdk.wait(sdk.submit(CODE, executable=folder.ref, memory_gb=0.25).id, timeout=60)
    assert (job.status, job.stdout_tail, job.executable) == (
        "completed",
        "it is well\n",
        folder.ref,
    )
    assert [one.id for one in sdk.folders()] == [folder.id]
    sdk.delete_folder(folder.id)
    with pytest.raises(QueueApiError) as error:
        sdk.folder(folder.id)
    assert error.value.status == 404


async def test_the_other_client_does_the_same(server: Server, token: str, project: Path) -> None:
    async with AsyncClient(server.url, token) as client:
        folder = await client.upload_folder(str(project))
        assert [one.id async for one in client.folders()] == [folder.id]
        assert (await client.folder(folder.id)).entries[-1].target == "lib/tool.sh"
        job = await client.submit(CODE, executable=folder.ref, memory_gb=0.25)
        assert (await client.wait(job.id, timeout=60)).stdout_tail == "it is well\n"
        await client.delete_folder(folder.id)


def test_a_file_and_an_archive_go_up_as_well(sdk: Client, project: Path, tmp_path: Path) -> None:
    one = sdk.upload_folder(project / "lib/tool.sh")
    assert [entry.path for entry in sdk.folder(one.id).entries] == ["tool.sh"]
    archive = tmp_path / "p.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(project / "lib/tool.sh", "tool.sh")
    assert sdk.upload_folder(archive).id == one.id
    with packed(archive) as (path, kind):
        assert (path, kind) == (archive, "application/gzip")
    sdk.delete_folder(one.id)
    with pytest.raises(FileNotFoundError):
        sdk.upload_folder(tmp_path / "none")


def test_what_leads_out_of_it_is_refused_by_its_name(sdk: Client, project: Path) -> None:
    (project / "secret").symlink_to("/etc/shadow")
    with pytest.raises(QueueApiError) as error:
        sdk.upload_folder(project)
    assert error.value.status == 422
    assert "'secret'" in str(error.value)

"""A job's files by the API: listed, fetched, and its results as a tar."""

import io
import tarfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from queueapi.executors.files import FileEntry, FileKind, NoSuchFile
from queueapi.jobs.files import CHUNK, JobFiles
from tests.jobs.test_running import LOCAL, SMALL
from tests.staging import NODE, Caller, Puppet, Stage, fetch

Make = Callable[..., Any]
TREE = r"""
mkdir -p sub "$QUEUEAPI_RESULT/deep/er"; printf '0123456789' >sub/ten
printf 'ä' >"$QUEUEAPI_RESULT/ä ö.txt"; printf x >"$QUEUEAPI_RESULT/deep/er/x"
: >"$QUEUEAPI_RESULT/empty"; ln -s /etc/passwd "$QUEUEAPI_RESULT/out"; ln -s /etc sub/etc
chmod 755 "$QUEUEAPI_RESULT/empty"; printf odd >"$QUEUEAPI_RESULT/$(printf 'o\377d')"
head -c 3000000 /dev/zero | tr '\0' q >"$QUEUEAPI_RESULT/large"
"""


async def left(stage: Any, make_person: Make, script: str = TREE) -> tuple[Caller, Any, str]:
    app, client = stage
    caller = Caller(client, await make_person())
    job_id = await caller.submit(script, **SMALL)
    await caller.until(job_id, "completed")
    return caller, app, f"/api/jobs/{job_id}"


async def names(caller: Caller, path: str, folder: str, **params: Any) -> list[str]:
    answer = await caller.get(f"{path}/files", params={"path": folder, **params})
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["items"]]


async def test_a_jobs_folder_is_listed_and_its_files_are_fetched(
    stage: Stage, make_person: Make
) -> None:
    async with stage(**LOCAL) as running:
        caller, _, path = await left(running, make_person)
        assert await names(caller, path, "") == ["work", "result"]
        assert await names(caller, path, "work") == ["sub"]
        listed = (await caller.get(f"{path}/files?path=result")).json()
        assert listed["next"] is None
        kinds = {item["name"]: (item["kind"], item["size"]) for item in listed["items"]}
        assert kinds["deep"][0] == "folder" and kinds["out"][0] == "other"
        assert (kinds["empty"], kinds["large"]) == (("file", 0), ("file", 3_000_000))
        assert "o\ufffdd" in kinds
        ten = await caller.get(f"{path}/files/work/sub/ten")
        assert (ten.status_code, ten.content) == (200, b"0123456789")
        assert ten.headers["content-type"] == "application/octet-stream"
        assert ten.headers["content-disposition"].startswith("attachment;")
        assert ten.headers["x-content-type-options"] == "nosniff"
        part = await caller.get(f"{path}/files/work/sub/ten", headers={"Range": "bytes=3-5"})
        assert (part.status_code, part.content) == (206, b"345")
        assert part.headers["content-range"] == "bytes 3-5/10"
        beyond = await caller.get(f"{path}/files/work/sub/ten", headers={"Range": "bytes=10-"})
        assert beyond.status_code == 416
        odd = await caller.get(f"{path}/files/result/%C3%A4%20%C3%B6.txt")
        assert odd.content.decode() == "ä"
        large = await caller.get(f"{path}/files/result/large?attempt=1")
        assert large.content == b"q" * 3_000_000


async def test_a_folder_comes_in_pages(stage: Stage, make_person: Make) -> None:
    async with stage(**LOCAL) as running:
        caller, _, path = await left(running, make_person, "touch 1 2 3 4 5 'b\n'")
        found: list[str] = []
        more: dict[str, str] = {}
        while more or not found:
            url = f"{path}/files?path=work&limit=2"
            page = (await caller.get(url + more.get("cursor", ""))).json()
            assert len(page["items"]) == 2
            found += [item["name"] for item in page["items"]]
            more = {"cursor": f"&cursor={page['next']}"} if page["next"] else {}
        assert found == ["1", "2", "3", "4", "5", "b\n"]
        for bad in ("x", "IiI", "WyJcdWQ4MDAiXQ"):  # the last is a half of a character
            answer = await caller.get(f"{path}/files?path=work&cursor={bad}")
            assert answer.status_code in (200, 422), answer.text


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("files?path=..", 422),
        ("files?path=/etc", 422),
        ("files?path=work/../../script", 422),
        ("files?path=work/%00", 422),
        ("files?path=work/sub/etc", 422),
        ("files?path=work/sub/ten", 422),
        ("files?path=work/nothing", 404),
        ("files?path=tmp", 404),
        ("files/work%2F..%2F..%2Fscript", 422),
        ("files/%2e%2e/script", 422),
        ("files//etc/passwd", 422),
        ("files/script", 404),
        ("files/environment", 404),
        ("files/work/sub/etc/passwd", 404),
        ("files/result/out", 404),
        ("files/work/sub", 422),
        ("files/work/nothing", 404),
        ("files/work/" + "x" * 300, 404),
        ("files/work/" + "x" * 5000, 422),
        ("files/work/sub/ten?attempt=2", 404),
        ("result?attempt=2", 404),
    ],
)
async def test_what_is_not_in_the_folder_is_not_given(
    running: tuple[Caller, str], url: str, status: int
) -> None:
    caller, path = running
    answer = await caller.get(f"{path}/{url}")
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "root:" not in answer.text


@pytest.fixture
async def running(stage: Stage, make_person: Make) -> AsyncIterator[tuple[Caller, str]]:
    async with stage(**LOCAL) as begun:
        caller, _, path = await left(begun, make_person)
        yield caller, path


async def test_the_results_are_a_tar_without_links(stage: Stage, make_person: Make) -> None:
    async with stage(**LOCAL) as running:
        caller, _, path = await left(running, make_person)
        answer = await caller.get(f"{path}/result")
        assert answer.headers["content-type"] == "application/x-tar"
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
            members = {member.name: member for member in tar}
            assert set(members) == {
                "deep", "deep/er", "deep/er/x", "empty", "large", "ä ö.txt", "o\udcffd"
            }  # fmt: skip
            assert members["empty"].mode == 0o755
            large = tar.extractfile(members["large"])
            assert large is not None and large.read() == b"q" * 3_000_000


async def test_nobody_else_may_read_them_and_they_expire(stage: Stage, make_person: Make) -> None:
    async with stage(**LOCAL) as running:
        caller, app, path = await left(running, make_person)
        other = Caller(caller.client, await make_person())
        urls = ("files", "files?path=work", "files/work/sub/ten", "result")
        for url in urls:
            assert (await other.get(f"{path}/{url}")).status_code == 404
            assert (await caller.client.get(f"{path}/{url}")).status_code == 401
        await fetch(app.state.database, "UPDATE attempts SET files_removed_at = now()")
        for url in urls:
            gone = await caller.get(f"{path}/{url}")
            assert (gone.status_code, "operator" in gone.json()["detail"]) == (410, True)


async def test_a_job_that_waits_has_no_files_yet(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        path = f"/api/jobs/{await caller.submit()}"
        assert await names(caller, path, "") == []
        for url in ("files?path=work", "files/work/x", "result"):
            answer = await caller.get(f"{path}/{url}")
            assert (answer.status_code, "started" in answer.json()["detail"]) == (404, True)


async def test_a_cluster_without_files_says_so(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        await puppet.begun(job_id)
        await caller.until(job_id, "running")
        assert (await caller.get(f"/api/jobs/{job_id}/files")).status_code == 409


class Folder:
    """Files in memory, which change while they are read."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.given = 0
        self.asked: list[int] = []

    async def file(self, key: str, path: bytes) -> FileEntry:
        raise NoSuchFile

    async def folder(self, key: str, path: bytes, after: bytes, limit: int) -> list[FileEntry]:
        if after or path != b"result":
            return []
        return [FileEntry(b"f", FileKind.FILE, self.size, 0.0, 0o600)] * 2

    async def read_file(self, key: str, path: bytes, offset: int, length: int) -> bytes:
        self.asked.append(length)
        left = self.given - offset
        return b"y" * min(max(left, 0), length)


async def test_a_file_that_shrinks_while_it_is_read_does_not_spoil_the_tar() -> None:
    folder = Folder(3 * CHUNK + 5)
    folder.given = CHUNK + 7
    data = b"".join([chunk async for chunk in JobFiles(folder, "qa-1").tar(b"result")])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        assert [m.size for m in members] == [3 * CHUNK + 5] * 2
        inner = tar.extractfile(members[0])
        assert inner is not None
        assert inner.read().rstrip(b"\0") == b"y" * (CHUNK + 7)


async def test_a_tar_takes_constant_memory_and_stops_with_its_reader() -> None:
    folder = Folder(1 << 40)
    folder.given = 1 << 40
    chunks = JobFiles(folder, "qa-1").tar(b"result")
    taken = 0
    async for chunk in chunks:
        assert len(chunk) <= CHUNK
        taken += len(chunk)
        if taken > 20 * CHUNK:
            break
    before = len(folder.asked)
    await chunks.aclose()
    assert max(folder.asked) == CHUNK
    assert before == len(folder.asked) <= 22

"""What every executor promises that shows the files of its runs."""

import asyncio
import io
import tarfile
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from queueapi.executors import tars
from queueapi.executors.base import Phase
from queueapi.executors.files import FileKind, NoSuchFile, PacksFolders, ShowsFiles
from queueapi.jobs.files import JobFiles
from tests.executors.contract import make_run, run_to_end, until_log, until_phase

TREE = r"""
mkdir -p deep/er "$QUEUEAPI_RESULT/a b" && cd deep
printf 'one\n' >er/'x y'; printf 'two' >"$QUEUEAPI_RESULT/a b/z"; : >er/empty; chmod 700 er/empty
printf '%s' newline >'er/new
line'; printf bytes >"er/$(printf '\377')"; ln er/'x y' er/second
ln -s /etc er/out; ln -s /etc/passwd er/file; ln -s 'x y' er/near; mkfifo er/pipe
mkdir shut && chmod 0 shut
"""
# In turn a folder with a harmless file, and a link to where the real one is.
SWAP = """
mkdir work.d && cd work.d && mkdir safe && echo mine >safe/passwd && ln -s /etc bad
mv safe d; echo up
while [ ! -e ../stop ]; do mv d safe && mv bad d; mv d bad && mv safe d; done
"""


async def refused(asked: Awaitable[Any]) -> None:
    with pytest.raises(NoSuchFile):
        await asked


def read_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    if member.isdir():
        return None
    assert member.isreg()
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


class FilesContract:
    """Subclass it with a fixture ``executor`` that has been started."""

    async def test_what_a_run_leaves_can_be_listed_and_read(self, executor: Any) -> None:
        run = make_run(TREE)
        await run_to_end(executor, run)
        assert isinstance(executor, ShowsFiles)
        found = await executor.folder(run.key, b"work/deep/er", b"", 100)
        names = [entry.name for entry in found]
        kinds = {entry.name: entry.kind for entry in found}
        assert names == sorted(names)
        assert {name for name, kind in kinds.items() if kind is FileKind.FILE} == {
            b"x y", b"second", b"empty", b"new\nline", b"\xff"
        }  # fmt: skip
        assert kinds[b"out"] is kinds[b"file"] is kinds[b"near"] is kinds[b"pipe"] is FileKind.OTHER
        for name, text in ((b"x y", b"one\n"), (b"second", b"one\n"), (b"empty", b""),
                           (b"new\nline", b"newline"), (b"\xff", b"bytes")):  # fmt: skip
            path = b"work/deep/er/" + name
            entry = await executor.file(run.key, path)
            assert (entry.name, entry.size) == (name, len(text))
            assert await executor.read_file(run.key, path, 0, 100) == text
            assert await executor.read_file(run.key, path, 1, 2) == text[1:3]
            assert await executor.read_file(run.key, path, len(text), 9) == b""
            assert await executor.read_file(run.key, path, 1 << 70, 9) == b""
        assert (await executor.file(run.key, b"work/deep/er/empty")).mode == 0o700
        assert await executor.read_file(run.key, b"result/a b/z", 0, 9) == b"two"
        some = await executor.folder(run.key, b"work/deep/er", names[1], 2)
        assert [entry.name for entry in some] == names[2:4]

    async def test_no_path_leads_out_of_the_folder(self, executor: Any) -> None:
        run = make_run(TREE)
        await run_to_end(executor, run)
        for path in (b"", b"/", b"..", b"work/..", b"work/../script", b"/etc/passwd", b"script",
                     b"stdout", b"environment", b"work/deep/er/out/passwd", b"work/deep/er/file",
                     b"work/deep/er/near", b"work/deep/er/pipe", b"work//deep", b"work/./deep",
                     b"work/nothing", b"work/deep/er/x y/z", b"work/\0", b"work/" + b"x" * 300,
                     b"work/deep/"):  # fmt: skip
            await refused(executor.read_file(run.key, path, 0, 10))
        for path in (b"", b"work/..", b"work/deep/er/out", b"work/deep/er/near", b"../work",
                     b"work/deep/er/x y", b"work/$(id)", b"result/-x"):  # fmt: skip
            await refused(executor.folder(run.key, path, b"", 10))
        await refused(executor.file(run.key, b"work/deep/er/out/passwd"))
        await refused(executor.file("qa-nobody-4711", b"work"))
        await refused(executor.folder("qa-nobody-4711", b"work", b"", 1))

    async def test_a_run_that_moves_links_about_leads_nobody_out(self, executor: Any) -> None:
        run = make_run(SWAP)
        await executor.submit(run)
        await until_phase(executor, run.key, [Phase.RUNNING])
        seen = set()
        try:
            async with asyncio.timeout(60):
                while b"mine\n" not in seen:
                    seen.add(await self._raced(executor, run.key))
            for _ in range(40):
                seen.add(await self._raced(executor, run.key))
        finally:
            await executor.cancel(run.key)
            await until_phase(executor, run.key)
        assert seen <= {b"mine\n", None}

    async def test_a_folder_is_packed_at_once_without_links(self, executor: Any) -> None:
        run = make_run(TREE)
        await run_to_end(executor, run)
        found = await self._packed(executor, run.key, b"work")
        found.pop("deep/shut", None)  # it can't be read: it is empty, or absent
        assert found == {
            "deep/er/x y": b"one\n", "deep/er/second": b"one\n", "deep/er/empty": b"",
            "deep/er/new\nline": b"newline", "deep/er/\udcff": b"bytes",
            "deep": None, "deep/er": None,
        }  # fmt: skip
        assert await self._packed(executor, run.key, b"result") == {"a b": None, "a b/z": b"two"}
        for path in (b"work/deep/er/out", b"work/deep/er/x y", b"work/..", b"", b"result/no"):
            if isinstance(executor, PacksFolders):
                await refused(executor.pack(run.key, path))

    async def test_a_tar_of_links_that_move_about_leads_nobody_out(self, executor: Any) -> None:
        run = make_run(SWAP)
        await executor.submit(run)
        await until_log(executor, run.key, b"up")
        try:
            for _ in range(15):
                found = await self._packed(executor, run.key, b"work/work.d")
                assert set(found) <= {"d", "d/passwd", "safe", "safe/passwd"}
                assert {found.get("d/passwd"), found.get("safe/passwd")} <= {b"mine\n", None}
        finally:
            await executor.cancel(run.key)
            await until_phase(executor, run.key)

    async def _packed(self, executor: Any, key: str, path: bytes) -> dict[str, bytes | None]:
        data = b"".join([part async for part in JobFiles(executor, key).tar(path)])
        with tarfile.open(fileobj=io.BytesIO(data), errorlevel=2) as tar:
            assert data.endswith(tars.END)
            return {m.name: read_of(tar, m) for m in tar.getmembers()}

    async def _raced(self, executor: Any, key: str) -> bytes | None:
        path = b"work/work.d/d"
        looks: tuple[Callable[[], Awaitable[Any]], ...] = (
            lambda: executor.folder(key, path, b"", 10),
            lambda: executor.file(key, path + b"/shadow"),
        )
        for look in looks:
            try:
                found = await look()
            except NoSuchFile:
                continue
            assert [entry.name for entry in found] in ([b"passwd"], [])
        try:
            data: bytes = await executor.read_file(key, path + b"/passwd", 0, 1000)
        except NoSuchFile:
            return None
        return data

"""What every way to reach a machine promises: by SSH, and on this host."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.remote.base import CommandFailed, Remote
from queueapi.executors.remote.host import HostRemote
from queueapi.executors.remote.ssh import SshRemote
from queueapi.executors.remote.target import SshTarget
from tests.executors.remote.sshd import Sshd, needs_sshd, running_sshd
from tests.staging import until

HOSTILE = (
    "plain",
    "with space",
    "'quoted' \"twice\"",
    "$(touch pwned) `touch pwned` ${HOME} ; touch pwned # & | > < * ? [a] ~ !x",
    "new\nline",
    "back\\slash\\n",
    "-rf",
    "żółw 🐢",
    "",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    yield from running_sshd(tmp_path_factory.mktemp("sshd"))


@pytest.fixture(params=["host", pytest.param("ssh", marks=needs_sshd)])
async def remote(request: pytest.FixtureRequest) -> AsyncIterator[Remote]:
    remote: Remote
    if request.param == "host":
        remote = HostRemote()
    else:
        server: Sshd = request.getfixturevalue("server")
        target = SshTarget(
            "127.0.0.1", (server.host_key,), server.user, server.key, port=server.port
        )
        remote = SshRemote(target)
    await remote.connect({"GREETING": "hello 'you' $HOME"})
    yield remote
    await remote.disconnect()


async def test_words_reach_a_program_unchanged(remote: Remote, tmp_path: Path) -> None:
    (done,) = await remote.exec(("printf", "%s\\0", *HOSTILE))
    assert tuple(done.stdout.decode().split("\0")[:-1]) == HOSTILE
    assert not (tmp_path / "pwned").exists()


async def test_the_environment_is_added_to_every_command(remote: Remote) -> None:
    for _ in range(2):
        (done,) = await remote.exec(("sh", "-c", 'printf %s "$GREETING"'))
        assert done.text == "hello 'you' $HOME"


async def test_nothing_of_the_servers_own_environment_is_passed_on(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JWT_SECRET", "very secret")
    (done,) = await remote.exec(("env",))
    assert "JWT_SECRET" not in done.text


async def test_a_list_stops_at_the_first_failure(remote: Remote, tmp_path: Path) -> None:
    commands = (("true",), ("sh", "-c", "echo no >&2; exit 3"), ("touch", f"{tmp_path}/later"))
    with pytest.raises(CommandFailed, match="no") as caught:
        await remote.exec(commands)
    assert caught.value.completed.status == 3
    assert not (tmp_path / "later").exists()


async def test_a_list_goes_on_when_told_to(remote: Remote) -> None:
    commands = (("false",), ("sh", "-c", "kill -9 $$"), ("echo", "on"))
    done = await remote.exec(commands, continue_on_error=True)
    assert [(one.status, one.stdout) for one in done] == [(1, b""), (-9, b""), (0, b"on\n")]


async def test_standard_input_and_large_output(remote: Remote) -> None:
    data = os.urandom(3 << 20)
    (done,) = await remote.exec(("cat",), stdin=data)
    assert done.stdout == data


async def test_a_command_need_not_read_its_input(remote: Remote) -> None:
    (done,) = await remote.exec(("true",), stdin=b"x" * (4 << 20))
    assert done.status == 0


async def test_an_endless_output_is_not_kept(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("host", "ssh"):
        monkeypatch.setattr(f"queueapi.executors.remote.{module}.MOST_OUTPUT", 1 << 20)
    with pytest.raises(ExecutorUnavailable, match="says more than"):
        await remote.exec(("yes",))
    assert (await remote.exec(("echo", "still here")))[0].text == "still here\n"


async def test_a_command_that_takes_too_long_is_given_up(remote: Remote) -> None:
    began = time.monotonic()
    with pytest.raises(ExecutorUnavailable, match=r"no answer within 0.3 s"):
        await remote.exec(("sleep", "60"), seconds=0.3)
    assert time.monotonic() - began < 20
    assert (await remote.exec(("echo", "still here")))[0].text == "still here\n"


@pytest.mark.parametrize("command", ["ls -l", [""], [["ls"], "ls -l"], ["a\0b"], ["\udcff"], [[]]])
async def test_what_is_no_command_is_refused(remote: Remote, command: list[str]) -> None:
    with pytest.raises(ValueError, match="command"):
        await remote.exec(command)


async def test_a_stream_comes_whole_in_parts(remote: Remote) -> None:
    script = "cat; i=0; while [ $i -lt 4000 ]; do echo $i; i=$((i+1)); done; echo x >&2"
    words = ("sh", "-c", script)
    parts = [part async for part in remote.stream(words, stdin=b"first\n")]
    assert b"".join(parts) == b"first\n" + b"".join(b"%d\n" % i for i in range(4000))


async def test_a_stream_is_not_read_ahead_of_its_reader_and_ends_with_it(
    remote: Remote, tmp_path: Path
) -> None:
    # It counts the MiB that it got rid of.
    loop = "while head -c 1048576 /dev/zero; do echo >>written; done"
    script = f'cd "$1"; : >written; echo $$ >pid; {loop}'
    stream = remote.stream(("sh", "-c", script, "sh", str(tmp_path)), seconds=20)
    for _ in range(5):
        assert await anext(stream)
    written = tmp_path / "written"

    async def stands_still() -> bool:
        before = written.stat().st_size
        await asyncio.sleep(0.3)
        return written.stat().st_size == before

    await until(stands_still, "the command to wait for its reader")
    assert written.stat().st_size < 40
    await stream.aclose()
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not psutil.pid_exists(pid), "the end of the command")
    assert (await remote.exec(("echo", "well")))[0].text == "well\n"


async def test_a_stream_that_says_nothing_is_given_up(remote: Remote) -> None:
    with pytest.raises(ExecutorUnavailable, match=r"no answer within 0\.2 s"):
        async for _ in remote.stream(("sleep", "30"), seconds=0.2):
            pass


async def test_an_unknown_program_is_a_failed_command(remote: Remote) -> None:
    with pytest.raises(CommandFailed) as caught:
        await remote.exec(("no-such-program",))
    assert caught.value.completed.status == 127


async def test_a_file_is_written_whole_or_not_at_all(remote: Remote, tmp_path: Path) -> None:
    path = tmp_path / "file"
    await remote.write(str(path), b"first", mode=0o640)
    assert path.stat().st_mode & 0o777 == 0o640

    async def broken() -> AsyncIterator[bytes]:
        yield b"sec"
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        await remote.write(str(path), broken())
    assert path.read_bytes() == b"first"
    assert names_in(tmp_path) == ["file"]


async def test_reading_by_offset(remote: Remote, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    assert await remote.read(str(path), 0, 4) == b"0123"
    assert await remote.read(str(path), 8, 100) == b"89"
    assert await remote.read(str(path), 10, 100) == b""
    assert await remote.read(str(path), 1 << 70, 100) == b""
    assert await remote.size(str(path)) == 10
    with path.open("ab") as log:
        log.write(b"more")
    assert await remote.read(str(path), 10, 100) == b"more"


async def test_what_is_missing_is_told_as_that(remote: Remote, tmp_path: Path) -> None:
    missing = str(tmp_path / "nothing" / "here")
    assert await remote.size(missing) is None
    assert not await remote.exists(missing)
    with pytest.raises(FileNotFoundError):
        await remote.read(missing, 0, 1)
    with pytest.raises(FileNotFoundError):
        await remote.entries(missing)
    with pytest.raises(FileNotFoundError):
        await remote.write(missing, b"x")
    with pytest.raises(FileNotFoundError):
        await remote.make_folder(missing)
    with pytest.raises(FileNotFoundError):
        await remote.download(missing, tmp_path / "copy")
    await remote.remove_tree(missing)


async def test_one_of_many_makes_a_folder(remote: Remote, tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    made = await asyncio.gather(*(remote.make_folder(path) for _ in range(8)))
    assert sorted(made) == [False] * 7 + [True]


async def test_listing_tells_files_folders_and_links_apart(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b"12345")
    (tmp_path / "folder").mkdir(mode=0o750)
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "\udcff").write_bytes(b"")  # a name that is no UTF-8
    found = {entry.name: entry for entry in await remote.entries(str(tmp_path))}
    assert set(found) == {"a file", "folder", "link", "\udcff"}
    file, folder, link = found["a file"], found["folder"], found["link"]
    assert (file.is_file, file.is_folder, file.size) == (True, False, 5)
    assert abs(file.modified_at - time.time()) < 60
    assert (folder.is_file, folder.is_folder, folder.mode) == (False, True, 0o750)
    assert (link.is_file, link.is_folder) == (False, False)


async def test_a_folder_goes_there_and_comes_back(remote: Remote, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "run").write_text("#!/bin/sh\n")
    (source / "deep" / "er" / "run").chmod(0o755)
    for number, name in enumerate(HOSTILE[:-1]):
        (source / name.replace("/", "_")).write_text(str(number))
    (source / "big").write_bytes(os.urandom(9 << 20))
    (source / "outside").symlink_to("/etc/passwd")
    os.mkfifo(source / "pipe")
    await remote.upload(source, str(tmp_path / "there"))
    assert (tmp_path / "there" / "deep" / "er" / "run").stat().st_mode & 0o700 == 0o700
    await remote.download(str(tmp_path / "there"), tmp_path / "back")
    assert _content(tmp_path / "back") == _content(source)
    assert not (tmp_path / "back" / "outside").exists()


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


async def test_a_single_file_goes_there_and_comes_back(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    await remote.upload(tmp_path / "one", str(tmp_path / "two"))
    await remote.download(str(tmp_path / "two"), tmp_path / "three")
    assert (tmp_path / "three").read_bytes() == b"1"


async def test_a_download_replaces_a_link_and_does_not_follow_it(
    remote: Remote, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "name").write_bytes(b"new")
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "name").symlink_to(tmp_path / "mine")
    await remote.download(str(tmp_path / "there"), tmp_path / "here")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert (tmp_path / "here" / "name").read_bytes() == b"new"


async def test_a_tree_is_removed_whatever_is_in_it(remote: Remote, tmp_path: Path) -> None:
    tree = tmp_path / "-tree 'x'"
    (tree / "locked").mkdir(parents=True)
    (tree / "locked" / "file").write_text("x")
    (tree / "locked").chmod(0)
    (tmp_path / "kept").mkdir()
    (tree / "link").symlink_to(tmp_path / "kept")
    await remote.remove_tree(str(tree))
    assert names_in(tmp_path) == ["kept"]


@pytest.mark.parametrize("path", ["/", "//", "", "relative", "-rf"])
async def test_a_path_that_cannot_be_meant_is_not_removed(remote: Remote, path: str) -> None:
    with pytest.raises(ValueError, match="not to be deleted"):
        await remote.remove_tree(path)


def names_in(folder: Path) -> list[str]:
    return [child.name for child in folder.iterdir()]

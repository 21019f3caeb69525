"""This machine as the place where a cluster's commands run: without SSH."""

import asyncio
import os
import secrets
import signal
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.environment import DEFAULT_PATH
from queueapi.executors.remote.base import (
    COMMAND_SECONDS,
    MOST_OUTPUT,
    PART,
    Argv,
    Completed,
    Remote,
    split_commands,
)
from queueapi.executors.remote.trees import Entry, chunks_of, write_all

KILLED_SECONDS = 5.0  # within which what was killed is gone


class HostRemote(Remote):
    """Commands run as the server's own account, but without its environment."""

    def __init__(self) -> None:
        self._environment: dict[str, str] = {}

    def __str__(self) -> str:
        return "this host"

    async def connect(self, environment: Mapping[str, str] | None = None) -> None:
        """Nothing to connect to; remembers the environment."""
        self._environment = dict(environment or {})

    async def disconnect(self) -> None:
        """Nothing to give up."""

    async def _run(self, argv: tuple[str, ...], stdin: bytes, seconds: float) -> Completed:
        process = await self._begin(argv)
        talk = (
            asyncio.create_task(_collect(process.stdout, argv[0])),
            asyncio.create_task(_collect(process.stderr, argv[0])),
            asyncio.create_task(_feed(process.stdin, stdin)),
        )
        try:
            async with asyncio.timeout(seconds):
                stdout, stderr, _ = await asyncio.gather(*talk)
                status = await process.wait()
        except TimeoutError:
            raise ExecutorUnavailable(
                f"{argv[0]} gave no answer within {seconds:g} s on {self}"
            ) from None
        finally:
            for task in talk:
                task.cancel()
            await asyncio.gather(*talk, return_exceptions=True)
            await _end(process)
        return Completed(argv, status, stdout, stderr)

    async def _begin(self, argv: Sequence[str]) -> asyncio.subprocess.Process:
        environment = {"PATH": DEFAULT_PATH, "HOME": str(Path.home()), "LANG": "C.UTF-8"}
        environment |= self._environment
        try:
            return await asyncio.create_subprocess_exec(
                # `env` looks the program up in the PATH that it is given.
                "/usr/bin/env",
                *(f"{name}={value}" for name, value in environment.items()),
                *argv,
                env={},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ExecutorUnavailable(f"can't run {argv[0]}: {error.strerror}") from error

    async def stream(
        self, argv: Argv, *, stdin: bytes = b"", seconds: float = COMMAND_SECONDS
    ) -> AsyncGenerator[bytes, None]:
        """See :meth:`Remote.stream`."""
        [words] = split_commands(argv)
        process = await self._begin(words)
        assert process.stdout is not None
        beside = [asyncio.create_task(_feed(process.stdin, stdin))]
        beside.append(asyncio.create_task(_empty(process.stderr)))
        try:
            while True:
                async with asyncio.timeout(seconds):
                    chunk = await process.stdout.read(PART)
                if not chunk:
                    return
                yield chunk
        except TimeoutError:
            why = f"{words[0]} gave no answer within {seconds:g} s on {self}"
            raise ExecutorUnavailable(why) from None
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await _end(process)

    async def write(
        self, path: str, data: bytes | AsyncIterator[bytes], *, mode: int = 0o600
    ) -> None:
        """See :meth:`Remote.write`."""
        draft = f"{path}.{secrets.token_hex(6)}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            file_fd = await asyncio.to_thread(os.open, draft, flags, mode)
        except OSError as error:
            raise _plain(error, path) from error
        try:
            try:
                async for chunk in chunks_of(data):
                    await asyncio.to_thread(write_all, file_fd, chunk)
            finally:
                os.close(file_fd)
            await asyncio.to_thread(os.replace, draft, path)
        except BaseException as error:
            await asyncio.to_thread(Path(draft).unlink, missing_ok=True)
            if isinstance(error, OSError):
                raise _plain(error, path) from error
            raise

    async def read(self, path: str, offset: int, length: int) -> bytes:
        """See :meth:`Remote.read`."""
        return await asyncio.to_thread(_read, path, offset, length)

    async def size(self, path: str) -> int | None:
        """See :meth:`Remote.size`."""
        try:
            return (await asyncio.to_thread(os.stat, path)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _plain(error, path) from error

    async def entries(self, path: str) -> Sequence[Entry]:
        """See :meth:`Remote.entries`."""
        return await asyncio.to_thread(_list, path)

    async def make_folder(self, path: str, *, mode: int = 0o700) -> bool:
        """See :meth:`Remote.make_folder`."""
        try:
            await asyncio.to_thread(os.mkdir, path, mode)
        except FileExistsError:
            return False
        except OSError as error:
            raise _plain(error, path) from error
        return True


async def _collect(stream: asyncio.StreamReader | None, name: str) -> bytes:
    assert stream is not None
    found = bytearray()
    while chunk := await stream.read(1 << 16):
        found += chunk
        if len(found) > MOST_OUTPUT:
            raise ExecutorUnavailable(f"{name} says more than {MOST_OUTPUT >> 20} MiB")
    return bytes(found)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what still runs of it."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # The end of a process is not told before that of its pipes, which another that left its group
    # may hold for ever.
    with suppress(TimeoutError):
        async with asyncio.timeout(KILLED_SECONDS):
            await asyncio.gather(_empty(process.stdout), _empty(process.stderr))
            await process.wait()


async def _empty(stream: asyncio.StreamReader | None) -> None:
    assert stream is not None
    while await stream.read(1 << 16):
        pass


async def _feed(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    assert stream is not None
    with suppress(BrokenPipeError, ConnectionResetError):  # it need not read all
        if not stream.is_closing():  # it may have ended already
            stream.write(data)
            await stream.drain()
        stream.close()
        await stream.wait_closed()


def _read(path: str, offset: int, length: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return os.pread(file.fileno(), length, offset)
    except NotADirectoryError:
        raise FileNotFoundError(path) from None
    except OverflowError:
        return b""


def _list(path: str) -> list[Entry]:
    with os.scandir(path) as found:
        entries = [(entry.name, entry.stat(follow_symlinks=False)) for entry in found]
    return [
        Entry(
            name,
            stat.S_ISREG(about.st_mode),
            stat.S_ISDIR(about.st_mode),
            about.st_size,
            about.st_mtime,
            stat.S_IMODE(about.st_mode),
        )
        for name, about in sorted(entries)
    ]


def _plain(error: OSError, path: str) -> Exception:
    """What says where a file is missing stays; all else may go away by itself."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return error
    return ExecutorUnavailable(f"{path}: {error.strerror}")

"""The face of a machine whose commands and files an executor uses.

A command is an argv: a list of words that reach the program unchanged, whatever is in
them. Paths are absolute. A machine that can't be reached, a connection that breaks and an
answer that does not come in time raise :class:`ExecutorUnavailable`; then what was asked
for may have been done or not.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from queueapi.executors.remote import trees
from queueapi.executors.remote.trees import Entry

_log = logging.getLogger(__name__)

COMMAND_SECONDS: Final = 60.0  # that a command may take unless it is told otherwise
MOST_OUTPUT: Final = 64 << 20  # bytes of one stream of a command; more is an error
PART: Final = 1 << 18  # bytes of a stream that are read at once

Argv = Sequence[str]


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ran to its end."""

    argv: tuple[str, ...]
    status: int  # exit code, or minus the number of the signal that ended it
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Its standard output, with what is no UTF-8 replaced."""
        return self.stdout.decode(errors="replace")

    @property
    def complaint(self) -> str:
        """What it said went wrong, at most 500 characters."""
        words = self.stderr.decode(errors="replace").strip() or self.text.strip()
        return words[-500:] or f"exit status {self.status}"


class CommandFailed(Exception):  # noqa: N818 - it reads as the event it is
    """A command ended with another status than 0."""

    def __init__(self, completed: Completed) -> None:
        super().__init__(f"{completed.argv[0]}: {completed.complaint}")
        self.completed = completed


class Remote(ABC):
    """One machine, as one account."""

    @abstractmethod
    async def connect(self, environment: Mapping[str, str] | None = None) -> None:
        """Be ready now rather than at the first use. ``environment`` is added to all commands."""

    @abstractmethod
    async def disconnect(self) -> None:
        """Give up the connection; the next use connects anew."""

    async def exec(
        self,
        commands: Argv | Sequence[Argv],
        *,
        stdin: bytes = b"",
        seconds: float = COMMAND_SECONDS,
        continue_on_error: bool = False,
        quiet: bool = False,
    ) -> list[Completed]:
        """Run one command, or several one after the other; each has ``seconds``.

        ``stdin`` goes to each. Raises :class:`CommandFailed` at the first that fails, unless
        ``continue_on_error``. ``quiet`` keeps what they did out of the log.
        """
        completed = []
        for argv in split_commands(commands):
            began = time.monotonic()
            done = await self._run(argv, stdin, seconds)
            completed.append(done)
            if not quiet:
                took = time.monotonic() - began
                _log.info("%s on %s: status %d in %.3f s", argv[0], self, done.status, took)
            if done.status != 0 and not continue_on_error:
                raise CommandFailed(done)
        return completed

    @abstractmethod
    async def _run(self, argv: tuple[str, ...], stdin: bytes, seconds: float) -> Completed: ...

    @abstractmethod
    def stream(
        self, argv: Argv, *, stdin: bytes = b"", seconds: float = COMMAND_SECONDS
    ) -> AsyncGenerator[bytes, None]:
        """What one command says, in parts as they come, however much it is.

        ``seconds`` is for each part, and counts while one is awaited. Nothing is read ahead of
        the caller but a few MiB; a caller that stops ends the command. How it ended is not told.
        """

    async def upload(self, source: Path, target: str) -> None:
        """Send a local file or folder; ``target`` is its new name, or a folder to add to.

        Files are replaced one by one, each at once. Links and devices are left out.
        """
        await trees.upload(self, source, target)

    async def download(self, source: str, target: Path) -> None:
        """Fetch a file or folder; ``target`` is its new name, or a folder to add to.

        Links and devices are left out, and nothing is written outside ``target``, whatever
        names the other side has. Raises FileNotFoundError.
        """
        await trees.download(self, source, target)

    @abstractmethod
    async def write(
        self, path: str, data: bytes | AsyncIterator[bytes], *, mode: int = 0o600
    ) -> None:
        """Make or replace a file: readers see the old one or the whole new one."""

    @abstractmethod
    async def read(self, path: str, offset: int, length: int) -> bytes:
        """At most ``length`` bytes; empty past the end. Raises FileNotFoundError."""

    @abstractmethod
    async def size(self, path: str) -> int | None:
        """Bytes of a file; None when there is none."""

    @abstractmethod
    async def entries(self, path: str) -> Sequence[Entry]:
        """What is in a folder, by name. Raises FileNotFoundError."""

    @abstractmethod
    async def make_folder(self, path: str, *, mode: int = 0o700) -> bool:
        """Make a folder; False when there was something of that name. One caller makes it."""

    async def remove_tree(self, path: str) -> None:
        """Delete a file or folder and all in it; nothing there is fine."""
        if path.strip("/") == "" or not path.startswith("/"):
            raise ValueError(f"not to be deleted: {path!r}")
        first = await self.exec(
            ("rm", "-rf", "--", path), seconds=600, continue_on_error=True, quiet=True
        )
        if first[0].status != 0:  # a job may have made a folder unreadable for its owner, too
            await self.exec(
                (("chmod", "-R", "u+rwX", "--", path), ("rm", "-rf", "--", path)),
                seconds=600,
                continue_on_error=True,
                quiet=True,
            )
            if await self.exists(path):
                raise CommandFailed(first[0])

    async def exists(self, path: str) -> bool:
        """Whether there is anything of that name; a link counts, wherever it leads."""
        probe = ("sh", "-c", '[ -e "$1" ] || [ -L "$1" ]', "sh", path)
        return (await self.exec(probe, continue_on_error=True, quiet=True))[0].status == 0


def split_commands(commands: Argv | Sequence[Argv]) -> list[tuple[str, ...]]:
    """The list of argvs in either form. Raises ValueError for what can't be one."""
    if isinstance(commands, str):
        raise ValueError("a command is a list of words, not a line for a shell")
    if commands and isinstance(commands[0], str):
        return [_checked(commands)]
    return [_checked(argv) for argv in commands]


def _checked(argv: Sequence[object]) -> tuple[str, ...]:
    words = tuple(word for word in argv if isinstance(word, str))
    if isinstance(argv, str) or not words or not words[0] or len(words) != len(argv):
        raise ValueError(f"not a command: {argv!r}")
    try:
        text = " ".join(words).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{words[0]}: a word of a command must be text") from None
    if b"\0" in text:
        raise ValueError(f"{words[0]}: a word of a command can't contain NUL")
    return words

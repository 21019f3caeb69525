"""Folders that jobs bring, on one cluster: placed once each, however many launches ask."""

import asyncio
import secrets
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from queueapi.executors.base import (
    Contents,
    ExecutorUnavailable,
    LaunchRefused,
    check_digest,
    is_digest,
)
from queueapi.executors.remote.base import CommandFailed, Completed, Remote

_SCRIPT: Final = Path(__file__).with_name("placing.sh")
_PLACE_SECONDS: Final = 600.0  # for unpacking, and until it is on the disk
_SURE_SECONDS: Final = 600.0  # for which it is believed that what was there still is
_FOR_OWNER: Final = "a-w"  # unpacked so that nobody else may read it
_FOR_ALL: Final = "a-w,a+rX"


class PlacedFolders:
    """Those in ``folder``, an absolute path there, which need not exist.

    ``for_all``: jobs have other accounts than the one that places. Without ``contents`` none can
    be placed. Every method may raise :class:`ExecutorUnavailable`.
    """

    def __init__(
        self, remote: Remote, folder: str, contents: Contents | None, *, for_all: bool = False
    ) -> None:
        self._remote = remote
        self._folder = folder
        self._contents = contents
        self._mode = _FOR_ALL if for_all else _FOR_OWNER
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._seen_at: dict[str, float] = {}  # monotonic seconds

    @property
    def is_idle(self) -> bool:
        return not self._under_way

    def path(self, digest: str) -> str:
        """Where it is, or will be."""
        return f"{self._folder}/{check_digest(digest)}"

    async def ensure(self, digest: str) -> str:
        """See that it is there, whole; returns its path.

        What was begun goes on when the launch that asked for it gives up, for the next one.
        Raises :class:`LaunchRefused` where nobody has it.
        """
        path = self.path(digest)
        if self._is_sure(digest):
            return path
        task = self._under_way.get(digest)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._place(digest))
            # Retrieved here in any case, when nobody should wait any more.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._under_way[digest] = task
        await asyncio.shield(task)
        return path

    def _is_sure(self, digest: str) -> bool:
        return time.monotonic() - self._seen_at.get(digest, -_SURE_SECONDS) < _SURE_SECONDS

    async def _place(self, digest: str) -> None:
        began = time.monotonic()
        try:
            if (await self._run("find", digest, fails=True)).status != 0:
                await self._send(digest)
        except (CommandFailed, OSError) as error:
            raise ExecutorUnavailable(f"can't place the job's folder: {error}") from error
        finally:
            del self._under_way[digest]
        self._seen_at = {
            known: at for known, at in self._seen_at.items() if began - at < _SURE_SECONDS
        } | {digest: began}

    async def _send(self, digest: str) -> None:
        if self._contents is None:
            raise LaunchRefused("this server keeps no folders that jobs could bring")
        new = f".new-{secrets.token_hex(8)}"
        await self._remote.write(f"{self._folder}/{new}.tar.gz", self._contents.archive(digest))
        await self._run("place", digest, new, self._mode)

    async def unused(self, seconds: float) -> Collection[str]:
        """Digests of those that no launch asked for in so many seconds."""
        try:
            done = await self._run("unused", str(int(seconds // 60)))
        except CommandFailed as error:
            raise ExecutorUnavailable(str(error)) from error
        names = [name for name in done.text.split("\n") if is_digest(name)]  # no others are ours
        return [name for name in names if not self._is_sure(name)]

    async def drop(self, digest: str, unused_seconds: float) -> None:
        """Delete it, unless a launch asked for it since."""
        if digest in self._under_way or self._is_sure(digest):
            return
        try:
            await self._run("drop", check_digest(digest), str(int(unused_seconds // 60)))
        except CommandFailed as error:
            raise ExecutorUnavailable(str(error)) from error

    async def _run(self, verb: str, *words: str, fails: bool = False) -> Completed:
        argv = ("sh", "-c", _SCRIPT.read_text(), _SCRIPT.name, self._folder, verb, *words)
        (done,) = await self._remote.exec(
            argv, seconds=_PLACE_SECONDS, continue_on_error=fails, quiet=True
        )
        if done.status not in (0, 1):
            raise CommandFailed(done)
        return done

    async def close(self) -> None:
        """Give up what is under way; a later launch begins anew."""
        tasks = tuple(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

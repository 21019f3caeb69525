"""A machine reached by SSH: one connection for all, made anew when it breaks."""

import asyncio
import logging
import shlex
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncssh

from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.remote import sftp
from queueapi.executors.remote.base import (
    COMMAND_SECONDS,
    MOST_OUTPUT,
    PART,
    Argv,
    Completed,
    Remote,
    split_commands,
)
from queueapi.executors.remote.breaker import Backoff, Breaker
from queueapi.executors.remote.channels import Channels
from queueapi.executors.remote.target import (
    HostKeyCheck,
    HostKeyRefused,
    LoginRefused,
    SshTarget,
    accepted_fingerprints,
    load_keys,
)
from queueapi.executors.remote.trees import Entry

_log = logging.getLogger(__name__)

_SETTLED_SECONDS: Final = 5.0  # a connection that breaks sooner counts as a failed try
_CLOSING_SECONDS: Final = 2.0
_ROOM_SECONDS: Final = 10.0  # to wait for a session that the server refuses to open
_ROOM_PAUSE: Final = 0.05
_BROKEN: Final = (OSError, asyncssh.Error, EOFError)


class _Link:
    """One connection and its channel for files."""

    def __init__(self, connection: asyncssh.SSHClientConnection, made_at: float) -> None:
        self.connection = connection
        self.made_at = made_at
        self.files: asyncssh.SFTPClient | None = None
        self.files_lock = asyncio.Lock()

    def drop_files(self) -> None:
        """The channel does not answer: the next one who needs files opens another."""
        files, self.files = self.files, None
        if files is not None:
            files.exit()


class SshRemote(Remote):
    """Connects at the first use. Any number of callers share the connection."""

    def __init__(self, target: SshTarget, backoff: Backoff | None = None) -> None:
        self._target = target
        self._environment: dict[str, str] = {}
        self._breaker = Breaker(backoff or Backoff())
        self._connecting = asyncio.Lock()
        self._link: _Link | None = None
        # One place is for files, as long as the connection lasts.
        self._channels = Channels(max(1, target.max_channels - 1))

    def __str__(self) -> str:
        return str(self._target)

    # ---- the connection ----

    async def connect(self, environment: Mapping[str, str] | None = None) -> None:
        """Log in now. Raises :class:`HostKeyRefused` or :class:`LoginRefused` with the remedy."""
        self._environment = dict(environment or {})
        await self._connected()

    async def disconnect(self) -> None:
        """Close the connection; what runs on it is cut off."""
        link, self._link = self._link, None
        if link is not None:
            link.connection.close()
            with suppress(TimeoutError, *_BROKEN):
                await asyncio.wait_for(link.connection.wait_closed(), _CLOSING_SECONDS)
            link.connection.abort()

    async def _connected(self) -> _Link:
        if (link := self._alive()) is not None:
            return link
        # While it is away, all callers but the one who tries are told so at once.
        if self._connecting.locked() and not self._breaker.is_closed:
            raise ExecutorUnavailable(f"{self._target} is away: {self._breaker.why}")
        async with self._connecting:
            if (link := self._alive()) is not None:
                return link
            wait = self._breaker.wait(time.monotonic())
            if wait > 0:
                raise ExecutorUnavailable(
                    f"{self._target} is away: {self._breaker.why}; next try in {wait:.0f} s"
                )
            try:
                connection = await self._log_in()
            except ExecutorUnavailable as error:
                self._breaker.failed(time.monotonic(), str(error))
                loud = logging.ERROR if isinstance(error, HostKeyRefused) else logging.WARNING
                _log.log(loud, "%s", error)
                raise
            self._breaker.succeeded()
            link = self._link = _Link(connection, time.monotonic())
            return link

    def _alive(self) -> _Link | None:
        link = self._link
        if link is None:
            return None
        if not link.connection.is_closed():
            return link
        self._link = None
        now = time.monotonic()
        if now - link.made_at < _SETTLED_SECONDS:
            self._breaker.failed(now, "the connection broke as soon as it was made")
        return None

    async def _log_in(self) -> asyncssh.SSHClientConnection:
        target = self._target
        check = HostKeyCheck(accepted_fingerprints(target.host_keys))
        keys = await asyncio.to_thread(load_keys, target)
        try:
            async with asyncio.timeout(target.connect_seconds):
                try:
                    return await self._try(check, keys, ())
                except asyncssh.HostKeyNotVerifiable:
                    for kind in check.kinds_left():
                        try:
                            return await self._try(check, keys, kind)
                        except asyncssh.PermissionDenied:
                            raise  # by the host whose key is accepted
                        except _BROKEN:
                            continue  # it has no key of this kind, or another one
        except TimeoutError:
            raise ExecutorUnavailable(
                f"{target} gave no answer within {target.connect_seconds:g} s"
            ) from None
        except asyncssh.PermissionDenied as error:
            raise LoginRefused(
                f"{target} does not accept our key: is its public half in authorized_keys there?"
            ) from error
        except _BROKEN as error:
            raise ExecutorUnavailable(f"{target}: {error or type(error).__name__}") from error
        raise check.refusal(target)

    async def _try(
        self, check: HostKeyCheck, keys: Sequence[asyncssh.SSHKey], kinds: Sequence[str]
    ) -> asyncssh.SSHClientConnection:
        """Connect, and have the machine show a host key of one of the kinds; () = any."""
        target = self._target
        options = asyncssh.SSHClientConnectionOptions(
            config=None,  # nothing of the account that the server happens to run as
            agent_path=None,
            username=target.account,
            client_keys=keys,
            preferred_auth="publickey",
            known_hosts=([], [], []),  # the check decides
            server_host_key_algs=kinds or "default",
            keepalive_interval=target.keepalive_seconds,
            keepalive_count_max=target.keepalive_count,
            login_timeout=target.connect_seconds,
            connect_timeout=target.connect_seconds,
            compression_algs=None,
        )
        connection, _ = await asyncssh.create_connection(
            lambda: check, target.host, target.port, options=options
        )
        return connection

    # ---- commands ----

    async def _run(self, argv: tuple[str, ...], stdin: bytes, seconds: float) -> Completed:
        async with self._begun(argv, seconds) as process:
            try:
                async with asyncio.timeout(seconds):
                    return await self._process(process, argv, stdin)
            except TimeoutError:
                raise self._late(argv[0], seconds) from None

    async def stream(
        self, argv: Argv, *, stdin: bytes = b"", seconds: float = COMMAND_SECONDS
    ) -> AsyncGenerator[bytes, None]:
        """See :meth:`Remote.stream`."""
        [words] = split_commands(argv)
        async with self._begun(words, seconds) as process:
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
                raise self._late(words[0], seconds) from None
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)

    @asynccontextmanager
    async def _begun(
        self, argv: tuple[str, ...], seconds: float
    ) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
        """The command on a channel of its own, which ends with the block."""
        line = command_line(argv, self._environment)
        patience = time.monotonic() + _ROOM_SECONDS
        while True:
            link = await self._connected()
            async with self._channels.place():
                process = await self._open(link, argv[0], line, seconds, patience)
                if process is not None:
                    try:
                        yield process
                    except _BROKEN as error:
                        raise self._cut(argv[0], error) from error
                    finally:
                        process.close()
                    return
            await asyncio.sleep(_ROOM_PAUSE)

    async def _open(
        self, link: _Link, name: str, line: str, seconds: float, patience: float
    ) -> asyncssh.SSHClientProcess[bytes] | None:
        """None where the other side admits no further session now, until ``patience``."""
        try:
            async with asyncio.timeout(seconds):
                process = await link.connection.create_process(line, encoding=None)
        except TimeoutError:
            raise self._late(name, seconds) from None
        except asyncssh.ChannelOpenError as error:
            if link.connection.is_closed():
                raise self._cut(name, error) from error
            if time.monotonic() > patience:
                raise ExecutorUnavailable(
                    f"{self} admits no second session on a connection: its sshd's "
                    f"MaxSessions must be 2 or more ({error.reason})"
                ) from error
            self._channels.refused()
            return None
        except _BROKEN as error:
            raise self._cut(name, error) from error
        self._channels.admitted()
        return process

    async def _process(
        self, process: asyncssh.SSHClientProcess[bytes], argv: tuple[str, ...], stdin: bytes
    ) -> Completed:
        stdout, stderr, _ = await asyncio.gather(
            _collect(process.stdout, argv[0]),
            _collect(process.stderr, argv[0]),
            _feed(process.stdin, stdin),
        )
        await process.wait_closed()
        if process.returncode is None:
            raise self._cut(argv[0], None)
        return Completed(argv, process.returncode, stdout, stderr)

    def _late(self, what: str, seconds: float) -> ExecutorUnavailable:
        return ExecutorUnavailable(f"{what} gave no answer within {seconds:g} s on {self}")

    def _cut(self, what: str, error: BaseException | None) -> ExecutorUnavailable:
        return ExecutorUnavailable(
            f"the connection to {self} broke during {what}" + (f": {error}" if error else "")
        )

    # ---- files ----

    @asynccontextmanager
    async def _files(self, what: str) -> AsyncIterator[asyncssh.SFTPClient]:
        link = await self._connected()
        try:
            async with link.files_lock:
                if link.files is None:
                    async with asyncio.timeout(self._target.io_seconds):
                        link.files = await link.connection.start_sftp_client(
                            path_errors="surrogateescape"  # names need not be UTF-8
                        )
            yield link.files
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            raise
        except TimeoutError:
            link.drop_files()
            raise ExecutorUnavailable(
                f"{self} gave no answer within {self._target.io_seconds:g} s ({what})"
            ) from None
        except sftp.BROKEN as error:
            link.drop_files()
            raise self._cut(what, error) from error
        except asyncssh.SFTPError as error:
            raise sftp.plain(error, what) from error
        except asyncssh.ChannelOpenError as error:
            if link.connection.is_closed():
                raise self._cut(what, error) from error
            # Commands took all the places that there are; they give one back when they end.
            self._channels.refused()
            raise ExecutorUnavailable(f"{self} has no session left for files now") from error
        except asyncssh.Error as error:
            raise self._cut(what, error) from error

    async def write(
        self, path: str, data: bytes | AsyncIterator[bytes], *, mode: int = 0o600
    ) -> None:
        """See :meth:`Remote.write`."""
        async with self._files(path) as files:
            await sftp.write(files, path, data, mode, self._target.io_seconds)

    async def read(self, path: str, offset: int, length: int) -> bytes:
        """See :meth:`Remote.read`."""
        async with self._files(path) as files, asyncio.timeout(self._target.io_seconds):
            return await sftp.read(files, path, offset, length)

    async def size(self, path: str) -> int | None:
        """See :meth:`Remote.size`."""
        try:
            async with self._files(path) as files, asyncio.timeout(self._target.io_seconds):
                return (await files.stat(path)).size
        except (FileNotFoundError, NotADirectoryError):
            return None

    async def entries(self, path: str) -> Sequence[Entry]:
        """See :meth:`Remote.entries`."""
        async with self._files(path) as files, asyncio.timeout(self._target.io_seconds):
            return await sftp.entries(files, path)

    async def make_folder(self, path: str, *, mode: int = 0o700) -> bool:
        """See :meth:`Remote.make_folder`."""
        async with self._files(path) as files, asyncio.timeout(self._target.io_seconds):
            return await sftp.make_folder(files, path, mode)


def command_line(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """The one string that SSH takes, which the account's shell splits into just these words."""
    words = ["env", *(f"{name}={value}" for name, value in environment.items()), *argv]
    return shlex.join(words if environment else argv)


async def _collect(stream: asyncssh.SSHReader[bytes], name: str) -> bytes:
    found = bytearray()
    while chunk := await stream.read(1 << 16):
        found += chunk
        if len(found) > MOST_OUTPUT:
            raise ExecutorUnavailable(f"{name} says more than {MOST_OUTPUT >> 20} MiB")
    return bytes(found)


async def _empty(stream: asyncssh.SSHReader[bytes]) -> None:
    while await stream.read(1 << 16):
        pass


async def _feed(stream: asyncssh.SSHWriter[bytes], data: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionError):  # it need not read all
        stream.write(data)
        await stream.drain()
        stream.write_eof()

"""Finds the points of a program at which it could die, and lets it die there.

An import hook rewrites queueapi's own modules as they are loaded: each `await`, each step of an
`async with` or `async for`, and in the modules that work without asyncio each call that does
something outside of the process, is preceded and followed by a look at a page of memory that the
test shares. A point is such a place together with the way there: the lines of queueapi's
functions that are being executed. So a commit is as many points as there are callers of it.

The standard library alone: the fork server, which has nothing else, is instrumented as well.
"""

import builtins
import importlib
import importlib.machinery
import marshal
import mmap
import os
import signal
import struct
import sys
import time
from _blake2 import blake2b  # hashlib would load OpenSSL into the fork server
from collections.abc import Sequence
from types import CodeType, ModuleType, TracebackType
from typing import Any, Final

PACKAGE: Final = "queueapi"
# What to do where: note each point; die there; cut all connections to the database, and wait for
# that; have the answer to the next commit lost.
IDLE, RECORD, KILL, CUT, LOSE = range(5)
_FORK_SERVER: Final = f"{PACKAGE}.executors.local.child.forkserver"
SIZE: Final = 4096  # bytes of the shared page
_PAGE: Final = struct.Struct("=BxxxiiI8s8s")  # mode, hits to go, times fired, run, place, point
_HITS_AT, _FIRED_AT, _PLACE_AT, _CUT_AT, _SERVER_AT, _NEXT_AT = 4, 8, 16, 64, 68, 96


def digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()


class Page:
    """The shared memory, from both sides."""

    def __init__(self, path: str) -> None:
        page_fd = os.open(path, os.O_RDWR)
        self._memory = mmap.mmap(page_fd, SIZE)
        os.close(page_fd)

    @property
    def mode(self) -> int:
        return self._memory[0]

    def record(self, run: int) -> None:
        self.disarm()
        _PAGE.pack_into(self._memory, 0, RECORD, 0, 0, run, bytes(8), bytes(8))

    @property
    def run(self) -> int:
        """Under which number to record."""
        return int(_PAGE.unpack_from(self._memory)[3])

    def arm(self, mode: int, point: str, hit: int) -> None:
        """At the `hit`-th time (from 1) that this point is reached."""
        self.disarm()
        self.cut = IDLE
        _PAGE.pack_into(self._memory, 0, IDLE, hit, 0, 0, *_digests(point))
        self._memory[0] = mode

    def then_record(self, run: int) -> None:
        """Once that has come: note all that follows it."""
        _PAGE.pack_into(self._memory, _NEXT_AT, RECORD, 0, 0, run, bytes(8), bytes(8))

    def then_arm(self, mode: int, point: str, hit: int) -> None:
        """Once that has come: do so at another point, at so many times from then on."""
        _PAGE.pack_into(self._memory, _NEXT_AT, mode, hit, 0, 0, *_digests(point))

    def disarm(self) -> None:
        self._memory[0] = IDLE
        self._memory[_NEXT_AT] = IDLE

    def is_at(self, place: bytes) -> bool:
        return self._memory[_PLACE_AT : _PLACE_AT + 8] == place

    def is_point(self, point: bytes) -> bool:
        return self._memory[_PLACE_AT + 8 : _PLACE_AT + 16] == point

    def claim(self) -> bool:
        """One more hit; True when it is the one."""
        hits = int(_PAGE.unpack_from(self._memory)[1]) - 1
        struct.pack_into("=i", self._memory, _HITS_AT, hits)
        if hits == 0:
            self._advance()
        return hits == 0

    def _advance(self) -> None:
        """What is to be done next takes the place of what was done; last of all its mode."""
        then, hits, _, run, place, point = _PAGE.unpack_from(self._memory, _NEXT_AT)
        _PAGE.pack_into(self._memory, 0, IDLE, hits, self.fired + 1, run, place, point)
        self._memory[_NEXT_AT] = IDLE
        self._memory[0] = then

    @property
    def fired(self) -> int:
        """How many of the points were come to."""
        return int(struct.unpack_from("=i", self._memory, _FIRED_AT)[0])

    @property
    def cut(self) -> int:
        """What the proxy is to do, CUT or LOSE; IDLE when it has."""
        return self._memory[_CUT_AT]

    @cut.setter
    def cut(self, how: int) -> None:
        self._memory[_CUT_AT] = how

    @property
    def server(self) -> int:
        """The present server's pid."""
        return int(struct.unpack_from("=i", self._memory, _SERVER_AT)[0])

    @server.setter
    def server(self, pid: int) -> None:
        struct.pack_into("=i", self._memory, _SERVER_AT, pid)


def _digests(point: str) -> tuple[bytes, bytes]:
    """Of its place, and of the whole."""
    return digest(point.partition(" < ")[0]), digest(point)


class _Loader(importlib.machinery.SourceFileLoader):
    """Keeps what it compiles where only tests look."""

    cache = ""

    def get_code(self, fullname: str) -> CodeType:
        source_path = self.get_filename(fullname)
        source = self.get_data(source_path)
        kept = f"{self.cache}/{fullname}-{digest(source.decode()).hex()}"
        try:
            code = marshal.loads(self.get_data(kept))
        except OSError:
            rewrite = importlib.import_module("tests.crash.rewrite").rewrite
            code = compile(rewrite(fullname, source), source_path, "exec", dont_inherit=True)
            draft = f"{kept}.{os.getpid()}"
            self.set_data(draft, marshal.dumps(code))
            os.rename(draft, kept)  # noqa: PTH104
        assert isinstance(code, CodeType)
        return code


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] != PACKAGE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Hooks:
    """`page` and `log` are given to a process that is to serve; until then nothing is looked at."""

    def __init__(self, role: str) -> None:
        self._page: Page | None = None
        self._log = ""
        self._role = role
        self._digests: dict[str, bytes] = {}
        os.register_at_fork(after_in_child=self._forked)

    def attach(self, page: Page, log: str) -> None:
        self._page, self._log = page, log

    def _forked(self) -> None:
        if self._role == "fork server":
            self._role = "supervisor"

    def reached(self, place: str) -> None:
        page = self._page
        if page is None or page.mode == IDLE:
            return
        mode = page.mode
        place = f"{self._role} {place}"
        known = self._digests.get(place) or self._digests.setdefault(place, digest(place))
        if mode == RECORD:
            self._note(page.run, _point(place))
        elif page.is_at(known) and page.is_point(digest(_point(place))) and page.claim():
            self._act(page, mode)

    def _note(self, run: int, point: str) -> None:
        log_fd = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        os.write(log_fd, f"{run}\t{point}\n".encode())
        os.close(log_fd)

    @staticmethod
    def _act(page: Page, mode: int) -> None:
        if mode == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # the signal comes before this call returns
        page.cut = mode
        deadline = time.monotonic() + 5
        while mode == CUT and page.cut and time.monotonic() < deadline:
            time.sleep(0.001)


def _point(place: str) -> str:
    """The place and the way there, by lines of our own functions."""
    way = []
    frame = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module == _FORK_SERVER and place.startswith("supervisor"):
            break  # what it was before it was forked, whether in advance or for this job
        if module.startswith(PACKAGE):
            way.append(f"{module.removeprefix(PACKAGE + '.')}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]  # None ends it
    return " < ".join([place, *way])


class _With:
    """An asynchronous context manager whose two ends are points."""

    def __init__(self, hooks: _Hooks, place: str, inner: Any) -> None:
        self._hooks, self._place, self._inner = hooks, place, inner

    async def __aenter__(self) -> Any:
        self._hooks.reached(f"{self._place} before enter")
        found = await self._inner.__aenter__()
        self._hooks.reached(f"{self._place} after enter")
        return found

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Any:
        self._hooks.reached(f"{self._place} before exit")
        found = await self._inner.__aexit__(kind, error, trace)
        self._hooks.reached(f"{self._place} after exit")
        return found


class _For:
    """An asynchronous iterator each of whose steps is a point."""

    def __init__(self, hooks: _Hooks, place: str, inner: Any) -> None:
        self._hooks, self._place, self._inner = hooks, place, aiter(inner)

    def __aiter__(self) -> "_For":
        return self

    async def __anext__(self) -> Any:
        self._hooks.reached(f"{self._place} before step")
        found = await anext(self._inner)
        self._hooks.reached(f"{self._place} after step")
        return found


def install(cache: str, role: str) -> _Hooks:
    """Instrument all of queueapi that this process imports from now on."""
    hooks = _Hooks(role)

    def before(place: str, value: Any) -> Any:
        hooks.reached(f"{place} before")
        return value

    def after(place: str, value: Any) -> Any:
        hooks.reached(f"{place} after")
        return value

    names: dict[str, Any] = {
        "__crash_before__": before,
        "__crash_after__": after,
        "__crash_with__": lambda place, inner: _With(hooks, place, inner),
        "__crash_for__": lambda place, inner: _For(hooks, place, inner),
    }
    for name, hook in names.items():
        setattr(builtins, name, hook)
    _Loader.cache = cache
    sys.meta_path.insert(0, _Finder)
    return hooks

"""One server that dies again and again, on a machine of its own."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from queueapi.executors import local, slurm
from queueapi.executors.local.prepare import delete_tree
from tests.crash import instrument
from tests.crash.instrument import Page
from tests.crash.scripts import Armed
from tests.crash.zygote import Spec

PATIENCE = float(
    os.environ.get("PATIENCE", "60")
)  # seconds for what takes one; the machine may be busy
_LOCAL, _SLURM = Path(local.__file__).parent, Path(slurm.__file__).parent
_SCRIPTS = (
    _LOCAL.parent / "run_wrapper.sh",
    _SLURM / "launch.sh",
    _SLURM / "batch_script.sh",
)
_BOOT = """\
import sys
sys.path.append({root!r})
from tests.crash import instrument
instrument.install({cache!r}, "fork server").attach(instrument.Page({page!r}), {log!r})
with open({boot!r}) as source:
    exec(compile(source.read(), {boot!r}, "exec"), {{"__name__": "__main__", "__file__": {boot!r}}})
"""


class Server:
    """Its folder, with its data in it, and how it is watched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = folder / "data" / "jobs"
        self.points = folder / "points"  # those that were met while they were recorded
        for name in ("marks", "data", "armed", "scripts"):
            (folder / name).mkdir()
            (folder / name).chmod(0o711 if name in ("data", "scripts") else 0o1777)
        (folder / "page").write_bytes(bytes(instrument.SIZE))
        self.points.touch()
        self.points.chmod(0o666)  # a supervisor that starts a job is somebody else meanwhile
        self.page = Page(str(folder / "page"))
        self.armed = Armed(folder / "armed", self.points)

    @asynccontextmanager
    async def kept(
        self, settings: dict[str, Any], cache: Path, *, leads: bool, beat_seconds: float
    ) -> AsyncIterator[tuple[Spec, str]]:
        """What its keeper is told, and where it will be asked; its files as long as it lasts."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            spec = Spec(
                page=str(self.folder / "page"),
                log=str(self.points),
                cache=str(cache),
                listener=listener.fileno(),
                output=str(self.folder / "output"),
                boot=str(self._write_boot(cache)),
                scripts=self._write_scripts(),
                settings={"data_dir": str(self.folder / "data")} | settings,
                leads=leads,
                beat_seconds=beat_seconds,
            )
            try:
                yield spec, f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                delete_tree(self.folder / "data")

    def _write_boot(self, cache: Path) -> Path:
        boot = self.folder / "boot.py"
        root, own = str(Path(__file__).parents[2]), str(_LOCAL / "child" / "boot.py")
        page, log = str(self.folder / "page"), str(self.points)
        boot.write_text(_BOOT.format(root=root, cache=str(cache), page=page, log=log, boot=own))
        return boot

    def _write_scripts(self) -> dict[str, str]:
        written = {}
        for script in _SCRIPTS:
            path = self.folder / "scripts" / script.name
            # What was lost so long ago is taken up again: sooner than after a minute.
            path.write_text(self.armed.instrumented(script).replace("-mmin +1)", "-mmin +0.02)"))
            written[script.name] = str(path)
        return written

    async def restart(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Kill it; do something before the next one has started."""
        pid = self.page.server
        with suppress(ProcessLookupError):  # it has just died at its point
            os.kill(pid, signal.SIGKILL)
        meanwhile()
        deadline = time.monotonic() + PATIENCE
        while self.page.server == pid:
            assert time.monotonic() < deadline, "there is no new server"
            await asyncio.sleep(0.002)

    @contextmanager
    def nothing_forked(self) -> Iterator[list[psutil.Process]]:
        """The present fork server stands still for as long; what it was asked it does afterwards,
        unless it is dead by then. None where the server is just starting."""
        boot, found = str(self.folder / "boot.py"), []
        with suppress(psutil.Error):
            children = psutil.Process(self.page.server).children()
            found = [child for child in children if boot in child.cmdline()]
        try:
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            yield found
        finally:
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def last_words(self) -> str:
        return (self.folder / "output").read_text()[-3000:]

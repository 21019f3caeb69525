"""Finding out whether bubblewrap works here, by running something in it."""

import asyncio
import logging
import os
import secrets
from typing import Final

from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.local.child.enter import Entry
from queueapi.executors.local.child.records import RUN
from queueapi.executors.local.config import LocalConfig, account_of
from queueapi.executors.local.link import ForkServerLink
from queueapi.executors.local.prepare import NEW, delete_tree
from queueapi.executors.local.sandbox import find_bwrap, job_options, system_options

_log = logging.getLogger(__name__)

_PROBE: Final = ("/bin/sh", "-c", "test -w . && ! test -e ../exit")


async def choose_sandbox(config: LocalConfig, link: ForkServerLink) -> tuple[str, ...]:
    """Bubblewrap's path and the options all jobs share; empty = they run without a sandbox.

    Raises :class:`ExecutorUnavailable` when ``config`` demands what does not work.
    """
    if config.sandbox == "none":
        return ()
    bwrap = await asyncio.to_thread(find_bwrap)
    if bwrap is None:
        why = "bubblewrap is not installed"
    else:
        system = (bwrap, *await asyncio.to_thread(system_options))
        status = await _try(config, link, system)
        if status == 0:
            return system
        why = f"a trial of {bwrap} ended with status {status}"
    if config.sandbox == "bwrap":
        raise ExecutorUnavailable(f"the sandbox is required, but {why}")
    _log.warning("local jobs run without a sandbox: %s", why)
    return ()


async def _try(config: LocalConfig, link: ForkServerLink, system: tuple[str, ...]) -> int:
    draft = config.jobs_dir / f"{NEW}{secrets.token_hex(8)}"
    account = account_of(config, 0)

    def make() -> str:
        draft.mkdir()
        draft.chmod(0o711)
        run = draft / RUN
        for folder in (run, run / "work", run / "result", run / "tmp"):
            folder.mkdir(mode=0o700)
        (run / "exit").touch(mode=0o444)
        if account.uid is not None and account.gid is not None:
            for folder in (run / "work", run / "result", run / "tmp", run):
                os.chown(folder, account.uid, account.gid)
        return str(run)

    try:
        run_path = await asyncio.to_thread(make)
        options = [*job_options(system, run_path, gpus=False), "--chdir", f"{run_path}/work"]
        argv = [*options, "--remount-ro", "/", "--", *_PROBE]
        return await link.probe(Entry(argv, {"PATH": "/usr/bin:/bin"}, account.uid, account.gid))
    finally:
        await asyncio.to_thread(delete_tree, draft)

"""What jobs need of this machine, tried one after the other."""

import asyncio
import os
import shutil
from typing import Final

from queueapi.executors.base import Check, ExecutorUnavailable
from queueapi.executors.local.child.cgroups import discover
from queueapi.executors.local.child.enter import Entry
from queueapi.executors.local.config import LocalConfig, account_of
from queueapi.executors.local.discovery import discover_node
from queueapi.executors.local.link import ForkServerLink
from queueapi.executors.local.prepare import prepare_jobs_dir

_GIB: Final = 1 << 30
_LEAST_FREE: Final = 1 * _GIB  # bytes of disk, for the logs and files of jobs
_TRIAL_SECONDS: Final = 10.0


async def look(
    config: LocalConfig, link: ForkServerLink, sandbox: tuple[str, ...] | None
) -> tuple[Check, ...]:
    """``sandbox``: as jobs get it; None = the executor has not started."""
    blocking = (_folder, _space, _account, _limits, _node)
    found = await asyncio.to_thread(lambda: [look_at(config) for look_at in blocking])
    return (*found, _sandbox(config, sandbox), await _trial(config, link))


def _folder(config: LocalConfig) -> Check:
    name = "the folder for jobs"
    try:
        prepare_jobs_dir(config)
    except (OSError, ExecutorUnavailable) as error:
        remedy = f"let the server's account write below {config.data_dir}, or set QUEUEAPI_DATA_DIR"
        return Check(name, False, str(error), remedy)
    return Check(name, True, str(config.jobs_dir))


def _space(config: LocalConfig) -> Check:
    name = "room on its disk"
    try:
        free = shutil.disk_usage(config.data_dir).free
    except OSError as error:
        return Check(name, False, str(error), f"make {config.data_dir}")
    words = f"{free / _GIB:.1f} GiB are free"
    if free < _LEAST_FREE:
        return Check(name, False, words, "delete what is old, or set QUEUEAPI_DATA_DIR")
    return Check(name, True, words)


def _account(config: LocalConfig) -> Check:
    name = "the account of jobs"
    try:
        account = account_of(config, user_id=0)
    except ExecutorUnavailable as error:
        return Check(name, False, str(error), "correct QUEUEAPI_LOCAL_ACCOUNT")
    if account.uid is None:
        return Check(name, True, f"the server's own, uid {os.geteuid()}")
    return Check(name, True, config.account or "one for each user, without a name")


def _limits(config: LocalConfig) -> Check:
    version = discover().version if config.use_cgroups else 0
    how = f"by control groups, version {version}" if version else "by looking at /proc"
    return Check("limits on memory and processes", True, how)


def _node(config: LocalConfig) -> Check:
    node = discover_node(config)
    words = f"{node.name}: {node.cpus} CPUs, {node.memory_mb} MB, {len(node.gpus)} GPUs"
    return Check("the node", True, words)


def _sandbox(config: LocalConfig, sandbox: tuple[str, ...] | None) -> Check:
    name = "the sandbox"
    if sandbox:
        return Check(name, True, sandbox[0])
    if config.sandbox == "bwrap":
        remedy = "install bubblewrap, or set QUEUEAPI_LOCAL_SANDBOX=auto"
        return Check(name, False, "it is required, and does not work", remedy)
    return Check(name, True, "none, as is allowed; jobs see the files of this machine")


async def _trial(config: LocalConfig, link: ForkServerLink) -> Check:
    """Start something as a job is started."""
    name = "a trial"
    remedy = "see the server's log; if it does not recover, restart the server"
    try:
        account = account_of(config, user_id=0)
        entry = Entry(["/bin/true"], {"PATH": os.defpath}, account.uid, account.gid)
        async with asyncio.timeout(_TRIAL_SECONDS):
            status = await link.probe(entry)
    except ExecutorUnavailable as error:
        return Check(name, False, str(error), remedy)
    except TimeoutError:
        return Check(name, False, f"no answer in {_TRIAL_SECONDS:g} s", remedy)
    if status:
        return Check(name, False, f"/bin/true ended with status {status}", remedy)
    return Check(name, True, "a program was started and ended well")

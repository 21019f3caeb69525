"""Making a job's folder: all or nothing, and once per key."""

import fcntl
import hashlib
import os
import secrets
import shutil
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from queueapi.executors.base import ExecutorUnavailable, LaunchRefused, Run
from queueapi.executors.data import DATA
from queueapi.executors.environment import build_environment, data_files, encode_environment
from queueapi.executors.local.child.records import PLAN, RUN, CgroupRoots, Plan
from queueapi.executors.local.config import LocalConfig, account_of
from queueapi.executors.local.sandbox import all_options, command, job_options

_WRAPPER: Final = Path(__file__).parent.parent / "run_wrapper.sh"
NEW: Final = ".new-"  # a folder in the making; no launch key begins with a dot
_OLD: Final = ".old-"  # a folder in the unmaking
_STALE_SECONDS: Final = 3600.0  # a making or unmaking that is older was interrupted
_THROUGH: Final = 0o711  # others may pass through, not list
_OWN: Final = 0o700
_GET_FLAGS: Final = 0x80086601  # FS_IOC_GETFLAGS
_SET_FLAGS: Final = 0x40086602  # FS_IOC_SETFLAGS
_TOP_OF_HIERARCHY: Final = 0x00020000  # FS_TOPDIR_FL


def boot_id() -> str:
    """A name for this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def prepare_jobs_dir(config: LocalConfig) -> str:
    """Make ``jobs`` fit to hold job folders; returns the path of the wrapper in it.

    Raises :class:`ExecutorUnavailable` when jobs could not reach it.
    """
    jobs = config.jobs_dir
    jobs.mkdir(parents=True, exist_ok=True)
    jobs.chmod(_THROUGH)
    config.folders_dir.mkdir(exist_ok=True)
    config.folders_dir.chmod(_THROUGH)
    _spread(jobs)
    if os.geteuid() == 0:
        _check_reachable(config)
    text = _WRAPPER.read_bytes()
    # A copy: jobs can't read the server's installation when it lies in a home. The
    # name carries the content, so that servers of two versions don't fight over it.
    wrapper = jobs / f"run_wrapper.{hashlib.sha256(text).hexdigest()[:12]}.sh"
    if not wrapper.exists():
        draft = jobs / f"{NEW}{secrets.token_hex(8)}"
        draft.write_bytes(text)
        draft.chmod(0o755)
        draft.rename(wrapper)
    for stale in (*jobs.glob(f"{NEW}*"), *jobs.glob(f"{_OLD}*")):
        with suppress(OSError):
            if time.time() - stale.lstat().st_mtime > _STALE_SECONDS:
                delete_tree(stale)
    return str(wrapper)


def _spread(jobs: Path) -> None:
    """Tell ext4, like chattr +T, that the folders in here have nothing in common.

    They are then made all over the disk. Side by side, each new file would have to
    look past all that were deleted there lately: ext4 without a journal does not
    reuse them for minutes, and a search past thousands takes half a millisecond.
    """
    with suppress(OSError):  # another file system, which has no such search
        folder_fd = os.open(jobs, os.O_RDONLY | os.O_DIRECTORY)
        try:
            flags = struct.unpack("l", fcntl.ioctl(folder_fd, _GET_FLAGS, bytes(8)))[0]
            fcntl.ioctl(folder_fd, _SET_FLAGS, struct.pack("l", flags | _TOP_OF_HIERARCHY))
        finally:
            os.close(folder_fd)


def _check_reachable(config: LocalConfig) -> None:
    folder = config.data_dir
    if not folder.stat().st_mode & 0o001:
        folder.chmod(folder.stat().st_mode | 0o001)  # ours to open: through, not in
    for parent in folder.resolve().parents:
        if not parent.stat().st_mode & 0o001:
            raise ExecutorUnavailable(
                f"jobs run under accounts of their own and can't pass through {parent}: "
                f"choose a data directory outside it, or chmod o+x {parent}"
            )


@dataclass(frozen=True, slots=True)
class Site:
    """What all jobs of one server have in common."""

    config: LocalConfig
    wrapper: str  # path of the run wrapper that jobs can reach
    boot: str  # see boot_id
    cgroups: CgroupRoots
    sandbox: tuple[str, ...]  # bubblewrap's path and the options all jobs share; empty = none


def make_folder(run: Run, site: Site) -> bool:
    """Make the job folder; False when its key has one already.

    Raises :class:`LaunchRefused` for input that can't be passed on, and
    :class:`ExecutorUnavailable` when the disk won't take it now.
    """
    if run.container is not None:
        raise LaunchRefused("this machine runs no containers; name a cluster that does")
    path = f"{site.config.jobs_dir}/{run.key}"
    files = {"script": run.script.encode("utf-8", "surrogateescape")}
    if b"\0" in files["script"]:
        raise LaunchRefused("the script contains a NUL character")
    if run.input_data is not None:
        files["input.json"] = run.input_data
    executable = f"{site.config.folders_dir}/{run.executable}" if run.executable else None
    data = _data_path(run, site, f"{path}/{RUN}")
    environment = _environment(run, f"{path}/{RUN}", executable, data, sandboxed=bool(site.sandbox))
    given = [f"{path}/{RUN}/{name}" for name in files] + ([executable] if executable else [])
    if data is not None:
        given.append(data)
    options = _options(run, site, f"{path}/{RUN}", given, environment) if site.sandbox else ()
    files |= data_files(run)
    if not site.sandbox:
        files["environment"] = encode_environment(environment)
    if os.access(path, os.F_OK):
        return False
    plan = _plan(run, site, path, options)
    draft = f"{site.config.jobs_dir}/{NEW}{secrets.token_hex(8)}"
    try:
        _fill(draft, plan, files)
        os.rename(draft, path)  # noqa: PTH104 - refused when there is one: none is empty
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if os.access(path, os.F_OK):
            return False
        raise ExecutorUnavailable(f"can't make the job's folder: {error}") from error
    return True


def _data_path(run: Run, site: Site, run_path: str) -> str | None:
    if run.data_folder is not None:
        return f"{site.config.folders_dir}/{run.data_folder}"
    return f"{run_path}/{DATA}" if run.data is not None else None


def _environment(
    run: Run, run_path: str, executable: str | None, data: str | None, *, sandboxed: bool
) -> dict[str, str]:
    return build_environment(
        run,
        home=f"{run_path}/work",
        tmpdir="/tmp" if sandboxed else f"{run_path}/tmp",  # noqa: S108
        user=f"user{run.user_id}",
        result_path=f"{run_path}/result",
        data_path=data,
        input_path=None if run.input_data is None else f"{run_path}/input.json",
        executable=executable,
    )


def _options(
    run: Run, site: Site, run_path: str, given: Sequence[str], environment: Mapping[str, str]
) -> tuple[str, ...]:
    options = job_options(site.sandbox[1:], run_path, gpus=bool(run.gpu_indices))
    return all_options(options, given, f"{run_path}/work", environment)


def _plan(run: Run, site: Site, path: str, options: tuple[str, ...]) -> Plan:
    config = site.config
    account = account_of(config, run.user_id)
    script_path = f"{path}/{RUN}/script"
    return Plan(
        key=run.key,
        boot_id=site.boot,
        path=path,
        wrapper=site.wrapper,
        command=command(site.sandbox[0], script_path, run.script) if site.sandbox else (),
        options=options,
        uid=account.uid,
        gid=account.gid,
        # An account of the operator's choice may have other processes.
        unseen=bool(site.sandbox) and not config.account,
        memory_bytes=run.memory_mb << 20,
        max_processes=config.max_processes,
        max_file_bytes=config.max_file_bytes,
        log_cap_bytes=config.log_cap_bytes,
        time_limit=run.time_limit,
        grace_seconds=config.grace_seconds,
        cgroups=site.cgroups,
    )


def _fill(draft: str, plan: Plan, files: Mapping[str, bytes]) -> None:
    run = f"{draft}/{RUN}"
    own = (run, f"{run}/work", f"{run}/result", f"{run}/tmp")  # noqa: S108
    os.mkdir(draft, _OWN)  # noqa: PTH102 - at hundreds of launches per second, pathlib counts
    for folder in own:
        os.mkdir(folder, _OWN)  # noqa: PTH102
    os.chmod(draft, _THROUGH)  # noqa: PTH101 - the umask would take it away in mkdir
    _write(f"{draft}/{PLAN}", plan.encode(), 0o600)
    for name, content in files.items():
        # The server's, readable: the folder around them keeps other users out.
        _write(f"{run}/{name}", content, 0o555 if name == "script" else 0o444)
    if plan.uid is not None and plan.gid is not None:
        for folder in own:
            os.chown(folder, plan.uid, plan.gid)


def _write(path: str, content: bytes, mode: int) -> None:
    with open(path, "xb", buffering=0) as file:  # noqa: PTH123
        os.fchmod(file.fileno(), mode)
        view = memoryview(content)
        while view:
            view = view[file.write(view) :]


def delete_tree(folder: Path) -> None:
    """Delete a folder that a job has filled as it liked.

    ``rm``, because it is not stopped by a depth at which recursion would fail.
    Raises :class:`ExecutorUnavailable` when something is left.
    """
    command = ["/bin/rm", "-rf", "--one-file-system", "--", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:  # noqa: S603
        # Without root's rights, a folder made unreadable must be opened up first.
        mend = ["/bin/chmod", "-R", "u+rwX", "--", str(folder)]
        subprocess.run(mend, capture_output=True, check=False)  # noqa: S603
        again = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        if again.returncode != 0:
            raise ExecutorUnavailable(again.stderr.decode(errors="replace").strip()[:500])


def retire(folder: Path) -> None:
    """Take a job folder out of sight at once, then delete it."""
    old = folder.with_name(f"{_OLD}{secrets.token_hex(8)}")
    try:
        folder.rename(old)
    except FileNotFoundError:
        return
    delete_tree(old)

"""Making a job's folder: all or nothing, and once per key."""

import hashlib
import os
import secrets
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from queueapi.executors.base import ExecutorUnavailable, LaunchRefused, Run
from queueapi.executors.environment import build_environment, encode_environment
from queueapi.executors.local.child.records import PLAN, RUN, CgroupRoots, Plan
from queueapi.executors.local.config import Account, LocalConfig, account_of
from queueapi.executors.local.sandbox import job_arguments

_WRAPPER: Final = Path(__file__).parent.parent / "run_wrapper.sh"
NEW: Final = ".new-"  # a folder in the making; no launch key begins with a dot
_OLD: Final = ".old-"  # a folder in the unmaking
_STALE_SECONDS: Final = 3600.0  # a making or unmaking that is older was interrupted
_THROUGH: Final = 0o711  # others may pass through, not list
_OWN: Final = 0o700


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


def make_plan(
    run: Run,
    config: LocalConfig,
    *,
    wrapper: str,
    boot: str,
    cgroups: CgroupRoots,
    sandbox: tuple[str, ...],
) -> Plan:
    """What the supervisor is to do; ``sandbox`` is the shared part of bwrap's argv."""
    path = str(config.jobs_dir / run.key)
    account = account_of(config, run.user_id)
    prefix = job_arguments(sandbox, f"{path}/{RUN}", wrapper, gpus=bool(run.gpu_indices))
    return Plan(
        key=run.key,
        boot_id=boot,
        path=path,
        wrapper=wrapper,
        prefix=prefix if sandbox else (),
        uid=account.uid,
        gid=account.gid,
        memory_bytes=run.memory_mb << 20,
        max_processes=config.max_processes,
        max_file_bytes=config.max_file_bytes,
        log_cap_bytes=config.log_cap_bytes,
        time_limit=run.time_limit,
        grace_seconds=config.grace_seconds,
        cgroups=cgroups,
    )


def make_folder(run: Run, plan: Plan) -> bool:
    """Make the job folder; False when its key has one already.

    Raises :class:`LaunchRefused` for input that can't be passed on, and
    :class:`ExecutorUnavailable` when the disk won't take it now.
    """
    run_path = f"{plan.path}/{RUN}"
    script = run.script.encode("utf-8", "surrogateescape")
    if b"\0" in script:
        raise LaunchRefused("the script contains a NUL character")
    environment = build_environment(
        run,
        home=f"{run_path}/work",
        tmpdir="/tmp" if plan.prefix else f"{run_path}/tmp",  # noqa: S108
        user=f"user{run.user_id}",
        input_path=None if run.input_data is None else f"{run_path}/input.json",
    )
    if os.access(plan.path, os.F_OK):
        return False
    job = Path(plan.path)
    draft = job.with_name(f"{NEW}{secrets.token_hex(8)}")
    try:
        _fill(draft, script, encode_environment(environment), run.input_data, plan)
        draft.rename(job)  # refused when somebody else's is there: no folder is empty
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if job.exists():
            return False
        raise ExecutorUnavailable(f"can't make the job's folder: {error}") from error
    return True


def _fill(draft: Path, script: bytes, environment: bytes, data: bytes | None, plan: Plan) -> None:
    run = draft / RUN
    for folder, mode in ((draft, _THROUGH), (run, _OWN), (run / "work", _OWN), (run / "tmp", _OWN)):
        folder.mkdir()
        folder.chmod(mode)
    _write(draft / PLAN, plan.encode(), 0o600)
    # The server's, readable: the folder around them keeps other users out.
    _write(run / "script", script, 0o555)
    _write(run / "environment", environment, 0o444)
    if data is not None:
        _write(run / "input.json", data, 0o444)
    account = Account(plan.uid, plan.gid)
    if account.uid is not None and account.gid is not None:
        for folder in (run / "work", run / "tmp", run):
            os.chown(folder, account.uid, account.gid)


def _write(path: Path, content: bytes, mode: int) -> None:
    path.write_bytes(content)
    path.chmod(mode)


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

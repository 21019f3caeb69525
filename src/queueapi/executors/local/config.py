"""What an operator can choose for the local executor, and who its jobs run as."""

import os
import pwd
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from queueapi.executors.base import ExecutorUnavailable

# systemd keeps 61184-65519 for users that exist only while something runs as
# them; no distribution gives these ids to an account.
FIRST_UID: Final = 61184
UID_COUNT: Final = 4336


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """Settings of one local executor."""

    data_dir: Path  # jobs live in data_dir/jobs/KEY
    grace_seconds: float = 10.0  # between SIGTERM and SIGKILL
    log_cap_bytes: int = 4 << 30  # bytes per stream of a job
    max_processes: int = 4096  # per job, threads included where the kernel counts
    max_file_bytes: int = 0  # bytes per file a job writes; 0 = no limit
    account: str = ""  # whom jobs run as when the server is root; "" = a uid per user
    sandbox: Literal["auto", "bwrap", "none"] = "auto"
    use_cgroups: bool = True  # where the kernel lets us; else limits are held by sampling
    reserve_cpus: int = 0  # cores kept back for the server
    reserve_memory_mb: int = 0  # MiB kept back for the server
    cpus: int | None = None  # cores, instead of what was discovered
    memory_mb: int | None = None  # MiB, instead of what was discovered
    features: tuple[str, ...] = ()  # words that a job's constraint may ask for
    node: str = field(default_factory=socket.gethostname)  # the node's name

    @property
    def folders_dir(self) -> Path:
        """Where the folders are that jobs bring."""
        return self.data_dir / "folders"

    @property
    def jobs_dir(self) -> Path:
        """Where the job folders are."""
        return self.data_dir / "jobs"


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a job runs as; None = as the server."""

    uid: int | None
    gid: int | None


def account_of(config: LocalConfig, user_id: int) -> Account:
    """The account for the jobs of a user of ours.

    Two users share a uid only when their ids differ by a multiple of UID_COUNT.
    Raises :class:`ExecutorUnavailable` when the configured account is no use.
    """
    if os.geteuid() != 0:
        return Account(None, None)
    if not config.account:
        own = FIRST_UID + user_id % UID_COUNT
        return Account(own, own)
    try:
        entry = pwd.getpwnam(config.account)
    except KeyError:
        raise ExecutorUnavailable(f"no such account on this machine: {config.account}") from None
    if entry.pw_uid == 0:
        raise ExecutorUnavailable("jobs may not run as root: choose another account")
    return Account(entry.pw_uid, entry.pw_gid)

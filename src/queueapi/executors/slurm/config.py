"""What an operator says of a Slurm cluster, checked once."""

import getpass
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from queueapi.executors.accounts import LOGIN, Account, root_of
from queueapi.executors.base import ClusterConfig, ExecutorUnavailable, LaunchRefused
from queueapi.executors.data import OPTIONS as DATA_OPTIONS
from queueapi.executors.remote.base import Remote
from queueapi.executors.remote.host import HostRemote
from queueapi.executors.slurm.container import Allowed, check_program, read_allowed
from queueapi.executors.slurm.request import check_path

try:
    from queueapi.executors.remote.ssh import SshRemote
    from queueapi.executors.remote.target import LoginRefused, SshTarget
except ImportError as error:  # the extra is not installed; clusters on this host need none
    if error.name not in ("asyncssh", "bcrypt"):
        raise
    SshRemote = None  # type: ignore[assignment,misc]  # told apart where it is used

KIND: Final = "slurm"
SITE_WORDS: Final = ("partition", "account", "qos", "gres", "reservation")
_FOR_SSH: Final = "install queueapi[slurm] to reach clusters by SSH"


@dataclass(frozen=True, slots=True)
class SlurmConfig:
    """Settings of one Slurm cluster. From `max_waiting` on they are options of its kind."""

    name: str
    root: str  # absolute path of the folder for jobs there; login and compute nodes share it
    user: str  # the account there
    partitions: tuple[str, ...] = ()  # that jobs may use; () = all
    defaults: Mapping[str, str] = field(default_factory=dict)  # for what a job leaves out
    max_waiting: int = 100  # of our jobs in Slurm's queue; the rest waits in ours, in our order
    poll_seconds: float = 2.0  # between questions while things change
    poll_seconds_least: float = 0.25  # and while a great part of what runs ends between them
    poll_seconds_most: float = 15.0  # and while nothing does
    path: str | None = None  # folders of Slurm's programs, if the account's PATH lacks them
    command_seconds: float = 60.0  # that one of Slurm's programs may take
    container_program: str = "apptainer"  # or singularity, or the path of one
    containers: Allowed = field(default_factory=Allowed)  # what they may name; nothing if absent

    @property
    def folders(self) -> str:
        """Where the folders are that jobs bring."""
        return f"{self.root}/.folders"

    @property
    def environment(self) -> dict[str, str]:
        """For all commands on the cluster."""
        if self.path is None:
            return {}
        return {"PATH": f"{self.path}:/usr/local/bin:/usr/bin:/bin"}


_NUMBERS: Final = (
    *("max_waiting", "poll_seconds", "poll_seconds_least", "poll_seconds_most"),
    "command_seconds",
)
_OPTIONS: Final = (
    *(*_NUMBERS, "path", "container_program", "container_images", "container_binds"),
    *DATA_OPTIONS,
)


def read_config(cluster: ClusterConfig) -> SlurmConfig:
    """Raises :class:`ExecutorUnavailable` with what is wrong with it."""
    if cluster.root is None:
        raise ExecutorUnavailable(f"the cluster {cluster.name} needs a root: its folder for jobs")
    unknown = sorted(set(cluster.options) - set(_OPTIONS))
    if unknown:
        raise ExecutorUnavailable(
            f"unknown option {unknown[0]!r} of a Slurm cluster; it has {', '.join(_OPTIONS)}"
        )
    words = sorted(set(cluster.defaults) - set(SITE_WORDS))
    if words:
        raise ExecutorUnavailable(
            f"no default of a Slurm cluster: {words[0]!r}; there are {', '.join(SITE_WORDS)}"
        )
    if cluster.user_accounts and (cluster.host is None or LOGIN not in cluster.root.split("/")):
        raise ExecutorUnavailable(
            f"{cluster.name} has accounts of users: it needs a host, and {LOGIN} as one of the "
            "folders in its root"
        )
    login = cluster.login or getpass.getuser()
    return SlurmConfig(
        cluster.name,
        _root(cluster, login),
        login,
        cluster.partitions,
        cluster.defaults,
        **_options(cluster.options),
    )


def of_account(cluster: ClusterConfig, config: SlurmConfig, login: str) -> SlurmConfig:
    """The same for a user's own account."""
    return replace(config, user=login, root=_root(cluster, login))


def _root(cluster: ClusterConfig, login: str) -> str:
    pattern = (cluster.root or "").rstrip("/")
    try:
        return check_path(root_of(pattern, login) if cluster.user_accounts else pattern)
    except LaunchRefused as error:
        raise ExecutorUnavailable(f"the root of the cluster {cluster.name}: {error}") from error


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {
        name: _number(name, options[name]) for name in _NUMBERS if name in options
    }
    if "path" in options:
        known["path"] = _folders(options["path"])
    try:
        if "container_program" in options:
            known["container_program"] = check_program(str(options["container_program"]))
        images, binds = options.get("container_images", []), options.get("container_binds", {})
        known["containers"] = read_allowed(images, binds)
    except LaunchRefused as error:
        raise ExecutorUnavailable(str(error)) from error
    return known


def _folders(value: Any) -> str:
    if isinstance(value, str) and all(part.startswith("/") for part in value.split(":")):
        return value
    raise ExecutorUnavailable(f"path must be absolute folders with colons between: {value!r}")


def _number(name: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ExecutorUnavailable(f"{name} must be a number above 0: {value!r}")
    return int(value) if name == "max_waiting" else float(value)


def make_remote(cluster: ClusterConfig, account: Account | None = None) -> Remote:
    """How its commands and files are reached, by its own login or as a user's account.

    Raises :class:`ExecutorUnavailable`.
    """
    if cluster.host is None:
        return HostRemote()
    if SshRemote is None:
        raise ExecutorUnavailable(_FOR_SSH)
    login, passphrase = cluster.login, cluster.passphrase
    key: bytes | Path | None = Path(cluster.key_path) if cluster.key_path is not None else None
    if cluster.private_key is not None:
        key = cluster.private_key.encode()
    if account is not None:
        login, passphrase, key = account.login, account.passphrase, account.private_key.encode()
    target = SshTarget(
        cluster.host,
        cluster.host_keys,
        login,
        key,
        port=cluster.port,
        passphrase=passphrase,
    )
    return SshRemote(target)


def is_login_refused(error: ExecutorUnavailable) -> bool:
    """Whether the host did not let us in, or the key can't be used."""
    return SshRemote is not None and isinstance(error, LoginRefused)

"""The bubblewrap command line that a job runs behind.

The job sees the system read-only, a /proc, /dev and /tmp of its own, its work
folder at its real path, and the network. It doesn't see the server's data, other
jobs, their processes, or the record of its own exit.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from queueapi.executors.base import LaunchRefused
from queueapi.executors.local.child.records import OPTIONS_FD

_SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")  # often links into /usr
_READ_ONLY: Final = ("/opt", "/nix", "/gnu", "/sys/devices")
# What a job needs of /etc when it runs as the server's own account, whose secrets
# may lie beside it.
# fmt: off
_ETC: Final = (
    "alternatives", "ca-certificates", "crypto-policies", "fonts", "gai.conf", "group",
    "host.conf", "hosts", "java", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
    "magic", "mime.types", "nsswitch.conf", "OpenCL", "passwd", "pki", "protocols", "python3",
    "resolv.conf", "services", "ssl", "timezone",
)
# fmt: on
_GPU_READ_ONLY: Final = ("/sys/bus", "/sys/class", "/sys/dev", "/sys/module")
_GPU_DEVICES: Final = ("nvidia*", "dri", "kfd")
_MOST_VARIABLES: Final = 2500  # bubblewrap takes 9000 words, and a variable is three


def find_bwrap() -> str | None:
    """The path of bubblewrap, or None where it is not installed."""
    return shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin")


def system_options() -> tuple[str, ...]:
    """The options that all jobs share. Looks at this machine."""
    arguments = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
    arguments += ["--new-session", "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            arguments += ["--ro-bind", name, name]
    # All of /etc when jobs have accounts of their own, which may read it anyway: one
    # mount instead of twenty, and bubblewrap rereads the mount table for each.
    etc = ["/etc"] if os.geteuid() == 0 else [f"/etc/{name}" for name in _ETC]
    for name in (*_READ_ONLY, *etc):
        path = Path(name)
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            arguments += ["--ro-bind", name, name]
    return (*arguments, "--proc", "/proc", "--dev", "/dev")


def gpu_options() -> list[str]:
    """This machine's GPUs and what tells about them; CUDA_VISIBLE_DEVICES chooses."""
    devices = [str(path) for name in _GPU_DEVICES for path in sorted(Path("/dev").glob(name))]
    about = [part for path in _GPU_READ_ONLY for part in ("--ro-bind-try", path, path)]
    return about + [part for path in devices for part in ("--dev-bind-try", path, path)]


def job_options(system: Sequence[str], run_path: str, *, gpus: bool) -> list[str]:
    """``system`` and what the job in ``run_path`` may write."""
    options = [*system, *(gpu_options() if gpus else ())]
    # On the disk, not a tmpfs: what a job leaves in /tmp must not eat memory. It comes first, for
    # the others may lie below it.
    options += ["--bind", f"{run_path}/tmp", "/tmp"]  # noqa: S108
    for own in (f"{run_path}/work", f"{run_path}/result"):
        options += ["--bind", own, own]
    return options


def all_options(
    options: Sequence[str], given: Sequence[str], work: str, environment: Mapping[str, str]
) -> tuple[str, ...]:
    """Complete :func:`job_options`: ``given`` are the files that the job may read.

    The variables are set here, and so in bubblewrap when all of it is loaded already:
    no shell has to read them first, and LD_PRELOAD is too late to touch the sandbox.
    Raises :class:`LaunchRefused` for more than bubblewrap takes.
    """
    if len(environment) > _MOST_VARIABLES:
        raise LaunchRefused(f"a job can't have more than {_MOST_VARIABLES} variables")
    words = [*options]
    for path in given:
        words += ["--ro-bind", path, path]
    words += ["--remount-ro", "/", "--chdir", work, "--unsetenv", "OLDPWD"]
    for name, value in environment.items():
        words += ["--setenv", name, value]
    return tuple(words)


def command(bwrap: str, script_path: str, script: str) -> tuple[str, ...]:
    """What the run wrapper runs. Its options come by file: all may read a command line."""
    # Bubblewrap itself would end with 1 when it can't execute what #! names.
    own = ("-c", 'exec "$0"') if script.startswith("#!") else ()
    return ("--", bwrap, "--args", str(OPTIONS_FD), "--", "/bin/sh", *own, script_path)

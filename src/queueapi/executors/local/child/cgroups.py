"""A control group per job, where this server may make one.

Version 1 has a folder per controller (memory, pids), version 2 one for both. What
the kernel refuses is done without: the supervisor then samples /proc instead.
"""

import os
import time
from contextlib import suppress
from typing import Final

from queueapi.executors.local.child.records import CgroupRoots

_PARENT: Final = "queueapi"  # below the server's own group, so that its limits still hold
_SERVER_LEAF: Final = "queueapi-server"
_TRIAL_LIMIT: Final = str(1 << 22)  # of bytes, or of processes


def read(path: str) -> str:
    """The content of a group's file. Raises OSError, as do the next two."""
    file_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file_fd, 1 << 20).decode()
    finally:
        os.close(file_fd)


def write(path: str, value: str) -> None:
    """Set a group's file."""
    file_fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file_fd, value.encode())
    finally:
        os.close(file_fd)


def make(folder: str) -> None:
    """Make a group, unless it exists."""
    with suppress(FileExistsError):
        os.mkdir(folder)  # noqa: PTH102 - pathlib is not loaded in the children


def own_folders(membership: str, mountinfo: str) -> dict[str, str]:
    """Where this process's groups are mounted, by controller; "" is version 2's tree.

    ``membership`` is /proc/self/cgroup, ``mountinfo`` /proc/self/mountinfo.
    """
    own: dict[str, str] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        root, mountpoint = left.split()[3:5]
        kind, _, options = [*right.split(), "", ""][:3]
        names = [""] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []
        for name in set(names) & set(own):
            # In a container the mount shows a part of the tree only.
            inside = own[name] if root == "/" else own[name].removeprefix(root)
            found.setdefault(name, (mountpoint + "/" + inside.strip("/")).rstrip("/"))
    return found


def discover() -> CgroupRoots:
    """Find, by trying, where groups can be made. Never raises."""
    try:
        folders = own_folders(read("/proc/self/cgroup"), read("/proc/self/mountinfo"))
    except (OSError, ValueError):
        return CgroupRoots(0)
    if "" in folders and (both := _try_v2(folders[""])):
        return CgroupRoots(2, both, both, both)
    memory = _try_v1(folders.get("memory"), "memory.limit_in_bytes")
    pids = _try_v1(folders.get("pids"), "pids.max")
    # Version 2's tree may stand beside version 1's, with nothing in it but its freezer.
    freezer = _try_v1(folders.get(""), "cgroup.freeze", "1")
    if memory or pids or freezer:
        return CgroupRoots(1, memory, pids, freezer)
    return CgroupRoots(0)


def _try_v1(own: str | None, limit_file: str, value: str = _TRIAL_LIMIT) -> str | None:
    if own is None:
        return None
    return _trial(f"{own}/{_PARENT}", limit_file, value)


def _try_v2(own: str) -> str | None:
    try:
        if not {"memory", "pids"} <= set(read(f"{own}/cgroup.controllers").split()):
            return None
        try:
            write(f"{own}/cgroup.subtree_control", "+memory +pids")
        except OSError:
            # A group with processes of its own can't hand controllers down. When
            # all of them are this server, as in a delegated unit or a container,
            # we may move; other people's processes we leave where they are.
            if set(read(f"{own}/cgroup.procs").split()) != {str(os.getpid())}:
                return None
            make(f"{own}/{_SERVER_LEAF}")
            write(f"{own}/{_SERVER_LEAF}/cgroup.procs", "0")
            write(f"{own}/cgroup.subtree_control", "+memory +pids")
        make(f"{own}/{_PARENT}")
        write(f"{own}/{_PARENT}/cgroup.subtree_control", "+memory +pids")
    except OSError:
        return None
    return _trial(f"{own}/{_PARENT}", "memory.max")


def _trial(parent: str, limit_file: str, value: str = _TRIAL_LIMIT) -> str | None:
    """Return ``parent`` if a group with a limit can be made in it and joined."""
    trial = f"{parent}/trial-{os.getpid()}"
    try:
        make(parent)
        make(trial)
        try:
            write(f"{trial}/{limit_file}", value)
            joinable = os.access(f"{trial}/cgroup.procs", os.W_OK)
        finally:
            os.rmdir(trial)  # noqa: PTH106
    except OSError:
        return None
    return parent if joinable else None


class JobCgroup:
    """The groups of one job; empty where none could be made."""

    def __init__(self, roots: CgroupRoots, name: str) -> None:
        self._version = roots.version
        self._memory = f"{roots.memory}/{name}" if roots.memory else None
        self._pids = f"{roots.pids}/{name}" if roots.pids else None
        self.freezer = f"{roots.freezer}/{name}" if roots.freezer else ""
        self.occupied = False  # by the supervisor, so that what it starts is in

    @property
    def folders(self) -> tuple[str, ...]:
        """Where they are."""
        return tuple(sorted({folder for folder in (self._memory, self._pids) if folder}))

    @property
    def limits_memory(self) -> bool:
        """Whether the kernel holds the memory limit."""
        return self._memory is not None

    @property
    def limits_processes(self) -> bool:
        """Whether the kernel holds the process limit."""
        return self._pids is not None

    def make(self) -> None:
        """Make the groups, without limits. Raises OSError."""
        for folder in self.folders:
            make(folder)

    def create(self, memory_bytes: int, max_processes: int) -> None:
        """Make the groups and set the limits; drops what the kernel refuses."""
        if self._memory and not self._make_memory(self._memory, memory_bytes):
            self._memory = None
        if self._pids:
            try:
                make(self._pids)
                write(f"{self._pids}/pids.max", str(max_processes + self.occupied))
            except OSError:
                self._pids = None

    def _make_memory(self, folder: str, memory_bytes: int) -> bool:
        limit = str(memory_bytes)
        try:
            make(folder)
            if memory_bytes and self._version == 1:
                write(f"{folder}/memory.limit_in_bytes", limit)
                with suppress(OSError):  # absent without swap accounting
                    write(f"{folder}/memory.memsw.limit_in_bytes", limit)
            elif memory_bytes:
                write(f"{folder}/memory.max", limit)
                with suppress(OSError):
                    write(f"{folder}/memory.swap.max", "0")
        except OSError:
            return False
        return True

    def join(self, pid: int) -> None:
        """Put a process in: see ``seat`` for what that costs. Raises OSError."""
        for folder in self.folders:
            write(f"{folder}/cgroup.procs", str(pid))

    def oom_kills(self) -> int:
        """How many processes the kernel killed here for want of memory."""
        if self._memory is None:
            return 0
        name = "memory.oom_control" if self._version == 1 else "memory.events"
        try:
            pairs = dict(line.split() for line in read(f"{self._memory}/{name}").splitlines())
            return int(pairs.get("oom_kill", 0))
        except (OSError, ValueError):
            return 0

    def peak_bytes(self) -> int | None:
        """The most memory these groups held, the page cache included; None = unknown."""
        if self._memory is None:
            return None
        name = "memory.max_usage_in_bytes" if self._version == 1 else "memory.peak"
        try:
            return int(read(f"{self._memory}/{name}"))
        except (OSError, ValueError):
            return None

    def limit_processes(self, most: int) -> None:
        """Change the limit; 0 lets no new one start, so that killing all comes to an end."""
        if self._pids:
            with suppress(OSError):
                write(f"{self._pids}/pids.max", str(most))

    def remove(self) -> None:
        """Delete the groups, which must be empty."""
        remove(self.folders)


def members(folders: tuple[str, ...]) -> list[int]:
    """The processes in these groups; none where a group is gone."""
    found: set[int] = set()
    for folder in folders:
        with suppress(OSError):
            found.update(map(int, read(f"{folder}/cgroup.procs").split()))
    found.discard(0)  # a process of another pid namespace
    return sorted(found)


def remove(folders: tuple[str, ...]) -> None:
    """Delete groups; the kernel may need a moment after their last process."""
    for folder in folders:
        for pause in (0.001, 0.01, 0.1):
            try:
                os.rmdir(folder)  # noqa: PTH106
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(pause)
            else:
                break

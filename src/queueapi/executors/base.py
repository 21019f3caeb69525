"""The one face that every kind of cluster shows to the controller.

An executor starts runs, tells what became of them and serves their logs. It
remembers nothing that it can't find again: after a restart of the server the
launch key alone is enough to poll, read, cancel and remove a run.
"""

import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol, runtime_checkable

from queueapi.executors.data import DataRules, Fetch, Target
from queueapi.executors.offer import Offer

_KEY: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,126}[a-z0-9])?")

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class LaunchRefused(Exception):  # noqa: N818 - it reads as the event it is
    """This run can never start here; the message says why and may be shown to the user."""


class ExecutorUnavailable(Exception):  # noqa: N818 - likewise
    """The executor can't answer now; the same call may succeed later."""


class SuspendRefused(Exception):  # noqa: N818 - likewise
    """Runs can't be suspended here, or not by us; the message may be shown to the user."""


class Phase(StrEnum):
    """What is known of a run.

    ``UNKNOWN`` says nothing about the run: only that this executor can't find it
    (yet). ``LOST`` is proof: it started, is gone, and left no exit record.
    ``SUSPENDED`` is one too: all of its processes are stopped. ``PREPARED`` is another:
    it is known here, has not begun, and will not unless it is submitted again. ``ENDING``: it
    is over and holds nothing any more, but how it ended is still to be told.
    """

    UNKNOWN = "unknown"
    PREPARED = "prepared"
    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    ENDING = "ending"
    ENDED = "ended"
    LOST = "lost"


class Stream(StrEnum):
    """One of the two logs of a run."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class ArrayTask:
    """Which task of which array a run is; all of it reaches the script's environment."""

    array_id: int  # the job id of the whole array
    index: int
    count: int  # tasks of the array
    min_index: int
    max_index: int


def is_image_of(image: str, pattern: str) -> bool:
    """`*` of the pattern is any text without a slash."""
    parts = (re.escape(part) for part in pattern.split("*"))
    return re.fullmatch("[^/]*".join(parts), image) is not None


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder of the cluster that a container sees."""

    source: str  # its path on the cluster
    target: str  # its path in the container
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """In what a run's script is run. The variables are the run's."""

    image: str  # a path on the cluster, or docker://…, oras://…, library://…
    binds: tuple[Bind, ...] = ()
    gpus: bool = False  # with the libraries of the GPUs' driver


@dataclass(frozen=True, slots=True)
class Data:
    """What a run is to find in its data folder, and what the cluster lets it have."""

    target: Target
    rules: DataRules


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt of a job: everything an executor needs to start it."""

    key: str  # launch key, "qa-<attempt id>"; lower-case letters, digits and inner hyphens
    job_id: int
    user_id: int
    script: (
        str  # the text of the user's script; run as itself if it begins with #!, else by /bin/sh
    )
    environment: Mapping[str, str]  # the user's variables; QUEUEAPI_* in it are ignored
    input_data: bytes | None  # JSON document, given as the file that QUEUEAPI_INPUT names
    cpus: int  # cores, on each node
    memory_mb: int  # MiB for the whole tree of processes on a node; 0 = no limit
    gpu_indices: tuple[int, ...]  # on the first node; becomes CUDA_VISIBLE_DEVICES there
    time_limit: float  # seconds of wall time, not counting those in which it is suspended
    nodes: tuple[str, ...] = ()  # all of its nodes; the script starts on the first
    tasks: int = 1  # that the script means to start, over all nodes
    array_task: ArrayTask | None = None  # which task of an array it is, if any
    # The rest is for clusters that place tasks and choose nodes themselves.
    tasks_per_node: int = 1  # the most that one of the nodes gets
    cpus_per_task: int = 1
    gpus_per_node: int = 0
    gpu_type: str | None = None  # None = any
    constraint: str | None = None  # features that each node must have: "a&b|c"
    exclusive: bool = False  # its nodes are taken whole
    # Words of the cluster's own: "partition", "account", "qos", "gres"; those given only.
    site: Mapping[str, str] = field(default_factory=dict)
    container: Container | None = None  # None = none: the script sees the node as it is
    executable: str | None = None  # digest of a folder that it brings; see Contents
    data: Data | None = None  # to be fetched before the script begins
    data_folder: str | None = None  # instead of that, digest of a folder that it brings

    def __post_init__(self) -> None:
        check_key(self.key)
        for digest in self.folders:
            check_digest(digest)

    @property
    def folders(self) -> tuple[str, ...]:
        """Digests of the folders that it brings."""
        named = (self.executable, self.data_folder)
        return tuple(digest for digest in named if digest is not None)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, from the evidence it left and not from when we looked."""

    exit_code: int  # 0-255; 128 + n when signal n ended it
    reason: str | None  # "TimeLimit", "OutOfMemory", "Cancelled", ...; None = ended by itself
    started_at: float  # seconds since the epoch
    ended_at: float  # seconds since the epoch
    peak_memory_bytes: int | None  # bytes of the whole tree; None = nobody measured
    cpu_seconds: float | None  # CPU seconds, user + system, of the whole tree
    why: str | None = None  # more words for the reason, for its user


@dataclass(frozen=True, slots=True)
class Observation:
    """What one poll saw of one run."""

    phase: Phase
    started_at: float | None = None  # seconds since the epoch, once it has started
    ending: Ending | None = None  # exactly when the phase is ENDED
    suspended_at: float | None = None  # seconds since the epoch; when the phase is SUSPENDED
    suspended_seconds: float = 0.0  # of all suspensions that are over; while it is alive
    why: str | None = None  # it is lost, where more is known than that; for its user
    fetch: Fetch | None = None  # of its data, if it asks for some


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is kept of a run where it ran: proof for its user, not for the scheduler.

    None: there is no such record, or none that can be read. Times are seconds since the epoch.
    """

    prepared_at: float | None = None  # when its place was made, which happens once for a key
    started_at: float | None = None  # when the start lock was taken
    host: str | None = None  # where that was
    boot_id: str | None = None  # of the kernel there
    pid: int | None = None  # of the process that took it
    is_alive: bool | None = None  # whether it runs, or is about to
    ended_at: float | None = None  # when the exit record was written
    exit_code: int | None = None  # 0-255
    reason: str | None = None  # as in :class:`Ending`


@dataclass(frozen=True, slots=True)
class NodeInventory:
    """What a node offers to jobs."""

    name: str
    cpus: int  # cores
    memory_mb: int  # MiB
    gpus: tuple[str, ...]  # a type per device, such as "a100", in the order of their indices
    features: tuple[str, ...] = ()  # words that a job's constraint may ask for
    # Of all that, what people hold there who are no users of ours.
    taken_cpus: int = 0
    taken_memory_mb: int = 0
    taken_gpus: tuple[str, ...] = ()  # a type per device
    # It is no machine but room for jobs in the cluster's own queue, in the shape of this node.
    queue_of: str | None = None


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What an operator says of a cluster: what an executor is made from.

    Never shown to anybody: it holds secrets.
    """

    name: str
    kind: str  # names the executor
    owner: str | None = None  # the id of the machine that alone sees its jobs; None = any does
    host: str | None = None  # a name or an address; None = this machine, without SSH
    port: int = 22
    login: str | None = None  # the account there; None = as the server's own is named
    key_path: str | None = None  # a private key's file on the server
    private_key: str | None = field(default=None, repr=False)  # or its text; neither: own keys
    passphrase: str | None = field(default=None, repr=False)  # of the key
    # Fingerprints of the keys that the host may show, as OpenSSH prints them ("SHA256:...").
    # None of them: nobody has accepted one, so nothing is sent there.
    host_keys: tuple[str, ...] = ()
    root: str | None = None  # absolute path of the folder for jobs there
    partitions: tuple[str, ...] = ()  # that jobs may name; () = all
    defaults: Mapping[str, str] = field(default_factory=dict)  # for what Run.site leaves out
    is_community_account: bool = False  # everybody's jobs run as `login`
    user_accounts: bool = False  # each user's run as an account of their own; see accounts
    options: Mapping[str, Any] = field(default_factory=dict)  # what its kind alone knows


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that jobs need of a cluster, and how it was found."""

    name: str  # a few words, always the same: "the folder for jobs"
    ok: bool
    found: str  # in words; nothing secret
    remedy: str | None = None  # how to mend it, where it is not ok


class Contents(Protocol):
    """Where executors read folders that jobs bring. Each is known by the digest of what is in it,
    so that a cluster needs it once, whoever brings it."""

    def archive(self, digest: str) -> AsyncIterator[bytes]:
        """The folder as a tar compressed by gzip, in parts: plain files, folders, and links that
        lead nowhere else. Raises :class:`LaunchRefused` where nobody has it any more, and
        :class:`ExecutorUnavailable`."""


class Executor(Protocol):
    """The adapter to one kind of cluster.

    Any method but :meth:`close` may raise :class:`ExecutorUnavailable`.
    """

    kind: str

    async def start(self, changed: Callable[[str], None]) -> None:
        """Begin to serve. ``changed(key)`` hints that polling ``key`` is worth it now.

        The hint may come late, twice or never; it is called on the event loop. Where this
        raised, it may be called again.
        """

    async def close(self) -> None:
        """Stop to serve; jobs go on running."""

    async def nodes(self) -> Sequence[NodeInventory]:
        """The capacity that exists now, whether used or free."""

    async def check(self) -> Sequence[Check]:
        """Try each thing that a job needs, in the order in which they build on each other.

        Works before :meth:`start` too, and where that failed. Whatever is wrong is in
        the answer, that the cluster can't be reached as well: it raises nothing.
        """

    async def submit(self, run: Run) -> str:
        """Start ``run`` unless its key is known already, and return its remote id.

        Raises :class:`LaunchRefused` when this run can never start here.
        """

    async def poll(self, keys: Collection[str]) -> Mapping[str, Observation]:
        """What is known of each key; every key asked for is in the answer."""

    async def evidence(self, key: str) -> Evidence:
        """What is kept of the run of ``key``, whether it waits, runs, ended or was lost.

        Changes nothing. Of an unknown key nothing is there.
        """

    async def cancel(self, key: str) -> None:
        """End the whole process tree: SIGTERM, a grace time, SIGKILL.

        Returns at once; the end is seen by :meth:`poll`. Harmless when repeated
        and for a key that is unknown or has ended.
        """

    async def suspend(self, key: str) -> None:
        """Stop the whole process tree where it is, with all that it holds in memory.

        Returns at once; that it is stopped is seen by :meth:`poll`. A run that has not
        started yet stops when it does. Its time limit stands still. It can be cancelled.
        Harmless when repeated and for a key that is unknown or has ended.
        Raises :class:`SuspendRefused` where that will never be done.
        """

    async def resume(self, key: str) -> None:
        """Let a suspended run go on, or take back a suspension that has not come about.

        Returns at once. Harmless when repeated and for a key that is unknown or has ended.
        """

    def output_path(self, key: str) -> str | None:
        """The folder on its node where the run works and leaves files; None = it has none.

        `%u` in it stands for the account, where each user has one.
        """

    async def log_size(self, key: str, stream: Stream) -> int:
        """Bytes written so far; 0 for an unknown key."""

    async def read_log(self, key: str, stream: Stream, offset: int, length: int) -> bytes:
        """At most ``length`` bytes from ``offset``; empty past the end and for an unknown key."""

    async def remove(self, key: str) -> None:
        """Delete all that is kept of an ended run; a key without anything is fine.

        Raises :class:`ExecutorUnavailable` while the run is still alive.
        """


@runtime_checkable
class KeepsFolders(Protocol):
    """An executor that keeps a folder for each run, and can list them."""

    async def folders(self) -> Collection[str]:
        """Launch keys of all runs of which anything is kept, whoever launched them."""


@runtime_checkable
class PlacesContents(Protocol):
    """An executor that keeps the folders which jobs brought, for the jobs to come."""

    async def placed(self, unused_seconds: float) -> Collection[str]:
        """Digests of those that no launch has asked for in so many seconds."""

    async def displace(self, digest: str, unused_seconds: float) -> None:
        """Delete one, unless a launch has asked for it since."""


def is_digest(name: str) -> bool:
    """Whether it can be the digest of a folder."""
    return _DIGEST.fullmatch(name) is not None


def check_digest(digest: str) -> str:
    """Return ``digest`` if it is one, for it becomes a name, else raise ValueError."""
    if not is_digest(digest):
        raise ValueError(f"not a digest: {digest[:80]!r}")
    return digest


@runtime_checkable
class TellsOffer(Protocol):
    """An executor that knows what its cluster could ever give to a job."""

    def offer(self) -> Offer | None:
        """As far as it is known, without asking anybody; None = nothing is known yet."""


def check_key(key: str) -> str:
    """Return ``key`` if it is a launch key, else raise :class:`LaunchRefused`.

    Keys become file names and job names, so the letters are few on purpose.
    """
    if not _KEY.fullmatch(key):
        raise LaunchRefused(f"not a launch key: {key[:140]!r}")
    return key

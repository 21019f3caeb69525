"""What jobs need of a Slurm cluster, tried one after the other."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from queueapi.executors.base import Check, ExecutorUnavailable
from queueapi.executors.remote.base import CommandFailed
from queueapi.executors.slurm import scontrol
from queueapi.executors.slurm.branch import make_sure
from queueapi.executors.slurm.site import NoAccounting, Site

_PROGRAMS: Final = ("sbatch", "squeue", "scancel", "sinfo", "scontrol", "sacct")
_FIND: Final = 'for name; do command -v "$name" >/dev/null || echo "$name"; done'
_TRY: Final = (
    'umask 077; mkdir -p -- "$1" && cd -- "$1" && trial=.check-$$ && mkdir "$trial" && '
    'rmdir "$trial" && df -Pk . | tail -n 1'
)
_LEAST_FREE: Final = 1 << 20  # KiB
_MOST_SKEW: Final = 5.0  # seconds

Trial = Callable[[Site], Awaitable[Check]]


async def look(site: Site, trials: Sequence[Trial]) -> tuple[Check, ...]:
    """In the order in which they build on each other: it ends where the next can't be tried.

    ``trials`` is one of the lists below.
    """
    found: list[Check] = []
    for trial in trials:
        try:
            check = await trial(site)
        except (ExecutorUnavailable, CommandFailed) as error:
            check = Check(_NAMES[trial], False, str(error), _REMEDIES[trial])
        found.append(check)
        if trial in _NEEDED and not check.ok:
            break
    return tuple(found)


async def _connection(site: Site) -> Check:
    await site.remote.connect(site.config.environment)
    await site.remote.exec(("true",), quiet=True)
    return Check("the connection", True, str(site.remote))


async def _account(site: Site) -> Check:
    (done,) = await site.remote.exec(("id", "-un"), quiet=True)
    name = done.text.strip()
    if name == "root":
        return Check(
            "the account",
            False,
            "root, as which jobs would run",
            "log in as an account of jobs' own; for a cluster on this host, run the server as it",
        )
    if name != site.config.user:
        remedy = f"set the login to {name}"
        return Check("the account", False, f"{name}, not {site.config.user}", remedy)
    return Check("the account", True, name)


async def _programs(site: Site) -> Check:
    (done,) = await site.remote.exec(("sh", "-c", _FIND, "sh", *_PROGRAMS), quiet=True)
    missing = done.text.split()
    if missing:
        remedy = "set the cluster's option path to the folder of Slurm's programs"
        return Check("Slurm's programs", False, f"not found: {', '.join(missing)}", remedy)
    return Check("Slurm's programs", True, "all are in the account's PATH")


async def _controller(site: Site) -> Check:
    (done,) = await site.remote.exec(
        scontrol.ping_argv(), seconds=site.config.command_seconds, continue_on_error=True
    )
    if not scontrol.parse_ping(done.text):
        remedy = "ask the operators of the cluster; jobs wait in the meantime"
        return Check("Slurm's controller", False, done.complaint, remedy)
    clock, _ = await site.queue(())
    if abs(clock.ahead) > _MOST_SKEW:
        words = f"answers; its clock is {clock.ahead:+.0f} s from ours, which is allowed for"
        return Check("Slurm's controller", True, words)
    return Check("Slurm's controller", True, "answers")


async def _accounting(site: Site) -> Check:
    name = "Slurm's accounting"
    try:
        await site.accounts([1])
    except NoAccounting:
        return Check(name, True, "there is none: no job's memory and CPU time will be known")
    return Check(name, True, "answers")


async def _folder(site: Site) -> Check:
    root = site.config.root
    try:
        (done,) = await site.remote.exec(("sh", "-c", _TRY, "sh", root), quiet=True)
    except CommandFailed as error:
        remedy = f"let {site.config.user} write there, or set another root"
        return Check("the folder for jobs", False, f"{root}: {error}", remedy)
    words = done.text.split()
    free = int(words[3]) if len(words) > 3 and words[3].isdigit() else None
    if free is not None and free < _LEAST_FREE:
        remedy = "delete what is old, or set another root"
        return Check("the folder for jobs", False, f"{root} has {free >> 10} MiB left", remedy)
    return Check("the folder for jobs", True, root)


async def _partitions(site: Site) -> Check:
    known = {partition.name: partition for partition in await site.partitions()}
    missing = [name for name in site.config.partitions if name not in known]
    listed = ", ".join(known)
    if missing:
        remedy = f"name some of {listed}"
        return Check("its partitions", False, f"no partition {', '.join(missing)}", remedy)
    return Check("its partitions", True, ", ".join(site.config.partitions) or listed)


async def _nodes(site: Site) -> Check:
    nodes = await site.nodes()
    wanted = set(site.config.partitions)
    ours = [node for node in nodes if not wanted or not wanted.isdisjoint(node.partitions)]
    up = [node for node in ours if node.open]
    if not up:
        remedy = "ask the operators of the cluster; jobs wait in the meantime"
        return Check("its nodes", False, f"none of {len(ours)} takes jobs now", remedy)
    cpus, gpus = sum(node.cpus for node in up), sum(len(node.gpus) for node in up)
    return Check("its nodes", True, f"{len(up)} of {len(ours)}: {cpus} CPUs, {gpus} GPUs")


async def _others(site: Site) -> Check:
    """Whether the cluster's login is told of jobs that are not its own."""
    name = "jobs of users"
    if await site.hides_jobs():
        remedy = f"have its operators make {site.config.user} one of them, or take jobs out of it"
        return Check(name, False, "hidden from other accounts (PrivateData)", remedy)
    return Check(name, True, "are shown to other accounts")


async def _own_folder(site: Site) -> Check:
    name, root = "the folder for jobs", site.config.root
    try:
        await make_sure(site)
    except ExecutorUnavailable as error:
        remedy = f"let {root} be a folder of {site.config.user} alone, which it may write to"
        return Check(name, False, str(error), remedy)
    return Check(name, True, root)


OF_ONE: Final[Sequence[Trial]] = (
    *(_connection, _account, _programs, _controller, _accounting),
    *(_folder, _partitions, _nodes),
)
"""Of a cluster with one account for all."""
OF_USERS: Final[Sequence[Trial]] = (
    *(_connection, _account, _programs, _controller, _accounting),
    *(_others, _partitions, _nodes),
)
"""Of a cluster with accounts of users."""
OF_ACCOUNT: Final[Sequence[Trial]] = (_connection, _account, _programs, _own_folder)
"""Of such an account."""
# What comes after can only be tried where these are well.
_NEEDED: Final = frozenset({_connection, _programs})
_NAMES: Final[dict[Trial, str]] = {
    _connection: "the connection",
    _account: "the account",
    _programs: "Slurm's programs",
    _controller: "Slurm's controller",
    _accounting: "Slurm's accounting",
    _folder: "the folder for jobs",
    _partitions: "its partitions",
    _nodes: "its nodes",
    _others: "jobs of users",
    _own_folder: "the folder for jobs",
}
_REMEDIES: Final[dict[Trial, str]] = dict.fromkeys(
    _NAMES, "see that the host can be reached and its Slurm answers"
)

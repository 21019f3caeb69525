"""A run's environment, and the file that run_wrapper.sh reads it from.

Pure, and the same for every executor that uses the wrapper.
"""

import re
from collections.abc import Mapping
from typing import Final

from queueapi.executors.base import ArrayTask, LaunchRefused, Run
from queueapi.executors.data import FETCH, PROGRAM, TARGET

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RESERVED_PREFIX: Final = "QUEUEAPI_"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Some shell gives each of these a meaning of its own or makes it read-only, so
# that merely exporting it fails or changes how the wrapper reads the next one.
# fmt: off
SHELL_NAMES: Final = frozenset((
    "_", "IFS", "OPTIND", "PPID", "UID", "EUID", "GROUPS", "LINENO", "RANDOM", "SECONDS",
    "BASHOPTS", "SHELLOPTS", "BASH_VERSINFO", "BASHPID", "BASH_ARGV0", "FUNCNAME", "DIRSTACK",
    "POSIXLY_CORRECT",
))
# fmt: on
_PLAIN: Final = frozenset(range(ord(" "), ord("~") + 1)) - {ord("\\")}
_ESCAPES: Final = tuple(
    chr(byte).encode() if byte in _PLAIN else b"\\0%03o" % byte for byte in range(256)
)
_VALUE_LIMIT: Final = 128 * 1024 - 1  # bytes of NAME=value and its NUL that exec takes
_TOTAL_LIMIT: Final = 1 << 20  # bytes; exec takes about 2 MiB with the arguments


def build_environment(
    run: Run,
    *,
    home: str,
    tmpdir: str,
    user: str,
    result_path: str,
    data_path: str | None = None,
    input_path: str | None,
    executable: str | None = None,
    by_slurm: bool = False,
) -> dict[str, str]:
    """All variables of ``run``: defaults, then the user's, then ours.

    ``executable``: where the folder is that it brings.
    ``by_slurm``: it runs in Slurm, which knows best what it gets and where.

    Raises :class:`LaunchRefused` for a variable that can't be passed.
    """
    check_environment(run.environment)
    cpus = str(max(run.cpus, 1))
    environment = {
        "PATH": DEFAULT_PATH,
        "HOME": home,
        "TMPDIR": tmpdir,
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "USER": user,
        "LOGNAME": user,
        "OMP_NUM_THREADS": cpus,
        **({} if by_slurm else _slurm_words(run)),
        **_plain_names(run.array_task),
    }
    for name, value in run.environment.items():
        if not name.startswith(RESERVED_PREFIX):
            environment[name] = value
    if not by_slurm:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, run.gpu_indices))
        environment["QUEUEAPI_NODES"] = ",".join(run.nodes)
    environment |= {
        "QUEUEAPI_JOB_ID": str(run.job_id),
        "QUEUEAPI_ATTEMPT_KEY": run.key,
        "QUEUEAPI_CPUS": cpus,
        "QUEUEAPI_MEMORY_MB": str(run.memory_mb),
        "QUEUEAPI_NODE_COUNT": str(max(len(run.nodes), 1)),
        "QUEUEAPI_TASKS": str(run.tasks),
        **_array_names(run.array_task),
    }
    environment["QUEUEAPI_RESULT"] = result_path
    if data_path is not None:
        environment["QUEUEAPI_DATA"] = data_path
    if input_path is not None:
        environment["QUEUEAPI_INPUT"] = input_path
    if executable is not None:
        environment["QUEUEAPI_EXECUTABLE"] = executable
    return environment


def data_files(run: Run) -> dict[str, bytes]:
    """The files of its folder by which the run's data is fetched; blocks for the disk.

    Raises :class:`LaunchRefused` for what may not be fetched.
    """
    if run.data is None:
        return {}
    try:
        request = run.data.rules.request(run.data.target)
    except ValueError as error:
        raise LaunchRefused(f"the job's data: {error}") from None
    return {FETCH: PROGRAM.read_bytes(), TARGET: request}


def _slurm_words(run: Run) -> dict[str, str]:
    """What scripts written for Slurm read. A user's variable of the same name goes before.

    Neither SLURM_JOB_ID nor a node list: an MPI launcher that sees one calls srun, which is not
    there. Frameworks that see SLURM_NTASKS look for the rank of the script's own process.
    """
    nodes = max(len(run.nodes), 1)
    per_node = -(-run.tasks // nodes)
    return {
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_NNODES": str(nodes),
        "SLURM_NTASKS": str(run.tasks),
        "SLURM_NTASKS_PER_NODE": str(per_node),
        "SLURM_CPUS_PER_TASK": str(max(run.cpus // per_node, 1)),
        "SLURM_CPUS_ON_NODE": str(max(run.cpus, 1)),
        "SLURM_MEM_PER_NODE": str(run.memory_mb),
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
    }


def _plain_names(task: ArrayTask | None) -> dict[str, str]:
    """Names that jobs may well use for themselves, and that are theirs then."""
    return {} if task is None else {"JOB_ID": str(task.array_id), "TASK_ID": str(task.index)}


def _array_names(task: ArrayTask | None) -> dict[str, str]:
    """Ours, and Slurm's, so that scripts which were written for it run."""
    if task is None:
        return {}
    return {
        "QUEUEAPI_ARRAY_JOB_ID": str(task.array_id),
        "QUEUEAPI_ARRAY_TASK_ID": str(task.index),
        "QUEUEAPI_ARRAY_TASK_COUNT": str(task.count),
        "SLURM_ARRAY_JOB_ID": str(task.array_id),
        "SLURM_ARRAY_TASK_ID": str(task.index),
        "SLURM_ARRAY_TASK_COUNT": str(task.count),
        "SLURM_ARRAY_TASK_MIN": str(task.min_index),
        "SLURM_ARRAY_TASK_MAX": str(task.max_index),
    }


def check_environment(environment: Mapping[str, str]) -> None:
    """Raise :class:`LaunchRefused` unless every variable can reach a script unchanged."""
    total = 0
    for name, value in environment.items():
        if not _NAME.fullmatch(name) or name in SHELL_NAMES:
            raise LaunchRefused(f"not allowed as the name of a variable: {name[:80]!r}")
        if "\0" in value:
            raise LaunchRefused(f"the variable {name} contains a NUL character")
        size = len(name) + len(_bytes(value)) + 2
        total += size
        if size > _VALUE_LIMIT or total > _TOTAL_LIMIT:
            raise LaunchRefused(f"the environment is too large (at {name[:80]})")


def encode_environment(environment: Mapping[str, str]) -> bytes:
    """The wrapper's file: NAME=value lines, all but plain ASCII as ``\\0ooo``."""
    lines = [
        name.encode() + b"=" + b"".join(map(_ESCAPES.__getitem__, _bytes(value)))
        for name, value in environment.items()
    ]
    return b"\n".join(lines) + b"\n"


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")

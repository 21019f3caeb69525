"""`sbatch`: the argv that makes the job which a request describes, and the id that it answers."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from queueapi.executors.slurm.records import BadOutput
from queueapi.executors.slurm.request import Request, check_path
from queueapi.executors.slurm.times import minutes_up

BATCH_SCRIPT: Final = Path(__file__).with_name("batch_script.sh")
OUTPUT: Final = "slurm.out"  # in the job's folder: what Slurm itself has to say
CLAIM: Final = "claim"  # in the job's folder: the Slurm job that runs it, see batch_script.sh
# Runs what follows without what the account sets: of that nothing gets into a job, nor has it a say
# in how it is submitted (SBATCH_ACCOUNT and the like).
_NEEDED: Final = (
    "HOME",
    "LD_LIBRARY_PATH",
    "SLURM_CONF",
)  # by Slurm's programs, where they are set
CLEAN: Final = (
    *("sh", "-c"),
    'exec env -i LC_ALL=C PATH="$PATH" '
    + " ".join(f'${{{name}:+"{name}=${name}"}}' for name in _NEEDED)
    + ' "$@"',
    "sh",
)
_ANSWER: Final = re.compile(r"(\d{1,10})(?:;[\w.@+-]+)?", re.ASCII)


def submit_argv(
    request: Request, *, batch_script: str, wrapper: str, prefix: Sequence[str] = ()
) -> tuple[str, ...]:
    """Submit ``request``.

    ``batch_script`` and ``wrapper`` are the paths of batch_script.sh and run_wrapper.sh on the
    cluster, ``prefix`` what enters a container, if any. Raises
    :class:`~queueapi.executors.base.LaunchRefused` for a path that is not plain.
    """
    return (
        *("sbatch", "--parsable"),
        *_options(request),
        check_path(batch_script),
        check_path(wrapper),
        request.folder,
        *prefix,
    )


def _options(request: Request) -> Iterator[str]:
    yield f"--job-name={request.name}"
    yield f"--chdir={request.folder}"
    yield f"--output={request.folder}/{OUTPUT}"
    yield f"--error={request.folder}/{OUTPUT}"
    yield "--open-mode=append"
    yield "--input=/dev/null"
    # All that CLEAN left. With any other value older versions start a login shell for each job on
    # its node, which takes longer than many a job, and give the job what the account sets there.
    yield "--export=ALL"
    # The start lock allows one start. What a node's end took away is run again as a new attempt.
    yield "--no-requeue"
    yield f"--time={minutes_up(request.time_limit)}"
    yield f"--nodes={request.nodes}-{request.nodes}"
    for option, value in (
        ("ntasks", request.ntasks),
        ("ntasks-per-node", request.ntasks_per_node),
        ("cpus-per-task", request.cpus_per_task),
        ("mem", _mib(request.memory_mb_per_node)),
        ("mem-per-cpu", _mib(request.memory_mb_per_cpu)),
        ("gpus-per-node", _gpus(request.gpu_type, request.gpus_per_node)),
        ("gpus-per-task", _gpus(request.gpu_type, request.gpus_per_task)),
        ("gres", request.gres),
        ("constraint", request.constraint),
        ("partition", request.partition),
        ("account", request.account),
        ("qos", request.qos),
        ("reservation", request.reservation),
        ("nodelist", ",".join(request.nodelist) or None),
        ("exclude", ",".join(request.exclude) or None),
        ("nice", request.nice or None),
        ("comment", request.comment or None),
    ):
        if value is not None:
            yield f"--{option}={value}"
    if request.exclusive:
        yield "--exclusive"


def _mib(amount: int | None) -> str | None:
    return None if amount is None else f"{amount}M"


def _gpus(kind: str | None, count: int | None) -> str | None:
    if count is None:
        return None
    return str(count) if kind is None else f"{kind}:{count}"


def parse_submission(text: str) -> int:
    """The job id of `123` or `123;cluster`, in the last line of the answer.

    Raises :class:`~queueapi.executors.slurm.records.BadOutput` when there is none: the job may
    have been accepted or not.
    """
    lines = text.split("\n")
    match = _ANSWER.fullmatch(lines[-2].strip()) if len(lines) > 1 and not lines[-1] else None
    if match is None:
        raise BadOutput(f"no job id in the answer: {text[-80:]!r}")
    return int(match[1])

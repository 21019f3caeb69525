"""Jobs in containers: the argv that enters one by Apptainer or Singularity, and what it may name.

In the container the job finds /job/executable, /job/data and /job/result, a /tmp of its own, its
working folder at the path that it has outside, and of the cluster's files nothing else but what
its binds name. Its image needs a /bin/sh, by which the run wrapper enters.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from queueapi.executors.base import Container, LaunchRefused, is_image_of
from queueapi.executors.slurm.request import check_path

EXECUTABLE: Final = "/job/executable"
DATA: Final = "/job/data"
RESULT: Final = "/job/result"
# In the job's folder: what the container sees as /tmp and /var/tmp, and what is in /job.
SCRATCH: Final = "scratch"
FOLDERS: Final = (SCRATCH, "executable", "data", "result")
_OURS: Final = ("/job", "/proc", "/sys", "/dev", "/.singularity.d")
_SEGMENT: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_REMOTE: Final = re.compile(
    rf"(?:docker|oras|library)://(?:{_SEGMENT}(?::[0-9]{{1,5}})?/)?{_SEGMENT}(?:/{_SEGMENT})*"
    rf"(?::{_SEGMENT})?(?:@sha256:[0-9a-f]{{64}})?",
    re.ASCII,
)
_MAX_IMAGE: Final = 500
_PROGRAM: Final = re.compile(r"(?:apptainer|singularity|(?:/[A-Za-z0-9_.+-]+)+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What an administrator lets containers of a cluster name."""

    images: Collection[str] = ()  # names or patterns; `*` is any text without a slash
    # Paths that may be bound, and whether they may be written to. They alone and nothing below
    # them: there, another job could have left a link to anywhere.
    sources: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are on the cluster; absolute."""

    folder: str  # the job's own, as run_wrapper.sh knows it
    wrapper: str  # run_wrapper.sh
    executable: str | None = None  # folders behind the names in /job; None = there is none
    data: str | None = None
    result: str | None = None
    inputs: tuple[str, ...] = ()  # more files of the job's folder that it may read


def read_allowed(images: object, binds: object) -> Allowed:
    """From an operator's lists: images, and `"ro"` or `"rw"` by path.

    Raises :class:`LaunchRefused` with what is wrong with them.
    """
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise LaunchRefused(f"container_images must be a list of names or patterns: {images!r}")
    if not isinstance(binds, dict) or not all(how in ("ro", "rw") for how in binds.values()):
        raise LaunchRefused(f'container_binds must have "ro" or "rw" for each path: {binds!r}')
    return Allowed(tuple(images), {check_path(path): how == "rw" for path, how in binds.items()})


def check_container(container: Container, allowed: Allowed) -> None:
    """Raise :class:`LaunchRefused` for an image or a bind that is not allowed."""
    check_image(container.image)
    if not any(is_image_of(container.image, pattern) for pattern in allowed.images):
        raise LaunchRefused(f"the image {container.image[:200]!r} is not allowed on this cluster")
    targets: list[str] = []
    for bind in container.binds:
        check_path(bind.source)
        check_path(bind.target)
        if bind.source not in allowed.sources:
            raise LaunchRefused(f"{bind.source} may not be bound into containers on this cluster")
        if bind.writable and not allowed.sources[bind.source]:
            raise LaunchRefused(f"{bind.source} may be bound read-only on this cluster")
        if any(_overlap(bind.target, other) for other in (*_OURS, *targets)):
            raise LaunchRefused(f"{bind.target} is taken in the container")
        targets.append(bind.target)


def check_image(image: str) -> str:
    """Return ``image`` if it is a plain path or the name of a registry's, else raise."""
    if len(image) > _MAX_IMAGE:
        raise LaunchRefused(f"the name of the image is longer than {_MAX_IMAGE} characters")
    if image.startswith("/"):
        return check_path(image)
    if not _REMOTE.fullmatch(image):
        raise LaunchRefused(
            f"not an image: {image[:80]!r}. Name a file on the cluster by its absolute path, or "
            "one of a registry by docker://, oras:// or library://"
        )
    return image


def _overlap(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def enter_argv(
    container: Container, places: Places, *, program: str = "apptainer"
) -> tuple[str, ...]:
    """What stands before the wrapper's command that enters the job; see run_wrapper.sh.

    ``program`` is `apptainer`, `singularity` or the path of one. The folder SCRATCH of the job
    must exist. Raises :class:`LaunchRefused` for what can't be an argument, also where
    :func:`check_container` was not asked.
    """
    check_program(program)
    for bind in container.binds:
        if any(_overlap(bind.target, own) for own in (places.folder, places.wrapper)):
            raise LaunchRefused(f"{bind.target} is taken in the container")
    return (
        program,
        *("--silent", "exec"),
        # Of the cluster: no home, no /tmp, no folder that all containers get, no processes.
        *("--contain", "--ipc", "--pid", "--no-home", "--no-mount", "hostfs,bind-paths"),
        *("--workdir", check_path(f"{places.folder}/{SCRATCH}")),
        # Not the folder from which it is called: that is entered later, inside.
        *("--pwd", "/"),
        *(("--nv",) if container.gpus else ()),
        *(word for bind in _binds(container, places) for word in ("--bind", bind)),
        check_image(container.image),
    )


def check_program(program: str) -> str:
    """Return ``program`` if it can be one that runs containers, else raise."""
    if not _PROGRAM.fullmatch(program):
        raise LaunchRefused(f"not a program that runs containers: {program[:80]!r}")
    return program


def _binds(container: Container, places: Places) -> Iterator[str]:
    folder = places.folder
    for path in (places.wrapper, f"{folder}/script", f"{folder}/environment", *places.inputs):
        yield _bind(path, path, writable=False)
    yield _bind(f"{folder}/work", f"{folder}/work", writable=True)
    for source, target in ((places.executable, EXECUTABLE), (places.data, DATA)):
        if source is not None:
            yield _bind(source, target, writable=False)
    if places.result is not None:
        yield _bind(places.result, RESULT, writable=True)
    for bind in container.binds:
        yield _bind(bind.source, bind.target, writable=bind.writable)


def _bind(source: str, target: str, *, writable: bool) -> str:
    # Plain paths have neither a colon nor a comma.
    return f"{check_path(source)}:{check_path(target)}:{'rw' if writable else 'ro'}"

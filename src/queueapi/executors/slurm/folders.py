"""The folders of jobs on the cluster: packing them, and reading what two small scripts say."""

import hashlib
import io
import re
import secrets
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from queueapi.executors.data import FETCHED, Fetch, parse_fetch
from queueapi.executors.slurm.records import BadOutput
from queueapi.executors.slurm.sbatch import BATCH_SCRIPT, CLEAN

_LAUNCH: Final = Path(__file__).with_name("launch.sh")
_LOOK: Final = Path(__file__).with_name("look.sh")
_WRAPPER: Final = Path(__file__).parent.parent / "run_wrapper.sh"
_EXIT: Final = re.compile(r"exit_code=(\d{1,3})", re.ASCII)
_SECONDS: Final = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)
_JOB_ID: Final = re.compile(r"\d{1,10}", re.ASCII)
_TIMES: Final = "."  # in place of a key; see look.sh
LIMIT: Final = "limit"  # the time limit in seconds; Slurm itself knows whole minutes
WANTED: Final = "wanted"  # why we ended it, before we did


def _named(path: Path) -> tuple[str, bytes]:
    """A name that carries the content, so that servers of two versions don't fight over it."""
    text = path.read_bytes()
    return f"{path.stem}.{hashlib.sha256(text).hexdigest()[:12]}.sh", text


@dataclass(frozen=True, slots=True)
class Programs:
    """What every job is started by, as it lies on the cluster."""

    root: str
    wrapper: tuple[str, bytes]
    batch: tuple[str, bytes]

    @classmethod
    def of(cls, root: str) -> "Programs":
        """Those of this version; blocks for the disk."""
        return cls(root, _named(_WRAPPER), _named(BATCH_SCRIPT))

    @property
    def wrapper_path(self) -> str:
        return f"{self.root}/.programs/{self.wrapper[0]}"

    @property
    def batch_path(self) -> str:
        return f"{self.root}/.programs/{self.batch[0]}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that is ready to be launched."""

    key: str
    files: Mapping[str, bytes]  # by name
    argv: tuple[str, ...]  # that submits it
    folders: tuple[str, ...] = ()  # empty ones, by name; "work" is there in any case

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(map(len, self.files.values())) + 4096


def pack(programs: Programs, jobs: Sequence[Prepared]) -> bytes:
    """The tar that launch.sh reads."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _folder(tar, ".programs")
        for name, text in (programs.wrapper, programs.batch):
            _file(tar, f".programs/{name}", text)
        for job in jobs:
            _folder(tar, job.key)
            for name in ("work", *job.folders):
                _folder(tar, f"{job.key}/{name}")
            for name, data in job.files.items():
                _file(tar, f"{job.key}/{name}", data)
            _file(tar, f"{job.key}.sbatch", _lines(job.argv))
        _file(tar, "keys", _lines(job.key for job in jobs))
    return buffer.getvalue()


def _lines(words: Iterable[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()


def _folder(tar: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o700
    tar.addfile(entry)


def _file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o700
    tar.addfile(entry, io.BytesIO(data))


def new_mark() -> str:
    """What begins each record of an answer, and that nothing else can contain."""
    return f"@{secrets.token_hex(8)}"


def launch_argv(root: str, mark: str, again: Iterable[str]) -> tuple[str, ...]:
    """The argv whose standard input is :func:`pack`."""
    return (*CLEAN, "sh", "-c", _LAUNCH.read_text(), "launch.sh", root, mark, *again)


def look_argv(root: str, mark: str) -> tuple[str, ...]:
    """The argv whose standard input are keys, one on each line."""
    return ("sh", "-c", _LOOK.read_text(), "look.sh", root, mark)


def _records(text: str, mark: str) -> dict[str, list[str]]:
    """Lines by the first word behind the mark. Raises :class:`BadOutput` if it was cut short."""
    *parts, end = f"\n{text}".split(f"\n{mark}")
    if end.strip() or not parts:
        raise BadOutput("the answer was cut short")
    found = {}
    for part in parts[1:]:
        first, _, rest = part.partition("\n")
        key, _, words = first.strip().partition(" ")
        found[key] = [words, *rest.split("\n")]
    return found


@dataclass(frozen=True, slots=True)
class Launched:
    """What launch.sh says of one key."""

    job_id: int | None  # None = refused, or lost
    complaint: str | None  # sbatch's words; None = it did not refuse
    long: bool = False  # lost, and not just now

    @property
    def lost(self) -> bool:
        """Whether an earlier launch holds the lock, and left no job id."""
        return self.job_id is None and self.complaint is None


def parse_launch(text: str, mark: str) -> dict[str, Launched]:
    """By key; one that was not touched is absent. Raises :class:`BadOutput`."""
    found = {}
    for key, (words, *rest) in _records(text, mark).items():
        verdict, _, value = words.partition(" ")
        if verdict == "refused":
            found[key] = Launched(None, "\n".join(rest))
        elif verdict == "lost" or not _JOB_ID.fullmatch(value):
            found[key] = Launched(None, None, long=value == "long")
        else:
            found[key] = Launched(int(value), None)
    return found


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies in one job's folder. Times by the clock of its file system."""

    exists: bool
    submitting_at: float | None = None  # seconds since the epoch, as the other times
    job_ids: tuple[int, ...] = ()  # Slurm's: the one that claimed the run first
    claimed: bool = False  # its script was about to begin
    started_at: float | None = None
    exit_code: int | None = None
    ended_at: float | None = None
    wanted: str | None = None  # why we ended it
    limit: float | None = None  # seconds
    fetch: Fetch | None = None  # of its data, if it asks for some
    hidden: bool = False  # nobody can look into it now, whatever there is


def parse_look(text: str, mark: str) -> dict[str, Folder]:
    """By key, for every key asked for. Raises :class:`BadOutput`."""
    found = _records(text, mark)
    times: dict[str, dict[str, float]] = {}
    for line in found.pop(_TIMES, ()):
        path, _, value = line.partition(" ")
        key, _, name = path.partition("/")
        if _SECONDS.fullmatch(value):
            times.setdefault(key, {})[name] = float(value)
    return {key: _folder_of(lines, times.get(key, {})) for key, lines in found.items()}


def _folder_of(lines: Sequence[str], times: Mapping[str, float]) -> Folder:
    words: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(" ")
        words.setdefault(name, value)
    ids = [words.get(name, "") for name in ("claim", "submitted")]
    code = _EXIT.fullmatch(words.get("exit", ""))
    limit = words.get(LIMIT, "")
    return Folder(
        exists="folder" in words,
        submitting_at=times.get("submitting"),
        job_ids=tuple(dict.fromkeys(int(each) for each in ids if _JOB_ID.fullmatch(each))),
        claimed="claim" in words,
        started_at=times.get("started"),
        exit_code=int(code[1]) if code else None,
        ended_at=times.get("exit") if code else None,
        wanted=words.get(WANTED),
        limit=float(limit) if _SECONDS.fullmatch(limit) else None,
        fetch=parse_fetch(words.get(FETCHED)),
    )

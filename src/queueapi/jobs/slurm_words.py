"""A job's needs in the words of Slurm and of CyberGIS-Compute, as our own fields."""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

from queueapi.fields import Body
from queueapi.jobs.amounts import MAX_MEMORY_GB, Cpus, Features, Gpus, Nodes, Tasks

MAX_MINUTES: Final = 8760 * 60
_UNITS: Final = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}  # MB; Slurm's are M
_SIZE: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_CLOCK: Final = re.compile(r"(?:(\d{1,4})-)?(\d{1,6})(?::(\d{1,2}))?(?::(\d{1,2}))?", re.ASCII)
_GPUS: Final = re.compile(r"gpu(?::([A-Za-z][A-Za-z0-9._-]*))?(?:[:=](\d{1,3}))?", re.ASCII)


def _minutes(value: Any) -> Any:
    """A number of minutes, or one of Slurm's forms: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("write minutes as a number, or a time as in 01:30:00 or 2-12:00:00")
    minutes = _clock(value.strip()) if isinstance(value, str) else float(value)
    if not 0 < minutes <= MAX_MINUTES:
        raise ValueError(f"it is {minutes:g} minutes; it must be above 0 and at most {MAX_MINUTES}")
    return minutes


def _clock(text: str) -> float:
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise ValueError("write minutes as a number, or a time as in 01:30:00 or 2-12:00:00")
    days, *rest = found.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is not None:
        hours, minutes, seconds = [*parts, 0, 0][:3]
        return int(days) * 1440 + hours * 60 + minutes + seconds / 60
    if len(parts) == 3:
        return parts[0] * 60 + parts[1] + parts[2] / 60
    minutes, seconds = [*parts, 0][:2]
    return minutes + seconds / 60


def _gigabytes(value: Any) -> Any:
    """Slurm's sizes: 10G, 512M; a bare number is in megabytes."""
    text = str(value).strip() if isinstance(value, int | float | str) else ""
    found = _SIZE.fullmatch(text)
    if found is None or isinstance(value, bool):
        raise ValueError("write a size as in 10G or 512M; a bare number is in megabytes")
    size = float(found[1]) * _UNITS[found[2].upper()] / 1024
    if not 0 < size <= MAX_MEMORY_GB:
        raise ValueError(f"it is {size:g} GB; it must be above 0 and at most {MAX_MEMORY_GB}")
    return size


def _gres(text: str) -> str:
    gpus = [part for part in text.split(",") if part.split(":")[0].split("=")[0] == "gpu"]
    if len(gpus) > 1 or any(_GPUS.fullmatch(part) is None for part in gpus):
        raise ValueError("write GPUs once, as in gpu:2 or gpu:a100:2")
    return text


# As clients may write them: in the document they are texts or numbers.
Minutes = Annotated[float, BeforeValidator(_minutes, json_schema_input_type=float | str)]
Size = Annotated[float, BeforeValidator(_gigabytes, json_schema_input_type=float | str)]
SiteWord = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Gres = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_]*([:=][A-Za-z0-9._-]+)*(,[A-Za-z][A-Za-z0-9_]*([:=][A-Za-z0-9._-]+)*)*$",
        max_length=200,
    ),
    AfterValidator(_gres),
]


class SlurmWords(Body):
    """Another way to say what the job needs. What our own fields say too must agree with it;
    partition, account, qos and gres are the cluster's own words, and pass through to it."""

    time: Minutes | None = Field(
        None,
        description="The time limit: minutes as a number, or H:M:S, D-H:M:S",
        examples=["01:30:00"],
    )
    num_of_node: Nodes | None = Field(None, description="As `nodes`")
    num_of_task: Tasks | None = Field(None, description="As `tasks`")
    cpu_per_task: Cpus | None = Field(None, description="As `cpus_per_task`")
    memory: Size | None = Field(
        None, description="As `memory_gb`, on each node: 50G, 512M", examples=["8G"]
    )
    memory_per_cpu: Size | None = Field(None, description="As `memory_per_cpu_gb`: 2G")
    memory_per_gpu: Size | None = Field(None, description="As `memory_per_gpu_gb`: 8G")
    gpu_per_task: Gpus | None = Field(None, description="As `gpus_per_task`")
    gpus_per_task: Gpus | None = Field(None, description="Another word for gpu_per_task")
    gpus_per_node: Gpus | None = Field(None, description="As `gpus_per_node`")
    partition: SiteWord | None = None
    account: SiteWord | None = None
    qos: SiteWord | None = None
    gres: Gres | None = Field(
        None, description="Its GPUs count as gpus_per_node and gpu_type", examples=["gpu:a100:2"]
    )
    constraint: Features | None = Field(None, description="As `constraint`")

    def own_fields(self) -> dict[str, tuple[Any, str]]:
        """What they say in our fields: the value, and the word that said so.

        Raises ValueError with (words, why) where they contradict each other.
        """
        found: dict[str, tuple[Any, str]] = {}
        hours = self.time / 60 if self.time is not None else None
        count, gpu_type = self._gres_gpus()
        said = (
            ("estimated_hours", hours, "time"),
            ("nodes", self.num_of_node, "num_of_node"),
            ("tasks", self.num_of_task, "num_of_task"),
            ("cpus_per_task", self.cpu_per_task, "cpu_per_task"),
            ("memory_gb", self.memory, "memory"),
            ("memory_per_cpu_gb", self.memory_per_cpu, "memory_per_cpu"),
            ("memory_per_gpu_gb", self.memory_per_gpu, "memory_per_gpu"),
            ("gpus_per_task", self.gpu_per_task, "gpu_per_task"),
            ("gpus_per_task", self.gpus_per_task, "gpus_per_task"),
            ("gpus_per_node", self.gpus_per_node, "gpus_per_node"),
            ("gpus_per_node", count, "gres"),
            ("gpu_type", gpu_type, "gres"),
            ("constraint", self.constraint, "constraint"),
        )
        for field, value, word in said:
            if value is None:
                continue
            known = found.setdefault(field, (value, word))
            if known[0] != value:
                why = f"{known[1]} is {known[0]} and {word} is {value}; give one of them"
                raise ContradictingWords((known[1], word), why)
        return found

    def _gres_gpus(self) -> tuple[int | None, str | None]:
        for part in (self.gres or "").split(","):
            if gpus := _GPUS.fullmatch(part):
                return int(gpus[2] or 1), gpus[1].lower() if gpus[1] else None
        return None, None

    def site_words(self) -> dict[str, str]:
        """What passes through to the cluster."""
        parts = (self.gres or "").split(",")
        gres = ",".join(part for part in parts if part and not _GPUS.fullmatch(part))
        said = {"partition": self.partition, "account": self.account, "qos": self.qos}
        return {name: word for name, word in (said | {"gres": gres}).items() if word}


class ContradictingWords(Exception):  # noqa: N818 - it says what it is
    """Two of the words say different things of one field."""

    def __init__(self, words: tuple[str, ...], why: str) -> None:
        super().__init__(why)
        self.words = words
        self.why = why

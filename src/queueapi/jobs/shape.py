"""What a job asks of nodes: Slurm's words in, one figure for each node out.

`cpu_cores`, `memory_gb` and `gpu_count` are amounts on each node. Tasks are another way to say the
same: a node has room for `tasks_per_node` tasks of `cpus_per_task` CPUs and `gpus_per_task` GPUs.
Saying a thing twice is refused unless both give one figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    computed_field,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from queueapi.fields import Flag, Real, Whole, Word
from queueapi.jobs.amounts import (
    MAX_CPUS,
    MAX_GPUS,
    MAX_MEMORY_GB,
    MAX_NODES,
    Cpus,
    Features,
    Gigabytes,
    Gpus,
    Nodes,
    Tasks,
)
from queueapi.jobs.slurm_words import ContradictingWords, SlurmWords
from queueapi.scheduling import Constraint

_TASK_FIELDS = frozenset({"tasks", "tasks_per_node", "cpus_per_task", "gpus_per_task"})
_MEMORY_FIELDS = frozenset(
    {"memory_gb", "memory_per_node_gb", "memory_per_cpu_gb", "memory_per_gpu_gb"}
)


@dataclass(frozen=True, slots=True)
class Needs:
    """A shape in plain figures."""

    nodes: int
    tasks: int  # over all nodes
    cpus: int  # on each node, as are the next two
    memory_mb: int
    gpus: int

    @property
    def tasks_per_node(self) -> int:
        """The most that one of the nodes has."""
        return -(-self.tasks // self.nodes)


class Shape(BaseModel):
    """The part of a submission that says what the job asks of nodes."""

    nodes: Nodes | None = Field(
        None,
        description="How many, of one cluster and all at once. If absent: tasks / tasks_per_node, "
        "rounded up, where both are given, else 1",
    )
    tasks: Tasks | None = Field(
        None, description="Over all nodes, at least one on each. If absent: tasks_per_node on each"
    )
    tasks_per_node: Tasks | None = Field(
        None, description="With `tasks`, the most that a node may get; otherwise 1 if absent"
    )
    cpus_per_task: Cpus | None = Field(None, description="1 if absent")
    cpu_cores: Whole = Field(
        1,
        ge=1,
        le=MAX_CPUS,
        description="On each node. With tasks it may be left out: a node's tasks × cpus_per_task",
    )
    memory_gb: Real = Field(
        4,
        gt=0,
        le=MAX_MEMORY_GB,
        allow_inf_nan=False,
        description="On each node. Give this, memory_per_node_gb, memory_per_cpu_gb or "
        "memory_per_gpu_gb, not two",
    )
    memory_per_node_gb: Gigabytes | None = Field(None, description="Another word for memory_gb")
    memory_per_cpu_gb: Gigabytes | None = Field(None, description="For each CPU of a node")
    memory_per_gpu_gb: Gigabytes | None = Field(None, description="For each GPU of a node")
    gpu_count: Gpus | None = Field(
        None,
        description="On each node. If it is absent or 0: 1 where gpu_type is given, else 0. Give "
        "this, gpus_per_node or gpus_per_task, not two",
    )
    gpus_per_node: Gpus | None = Field(None, description="Another word for gpu_count")
    gpus_per_task: Gpus | None = Field(None, description="For each task of a node")
    gpu_type: Annotated[Word, AfterValidator(str.lower)] | None = Field(
        None, description="For example a100; any type if absent"
    )
    constraint: Features | None = Field(
        None,
        description="Features that each node must have: & for and, | for or, & binds tighter",
        examples=["IB&CPU-N|BigMem"],
    )
    exclusive: Flag = Field(
        False, description="Whole nodes, shared with no other job, and charged as such"
    )

    slurm: SlurmWords | None = None

    @model_validator(mode="after")
    def _in_plain_figures(self) -> "Shape":
        words: dict[str, str] = {}
        try:
            if self.slurm is not None:
                self._take(self.slurm, words)
            _ = self.needs
        except _Contradiction as error:
            raise error.located(words) from None
        return self

    def _take(self, slurm: SlurmWords, words: dict[str, str]) -> None:
        """Say in our own fields what is said in Slurm's words; `words` gets which did."""
        try:
            said = slurm.own_fields()
        except ContradictingWords as error:
            words |= {word: word for word in error.words}
            raise _Contradiction(error.words, error.why) from None
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        for field, (value, word) in said.items():
            if field in given and getattr(self, field) != value:
                own = getattr(self, field)
                why = f"{field} is {own} and {word} of slurm {value}; give one, or make them equal"
                words["slurm"] = word
                raise _Contradiction((field, "slurm"), why)
            setattr(self, field, value)
            words[field] = word

    # Not a private attribute: reading one costs more than all else that is done with a job.
    @cached_property
    def needs(self) -> Needs:
        return _needs(self, {name for name in self.model_fields_set if getattr(self, name)})

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented form
    @property
    def node_count(self) -> int:
        return self.needs.nodes

    @computed_field  # type: ignore[prop-decorator]
    @property
    def task_count(self) -> int:
        return self.needs.tasks

    @computed_field  # type: ignore[prop-decorator]
    @property
    def cpus(self) -> int:
        """On each node."""
        return self.needs.cpus

    @computed_field  # type: ignore[prop-decorator]
    @property
    def memory_mb(self) -> int:
        """On each node."""
        return self.needs.memory_mb

    @computed_field  # type: ignore[prop-decorator]
    @property
    def gpus(self) -> int:
        """On each node."""
        return self.needs.gpus


def _needs(shape: Shape, given: set[str]) -> Needs:
    nodes, tasks = _nodes_and_tasks(shape)
    per_node = -(-tasks // nodes)
    cpus = _cpus(shape, given, per_node)
    gpus = _gpus(shape, given, per_node)
    memory_gb = _memory_gb(shape, given, cpus, gpus)
    return Needs(nodes, tasks, cpus, max(1, round(memory_gb * 1024)), gpus)


def _nodes_and_tasks(shape: Shape) -> tuple[int, int]:
    nodes, tasks, most = shape.nodes, shape.tasks, shape.tasks_per_node
    if nodes is None:
        nodes = -(-tasks // most) if tasks and most else 1
        if nodes > MAX_NODES:
            _refuse(("tasks", "tasks_per_node"), f"{nodes} nodes; the most is {MAX_NODES}")
    if tasks is None:
        return nodes, nodes * (most or 1)
    if tasks < nodes:
        why = f"{tasks} tasks can't fill {nodes} nodes: each node must have one at least"
        _refuse(("tasks", "nodes"), why)
    if most is not None and tasks > nodes * most:
        why = f"{tasks} tasks are more than {nodes} nodes × {most} tasks_per_node"
        _refuse(("tasks", "tasks_per_node", "nodes"), why)
    return nodes, tasks


def _cpus(shape: Shape, given: set[str], per_node: int) -> int:
    said = sorted(given & (_TASK_FIELDS - {"gpus_per_task"}))
    if not said:
        return shape.cpu_cores
    cpus = per_node * (shape.cpus_per_task or 1)
    figure = f"{per_node} tasks on a node × {shape.cpus_per_task or 1} CPUs are {cpus} CPUs"
    if cpus > MAX_CPUS:
        _refuse(said, f"{figure}; the most on one node is {MAX_CPUS}")
    if "cpu_cores" in given and cpus != shape.cpu_cores:
        _refuse(
            ("cpu_cores", *said),
            f"{figure}, and cpu_cores is {shape.cpu_cores}; leave it out, or make them equal",
        )
    return cpus


def _memory_gb(shape: Shape, given: set[str], cpus: int, gpus: int) -> float:
    said = sorted(given & _MEMORY_FIELDS)
    if len(said) > 1:
        _refuse(said, f"{_listed(said)} say the same thing; give one of them")
    if shape.memory_per_cpu_gb is not None:
        memory_gb, of = shape.memory_per_cpu_gb * cpus, f"{cpus} CPUs"
    elif shape.memory_per_gpu_gb is not None:
        if not gpus:
            _refuse(said, "memory for each GPU, and the job asks for no GPUs")
        memory_gb, of = shape.memory_per_gpu_gb * gpus, f"{gpus} GPUs"
    else:
        return shape.memory_per_node_gb or shape.memory_gb
    if memory_gb > MAX_MEMORY_GB:
        _refuse(said, f"{of} are {memory_gb:g} GB; the most on one node is {MAX_MEMORY_GB}")
    return memory_gb


def _gpus(shape: Shape, given: set[str], per_node: int) -> int:
    said = sorted(given & {"gpu_count", "gpus_per_node", "gpus_per_task"})
    if len(said) > 1:
        _refuse(said, f"{_listed(said)} say the same thing; give one of them")
    gpus = shape.gpu_count or shape.gpus_per_node or (shape.gpus_per_task or 0) * per_node
    if gpus > MAX_GPUS:
        why = f"{per_node} tasks are {gpus} GPUs; the most on one node is {MAX_GPUS}"
        _refuse(said, why)
    return gpus or (1 if shape.gpu_type else 0)


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


class _Contradiction(Exception):  # noqa: N818 - it says what it is
    """Fields say different things, or too much."""

    def __init__(self, fields: Sequence[str], why: str) -> None:
        super().__init__(why)
        self.fields = fields
        self.why = why

    def located(self, words: Mapping[str, str]) -> ValidationError:
        """Each of the fields is named, for any of them may be the one to change: by the word of
        `slurm` where that said it."""
        error = PydanticCustomError("contradiction", "{why}", {"why": f"{self.why}."})
        places = (("slurm", words[name]) if name in words else (name,) for name in self.fields)
        lines = [InitErrorDetails(type=error, loc=place, input=None) for place in places]
        return ValidationError.from_exception_data("Shape", lines)


def _refuse(fields: Sequence[str], why: str) -> NoReturn:
    raise _Contradiction(fields, why)


def parse_constraint(expression: str | None) -> Constraint:
    """ "b&a|c" → (("a", "b"), ("c",)): equal wishes give equal values."""
    if expression is None:
        return ()
    return tuple(sorted({tuple(sorted(set(part.split("&")))) for part in expression.split("|")}))

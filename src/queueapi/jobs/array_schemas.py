"""What the documents of jobs say of arrays."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field

from queueapi.jobs.array_indices import (
    ARRAY_PATTERN,
    INDICES_PATTERN,
    MAX_TEXT,
    ArrayIndices,
)


def _canonical(text: str) -> str:
    return str(ArrayIndices.parse(text))


# The patterns are for readers of the document: ArrayIndices says better what is wrong.
ArrayText = Annotated[
    str,
    Field(max_length=MAX_TEXT, json_schema_extra={"pattern": ARRAY_PATTERN}),
    AfterValidator(_canonical),
]
IndicesText = Annotated[
    str, Field(max_length=MAX_TEXT, json_schema_extra={"pattern": INDICES_PATTERN})
]


class StateCounts(BaseModel):
    """A number for each state of a job."""

    queued: int = 0
    starting: int = 0
    running: int = 0
    suspended: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class TaskCounts(StateCounts):
    """How many tasks of an array are in each state."""


class ArrayDocument(BaseModel):
    """What makes a job an array: its tasks run, each a job of its own, and it stands for them."""

    indices: str = Field(examples=["0-99%10"])
    task_count: int
    task_limit: int | None = Field(description="How many tasks may run at once")
    tasks: TaskCounts

    @classmethod
    def new(cls, indices: ArrayIndices) -> Self:
        """As it is when it has just been submitted."""
        return cls(
            indices=str(indices),
            task_count=len(indices),
            task_limit=indices.limit,
            tasks=TaskCounts(queued=len(indices)),
        )

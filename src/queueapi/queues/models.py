"""Queues: classes of jobs, each with a time limit, a priority factor and limits of its own."""

from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, String, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from queueapi.db.base import Base, CreatedAt


class QueueState(StrEnum):
    """Whether a queue takes new jobs, and starts those that wait. Slurm's states of a partition."""

    UP = "up"  # takes and starts
    DOWN = "down"  # takes, and starts none
    DRAIN = "drain"  # takes none, and starts
    INACTIVE = "inactive"  # neither


TAKING = frozenset({QueueState.UP, QueueState.DOWN})
STARTING = frozenset({QueueState.UP, QueueState.DRAIN})


class Queue(Base):
    """NULL in a limit means: none. The name is for good: jobs keep it, also when the queue goes."""

    __tablename__ = "queues"
    __table_args__ = (
        CheckConstraint("state IN ('up', 'down', 'drain', 'inactive')", name="state"),
        CheckConstraint("time_limit > 0", name="time_limit"),
        CheckConstraint("priority_factor > 0", name="priority_factor"),
    )

    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    state: Mapped[str] = mapped_column(String(20), server_default=QueueState.UP)
    time_limit: Mapped[int]  # seconds; the most that a job may ask for
    is_routed: Mapped[bool] = mapped_column(server_default=text("false"))
    priority_factor: Mapped[float] = mapped_column(server_default=text("1"))
    max_running_per_user: Mapped[int | None]
    max_running_per_group: Mapped[int | None]
    max_submitted_per_user: Mapped[int | None]
    # Ids, not rows that refer to groups: a group that goes must not open the queue to all.
    group_ids: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))
    clusters: Mapped[list[str] | None] = mapped_column(ARRAY(String(100)))
    created_at: Mapped[CreatedAt]

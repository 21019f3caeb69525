"""What operators want of nodes, and when. What a node has is its executor's to say."""

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from queueapi.db.base import Base, CreatedAt, PrimaryKey, Timestamp


class NodeSetting(Base):
    """A node without a row is up, with the features that its executor reports."""

    __tablename__ = "node_settings"
    __table_args__ = (CheckConstraint("state IN ('up', 'drain', 'down')", name="state"),)

    cluster: Mapped[str] = mapped_column(String(100), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(String(200))  # why it is not up
    features: Mapped[list[str]] = mapped_column(ARRAY(String(50)))  # beside the executor's
    changed_at: Mapped[Timestamp]
    changed_by: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="SET NULL")
    )


class NodeReservation(Base):
    """Nodes kept for some time: for maintenance, or for the jobs of some people.

    Users and groups are ids without foreign keys: one that is deleted has no jobs to admit.
    """

    __tablename__ = "reservations"
    __table_args__ = (CheckConstraint("ends_at > starts_at", name="order"),)

    id: Mapped[PrimaryKey]
    name: Mapped[str] = mapped_column(String(50), unique=True)
    cluster: Mapped[str] = mapped_column(String(100))
    nodes: Mapped[list[str]] = mapped_column(ARRAY(String(255)))  # none = all of the cluster
    starts_at: Mapped[Timestamp]
    ends_at: Mapped[Timestamp]
    user_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    group_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    note: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[CreatedAt]

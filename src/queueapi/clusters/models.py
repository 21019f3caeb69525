"""What operators want of nodes. What a node has is its executor's to say, and not kept here."""

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from queueapi.db.base import Base, Timestamp


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

"""Who leads."""

from sqlalchemy import BigInteger, CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from queueapi.db.base import Base, Timestamp


class Leadership(Base):
    """One row. `epoch` grows by one each time that a server takes the lead."""

    __tablename__ = "leadership"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epoch: Mapped[int] = mapped_column(BigInteger)
    holder: Mapped[str] = mapped_column(String(255))  # host:pid
    server_id: Mapped[str | None] = mapped_column(String(32))  # among the servers
    since: Mapped[Timestamp]

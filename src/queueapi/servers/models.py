"""The server processes of this database."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from queueapi.db.base import Base, Timestamp


class Server(Base):
    """A process that serves the API. It renews `seen_at`, by the database's clock, as it lives."""

    __tablename__ = "servers"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)  # of this start of it
    process: Mapped[str] = mapped_column(String(255))  # host:pid
    version: Mapped[str] = mapped_column(String(50))
    address: Mapped[str] = mapped_column(
        String(255), server_default=""
    )  # host:port, for other servers
    started_at: Mapped[Timestamp]
    seen_at: Mapped[Timestamp]

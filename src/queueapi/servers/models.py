"""The server processes of this database, and the machines that they are on."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from queueapi.db.base import Base, Timestamp


class Server(Base):
    """A process that serves the API. It renews `seen_at`, by the database's clock, as it lives."""

    __tablename__ = "servers"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)  # of this start of it
    process: Mapped[str] = mapped_column(String(255))  # host:pid
    version: Mapped[str] = mapped_column(String(50))
    host_id: Mapped[str | None] = mapped_column(String(32))
    address: Mapped[str] = mapped_column(
        String(255), server_default=""
    )  # host:port, for other servers
    started_at: Mapped[Timestamp]
    seen_at: Mapped[Timestamp]


class Host(Base):
    """A data folder on a machine. Only servers with both see the jobs that run there."""

    __tablename__ = "hosts"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    cluster: Mapped[str | None] = mapped_column(String(100), unique=True)  # that it is itself
    # An operator's word that all that ran there is lost; until a server starts there.
    gone_at: Mapped[Timestamp | None]
    gone_by: Mapped[str | None] = mapped_column(String(254))
    gone_reason: Mapped[str | None] = mapped_column(String(200))
    lost_since: Mapped[Timestamp | None]  # what was given up since then is still to be ended there

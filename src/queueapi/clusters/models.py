"""Clusters, and what operators want of their nodes. What a node has is its executor's to say."""

from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from queueapi.db.base import Base, CreatedAt, PrimaryKey, Timestamp

NOBODY = text("'{}'")


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


class ClusterState(StrEnum):
    UP = "up"
    DRAIN = "drain"  # starts nothing new; what runs goes on
    DOWN = "down"  # out of use: takes no jobs either


BUILT_IN = "local"  # the machine that the server is on: always there
OWN_KIND = "local"  # of clusters that are a machine that a server is on
# Kinds that have neither partitions nor accounts of their own.
PLAIN_KINDS = frozenset({OWN_KIND, "null"})


class Cluster(Base):
    """A named place that runs jobs. `local` has its row from the first migration on.

    Users and groups are ids without foreign keys: one that goes must not open what was closed.
    """

    __tablename__ = "clusters"
    __table_args__ = (CheckConstraint("state IN ('up', 'drain', 'down')", name="state"),)

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))  # names the executor
    state: Mapped[str] = mapped_column(String(20), server_default=ClusterState.UP)
    reason: Mapped[str | None] = mapped_column(String(200))  # why it is not up
    # The machine whose servers alone see its jobs; NULL: all servers reach it.
    host_id: Mapped[str | None] = mapped_column(String(32))

    # How it is reached
    host: Mapped[str | None] = mapped_column(String(255))
    port: Mapped[int] = mapped_column(server_default=text("22"))
    login: Mapped[str | None] = mapped_column(String(64))
    key_path: Mapped[str | None] = mapped_column(String(1000))  # on the server
    sealed_key: Mapped[str | None] = mapped_column(Text)  # see secrets
    sealed_passphrase: Mapped[str | None] = mapped_column(Text)
    host_keys: Mapped[list[str]] = mapped_column(ARRAY(String(60)), server_default=NOBODY)
    root_path: Mapped[str | None] = mapped_column(String(1000))
    options: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))

    # What jobs may ask of it
    partitions: Mapped[list[str]] = mapped_column(ARRAY(String(100)), server_default=NOBODY)
    defaults: Mapped[dict[str, str]] = mapped_column(JSONB, server_default=text("'{}'"))
    caps: Mapped[dict[str, float]] = mapped_column(JSONB, server_default=text("'{}'"))
    offer: Mapped[str | None] = mapped_column(Text)  # see offers; NULL: it has not told
    is_community_account: Mapped[bool] = mapped_column(server_default=text("false"))
    user_accounts: Mapped[bool] = mapped_column(server_default=text("false"))

    # Who may use it: deny wins; nobody named in allow means everybody
    allow_emails: Mapped[list[str]] = mapped_column(ARRAY(String(254)), server_default=NOBODY)
    allow_users: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=NOBODY)
    allow_groups: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=NOBODY)
    deny_emails: Mapped[list[str]] = mapped_column(ARRAY(String(254)), server_default=NOBODY)
    deny_users: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=NOBODY)
    deny_groups: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=NOBODY)

    created_at: Mapped[CreatedAt]
    changed_at: Mapped[CreatedAt]
    changed_by: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="SET NULL")
    )


class ClusterAccount(Base):
    """A user's own account on a cluster, by a key of theirs."""

    __tablename__ = "cluster_accounts"

    cluster: Mapped[str] = mapped_column(
        String(100), ForeignKey("clusters.name", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    login: Mapped[str] = mapped_column(String(64))
    sealed_key: Mapped[str] = mapped_column(Text)  # see secrets
    sealed_passphrase: Mapped[str | None] = mapped_column(Text)
    public_key: Mapped[str] = mapped_column(Text)  # a line of authorized_keys
    fingerprint: Mapped[str] = mapped_column(String(60))
    # When it was seen to open the account; NULL: not yet, or it was refused since.
    tested_at: Mapped[Timestamp | None]
    problem: Mapped[str | None] = mapped_column(Text)  # why it was refused
    changed_at: Mapped[Timestamp]
    changed_by: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="SET NULL")
    )

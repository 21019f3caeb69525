"""Research groups, who is in them, and what they used."""

from datetime import date
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Numeric, String, text
from sqlalchemy.orm import Mapped, mapped_column

from queueapi.db.base import Base, CreatedAt, PrimaryKey, Timestamp


class JoinPolicy(StrEnum):
    OPEN = "open"  # whoever asks is in
    EMAIL = "email"  # whoever's address matches the group's pattern is in
    APPROVAL = "approval"  # a manager decides


class MemberRole(StrEnum):
    MEMBER = "member"
    MANAGER = "manager"


class Group(Base):
    """NULL in a limit means: the server's setting."""

    __tablename__ = "groups"
    __table_args__ = (
        CheckConstraint("join_policy IN ('open', 'email', 'approval')", name="join_policy"),
        CheckConstraint("shares >= 0", name="shares"),
    )

    id: Mapped[PrimaryKey]
    name: Mapped[str] = mapped_column(String(100), unique=True)
    join_policy: Mapped[str] = mapped_column(String(20), server_default=JoinPolicy.APPROVAL)
    email_pattern: Mapped[str | None] = mapped_column(String(320))  # shell pattern: *@lab.edu
    quota_cpu_minutes: Mapped[float | None]  # per rolling 30 days
    max_submitted_per_user: Mapped[int | None]
    max_running_per_user: Mapped[int | None]
    max_running: Mapped[int | None]
    # For Fair Tree: the group above, and shares against siblings; NULL: as if the members were its.
    parent_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("groups.id"), index=True)
    shares: Mapped[int | None] = mapped_column(server_default=text("1"))
    created_at: Mapped[CreatedAt]


class Membership(Base):
    """`approved_at` is NULL while a request to join waits for a manager."""

    __tablename__ = "memberships"
    __table_args__ = (
        CheckConstraint("role IN ('member', 'manager')", name="role"),
        CheckConstraint("shares >= 0", name="shares"),
        Index("ix_memberships_group_id", "group_id"),
        Index(
            "uq_memberships_default",
            "user_id",
            unique=True,
            postgresql_where=text("is_default"),
        ),
    )

    user_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    group_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True
    )
    role: Mapped[str] = mapped_column(String(20), server_default=MemberRole.MEMBER)
    is_default: Mapped[bool] = mapped_column(server_default=text("false"))
    shares: Mapped[int | None] = mapped_column(server_default=text("1"))  # NULL: as the group's
    created_at: Mapped[CreatedAt]
    approved_at: Mapped[Timestamp | None]


class LedgerEntry(Base):
    """What one attempt used. Never deleted, also when its user or job goes."""

    __tablename__ = "usage_ledger"
    __table_args__ = (Index("ix_usage_ledger_group_id_ended_at", "group_id", "ended_at"),)

    attempt_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    job_id: Mapped[int] = mapped_column(BigInteger, index=True)
    user_id: Mapped[int] = mapped_column(BigInteger)
    group_id: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[Timestamp]
    ended_at: Mapped[Timestamp]
    cpu_minutes: Mapped[float]  # allocated CPUs × elapsed minutes
    gpu_minutes: Mapped[float]
    memory_gb_minutes: Mapped[float]
    cost: Mapped[Decimal] = mapped_column(Numeric(14, 6))


class UsageDay(Base):
    """The ledger summed by group and day (UTC), for the rolling 30-day quota."""

    __tablename__ = "usage_days"

    group_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    day: Mapped[date] = mapped_column(primary_key=True)
    cpu_minutes: Mapped[float]
    gpu_minutes: Mapped[float]
    memory_gb_minutes: Mapped[float]

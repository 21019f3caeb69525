"""Advance reservations of nodes, and the jobs that name one

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reservations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("cluster", sa.String(length=100), nullable=False),
        sa.Column("nodes", sa.ARRAY(sa.String(length=255)), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_ids", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("group_ids", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("note", sa.String(length=500), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_reservations_order")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
        sa.UniqueConstraint("name", name=op.f("uq_reservations_name")),
    )
    op.add_column("jobs", sa.Column("reservation", sa.String(length=50), nullable=True))
    op.create_index(
        "ix_jobs_reservation",
        "jobs",
        ["reservation"],
        unique=False,
        postgresql_where=sa.text("reservation IS NOT NULL AND state = 'queued'"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_jobs_reservation",
        table_name="jobs",
        postgresql_where=sa.text("reservation IS NOT NULL AND state = 'queued'"),
    )
    op.drop_column("jobs", "reservation")
    op.drop_table("reservations")

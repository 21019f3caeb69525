"""Queues

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "queues",
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("state", sa.String(length=20), server_default="up", nullable=False),
        sa.Column("time_limit", sa.Integer(), nullable=False),
        sa.Column("is_routed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("priority_factor", sa.Double(), server_default=sa.text("1"), nullable=False),
        sa.Column("max_running_per_user", sa.Integer(), nullable=True),
        sa.Column("max_running_per_group", sa.Integer(), nullable=True),
        sa.Column("max_submitted_per_user", sa.Integer(), nullable=True),
        sa.Column("group_ids", sa.ARRAY(sa.BigInteger()), nullable=True),
        sa.Column("clusters", sa.ARRAY(sa.String(length=100)), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "state IN ('up', 'down', 'drain', 'inactive')", name=op.f("ck_queues_state")
        ),
        sa.CheckConstraint("time_limit > 0", name=op.f("ck_queues_time_limit")),
        sa.CheckConstraint("priority_factor > 0", name=op.f("ck_queues_priority_factor")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_queues")),
    )
    op.execute("""
        INSERT INTO queues (name, time_limit, is_routed)
        VALUES ('express', 300, true), ('normal', 86400, true), ('long', 604800, true)
    """)
    # The default spares most rows a rewrite; what is added from now on names its queue.
    op.add_column(
        "jobs", sa.Column("queue", sa.String(length=50), server_default="normal", nullable=False)
    )
    op.execute("UPDATE jobs SET queue = 'express' WHERE time_limit <= 300")
    op.execute("UPDATE jobs SET queue = 'long' WHERE time_limit > 86400")
    op.alter_column("jobs", "queue", server_default=None)
    op.create_index(
        "ix_jobs_active_queue",
        "jobs",
        ["queue", "state"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'starting', 'running', 'suspended')"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_jobs_active_queue",
        table_name="jobs",
        postgresql_where=sa.text("state IN ('queued', 'starting', 'running', 'suspended')"),
    )
    op.drop_column("jobs", "queue")
    op.drop_table("queues")

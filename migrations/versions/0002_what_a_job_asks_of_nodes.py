"""What a job asks of nodes, and what an attempt holds of each.

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    one = sa.text("1")
    op.add_column("jobs", sa.Column("nodes", sa.Integer(), server_default=one, nullable=False))
    op.add_column("jobs", sa.Column("tasks", sa.Integer(), server_default=one, nullable=False))
    op.add_column("jobs", sa.Column("constraint", sa.String(length=500), nullable=True))
    op.add_column(
        "jobs",
        sa.Column("exclusive", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column(
        "attempts",
        sa.Column("shares", postgresql.JSONB(none_as_null=True, astext_type=sa.Text())),
    )
    op.add_column("attempts", sa.Column("cpus", sa.Integer(), nullable=True))
    op.add_column("attempts", sa.Column("memory_mb", sa.BigInteger(), nullable=True))
    op.add_column("attempts", sa.Column("gpus", sa.Integer(), nullable=True))


def downgrade() -> None:
    for name in ("gpus", "memory_mb", "cpus", "shares"):
        op.drop_column("attempts", name)
    for name in ("exclusive", "constraint", "tasks", "nodes"):
        op.drop_column("jobs", name)

"""Machines that run jobs themselves

Revision: 0018, after 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hosts",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("cluster", sa.String(length=100), nullable=True),
        sa.Column("gone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("gone_by", sa.String(length=254), nullable=True),
        sa.Column("gone_reason", sa.String(length=200), nullable=True),
        sa.Column("lost_since", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hosts")),
        sa.UniqueConstraint("name", name=op.f("uq_hosts_name")),
        sa.UniqueConstraint("cluster", name=op.f("uq_hosts_cluster")),
    )
    op.add_column("servers", sa.Column("host_id", sa.String(length=32), nullable=True))
    op.add_column("clusters", sa.Column("host_id", sa.String(length=32), nullable=True))


def downgrade() -> None:
    op.drop_column("clusters", "host_id")
    op.drop_column("servers", "host_id")
    op.drop_table("hosts")

"""Users' own accounts on clusters

Revision: 0025, after 0024
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "clusters",
        sa.Column("user_accounts", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column("attempts", sa.Column("login", sa.String(64), nullable=True))
    op.create_table(
        "cluster_accounts",
        sa.Column("cluster", sa.String(100), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("login", sa.String(64), nullable=False),
        sa.Column("sealed_key", sa.Text(), nullable=False),
        sa.Column("sealed_passphrase", sa.Text(), nullable=True),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(60), nullable=False),
        sa.Column("tested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("cluster", "user_id", name="pk_cluster_accounts"),
        sa.ForeignKeyConstraint(
            ["cluster"],
            ["clusters.name"],
            name="fk_cluster_accounts_cluster_clusters",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name="fk_cluster_accounts_user_id_users",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["changed_by"],
            ["users.id"],
            name="fk_cluster_accounts_changed_by_users",
            ondelete="SET NULL",
        ),
    )
    op.create_index("ix_cluster_accounts_user_id", "cluster_accounts", ["user_id"])


def downgrade() -> None:
    op.drop_table("cluster_accounts")
    op.drop_column("attempts", "login")
    op.drop_column("clusters", "user_accounts")

"""Clusters: places that run jobs, registered while the server runs

Revision: 0013, after 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

NONE = sa.text("'{}'")
NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "clusters",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), server_default="up", nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("port", sa.Integer(), server_default=sa.text("22"), nullable=False),
        sa.Column("login", sa.String(length=64), nullable=True),
        sa.Column("key_path", sa.String(length=1000), nullable=True),
        sa.Column("sealed_key", sa.Text(), nullable=True),
        sa.Column("sealed_passphrase", sa.Text(), nullable=True),
        _list("host_keys", sa.String(length=60)),
        sa.Column("root_path", sa.String(length=1000), nullable=True),
        sa.Column("options", postgresql.JSONB(), server_default=NONE, nullable=False),
        _list("partitions", sa.String(length=100)),
        sa.Column("defaults", postgresql.JSONB(), server_default=NONE, nullable=False),
        sa.Column("caps", postgresql.JSONB(), server_default=NONE, nullable=False),
        sa.Column(
            "is_community_account", sa.Boolean(), server_default=sa.text("false"), nullable=False
        ),
        _list("allow_emails", sa.String(length=254)),
        _list("allow_users", sa.BigInteger()),
        _list("allow_groups", sa.BigInteger()),
        _list("deny_emails", sa.String(length=254)),
        _list("deny_users", sa.BigInteger()),
        _list("deny_groups", sa.BigInteger()),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("changed_by", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('up', 'drain', 'down')", name=op.f("ck_clusters_state")),
        sa.ForeignKeyConstraint(
            ["changed_by"],
            ["users.id"],
            name=op.f("fk_clusters_changed_by_users"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_clusters")),
    )
    op.execute("INSERT INTO clusters (name, kind) VALUES ('local', 'local')")


def _list(name: str, of: sa.types.TypeEngine[object]) -> sa.Column[object]:
    return sa.Column(name, postgresql.ARRAY(of), server_default=NONE, nullable=False)


def downgrade() -> None:
    op.drop_table("clusters")

"""Folders that people upload, and jobs that bring them

Revision: 0021, after 0020
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_ACTIVE = "state IN ('queued', 'starting', 'running', 'suspended')"


def _now() -> sa.Column[sa.DateTime]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )


def upgrade() -> None:
    op.create_table(
        "contents",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("entries", postgresql.JSONB(), nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        _now(),
        sa.PrimaryKeyConstraint("digest", name="pk_contents"),
    )
    op.create_table(
        "content_chunks",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["contents.digest"],
            name="fk_content_chunks_digest_contents",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("digest", "number", name="pk_content_chunks"),
    )
    # It is compressed already.
    op.execute("ALTER TABLE content_chunks ALTER COLUMN data SET STORAGE EXTERNAL")
    op.create_table(
        "folders",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        _now(),
        sa.Column("uploaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_folders_user_id_users", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name="fk_folders_group_id_groups", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["digest"], ["contents.digest"], name="fk_folders_digest_contents"),
        sa.PrimaryKeyConstraint("id", name="pk_folders"),
    )
    op.create_index(
        "uq_folders_user_id_digest_group_id",
        "folders",
        ["user_id", "digest", "group_id"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_index("ix_folders_group_id", "folders", ["group_id"])
    op.create_index("ix_folders_digest", "folders", ["digest"])
    op.add_column("jobs", sa.Column("executable", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_jobs_executable",
        "jobs",
        ["executable", "id"],
        postgresql_where=sa.text("executable IS NOT NULL AND array_id IS NULL"),
    )
    op.create_index(
        "ix_jobs_active_executable",
        "jobs",
        ["executable"],
        postgresql_where=sa.text(f"executable IS NOT NULL AND array_id IS NULL AND {_ACTIVE}"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_active_executable", "jobs")
    op.drop_index("ix_jobs_executable", "jobs")
    op.drop_column("jobs", "executable")
    op.drop_table("folders")
    op.drop_table("content_chunks")
    op.drop_table("contents")

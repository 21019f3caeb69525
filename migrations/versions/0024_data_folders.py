"""Uploaded folders as the data of jobs

Revision: 0024, after 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("data_folder", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_jobs_data_folder",
        "jobs",
        ["data_folder", "id"],
        postgresql_where=sa.text("data_folder IS NOT NULL AND array_id IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_data_folder", "jobs")
    op.drop_column("jobs", "data_folder")

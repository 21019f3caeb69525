"""The cluster that a job names, and what it asks of it in the cluster's own words

Revision: 0019, after 0018
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("cluster", sa.String(length=100), nullable=True))
    op.add_column("jobs", sa.Column("site", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "site")
    op.drop_column("jobs", "cluster")

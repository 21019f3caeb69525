"""The container that a job runs in

Revision: 0020, after 0019
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("container", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "container")

"""What clusters could ever give to a job

Revision: 0022, after 0021
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("clusters", sa.Column("offer", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("clusters", "offer")

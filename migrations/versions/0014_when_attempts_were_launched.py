"""When attempts were launched, recorded and closed

Revision: 0014, after 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

COLUMNS = ("launched_at", "remote_id_at", "closed_at")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("attempts", sa.Column(name, sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("attempts", name)

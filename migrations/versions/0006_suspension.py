"""Since when, and for how long, an attempt stands still

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "attempts",
        sa.Column("suspended_seconds", sa.Double(), server_default=sa.text("0"), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("attempts", "suspended_seconds")
    op.drop_column("attempts", "suspended_at")

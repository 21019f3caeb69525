"""Since when, and for how long, an attempt stands still

Revision: 0007, suspension
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0002"
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

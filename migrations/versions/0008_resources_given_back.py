"""Since when, and for how long, a suspended attempt has given back its resources

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("released_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "attempts",
        sa.Column("released_seconds", sa.Double(), server_default=sa.text("0"), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("attempts", "released_seconds")
    op.drop_column("attempts", "released_at")

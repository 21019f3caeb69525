"""Where the servers ask each other

Revision: 0016, after 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A server of the version before adds its row without one.
    address = sa.Column("address", sa.String(length=255), server_default="", nullable=False)
    op.add_column("servers", address)


def downgrade() -> None:
    op.drop_column("servers", "address")

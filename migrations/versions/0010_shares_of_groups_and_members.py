"""Shares of groups and members, and which group is below which

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    one = sa.text("1")
    op.add_column("groups", sa.Column("parent_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key("fk_groups_parent_id_groups", "groups", "groups", ["parent_id"], ["id"])
    op.create_index("ix_groups_parent_id", "groups", ["parent_id"])
    for table in ("groups", "memberships"):
        op.add_column(table, sa.Column("shares", sa.Integer(), server_default=one, nullable=True))
        op.create_check_constraint("shares", table, "shares >= 0")


def downgrade() -> None:
    for table in ("memberships", "groups"):
        op.drop_constraint("shares", table, type_="check")
        op.drop_column(table, "shares")
    op.drop_index("ix_groups_parent_id", "groups")
    op.drop_constraint("fk_groups_parent_id_groups", "groups", type_="foreignkey")
    op.drop_column("groups", "parent_id")

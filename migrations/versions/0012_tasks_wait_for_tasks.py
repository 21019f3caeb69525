"""Arrays may wait for others task by task: aftercorr

Revision: 0012, after 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

KINDS = ("afterok", "afterany", "afternotok", "after")


def upgrade() -> None:
    _allow((*KINDS, "aftercorr"))


def downgrade() -> None:
    op.execute("DELETE FROM job_dependencies WHERE kind = 'aftercorr'")
    _allow(KINDS)


def _allow(kinds: tuple[str, ...]) -> None:
    name = op.f("ck_job_dependencies_kind")
    op.drop_constraint(name, "job_dependencies", type_="check")
    words = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(name, "job_dependencies", f"kind IN ({words})")

"""Arrays: a job for each task, and one that stands for them all.

Lists show the array once, so the indexes that serve lists leave its tasks out.

Revision: 0011, after 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

STATES = ("starting", "running", "suspended", "completed", "failed", "cancelled")


def upgrade() -> None:
    _widen_costs(20)
    op.add_column("jobs", sa.Column("array_indices", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("array_id", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("array_index", sa.Integer(), nullable=True))
    op.create_foreign_key(
        op.f("fk_jobs_array_id_jobs"), "jobs", "jobs", ["array_id"], ["id"], ondelete="CASCADE"
    )
    op.create_index(
        "uq_jobs_array_id_array_index",
        "jobs",
        ["array_id", "array_index"],
        unique=True,
        postgresql_where=sa.text("array_id IS NOT NULL"),
    )
    _drop_list_indexes()
    _create_list_indexes(" AND array_id IS NULL")
    op.create_table(
        "arrays",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("task_limit", sa.Integer(), nullable=True),
        sa.Column("task_count", sa.Integer(), nullable=False),
        sa.Column("min_index", sa.Integer(), nullable=False),
        sa.Column("max_index", sa.Integer(), nullable=False),
        sa.Column("queued", sa.Integer(), nullable=False),
        *(
            sa.Column(state, sa.Integer(), server_default=sa.text("0"), nullable=False)
            for state in STATES
        ),
        *(
            sa.Column(use, sa.Double(), server_default=sa.text("0"), nullable=False)
            for use in ("cpu_minutes", "gpu_minutes", "memory_gb_minutes")
        ),
        sa.ForeignKeyConstraint(
            ["id"], ["jobs.id"], name=op.f("fk_arrays_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arrays")),
        postgresql_with={"fillfactor": 50},
    )


def downgrade() -> None:
    op.drop_table("arrays")
    _drop_list_indexes()
    _create_list_indexes("")
    op.drop_index("uq_jobs_array_id_array_index", table_name="jobs")
    op.drop_constraint(op.f("fk_jobs_array_id_jobs"), "jobs", type_="foreignkey")
    op.execute("DELETE FROM jobs WHERE array_id IS NOT NULL OR array_indices IS NOT NULL")
    for column in ("array_index", "array_id", "array_indices"):
        op.drop_column("jobs", column)
    _widen_costs(14)


def _widen_costs(precision: int) -> None:
    """An array costs what all of its tasks do. To more digits, no row is written anew."""
    for column in ("estimated_cost", "actual_cost"):
        op.alter_column("jobs", column, type_=sa.Numeric(precision, 6))


def _drop_list_indexes() -> None:
    for name in ("user_id_id", "user_id_state_id", "group_id_id", "name", "tags"):
        op.execute(f"DROP INDEX ix_jobs_{name}")


def _create_list_indexes(and_listed: str) -> None:
    where = f" WHERE {and_listed.removeprefix(' AND ')}" if and_listed else ""
    for index in (
        f"ix_jobs_user_id_id ON jobs (user_id, id DESC){where}",
        f"ix_jobs_user_id_state_id ON jobs (user_id, state, id DESC){where}",
        f"ix_jobs_group_id_id ON jobs (group_id, id DESC){where}",
        f"ix_jobs_name ON jobs (name, id DESC) WHERE name <> ''{and_listed}",
        f"ix_jobs_tags ON jobs USING gin (tags) WHERE tags <> '{{}}'{and_listed}",
    ):
        op.execute(f"CREATE INDEX {index}")

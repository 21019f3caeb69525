"""What jobs wait for: dependencies, and the graphs that were submitted as one

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column(
            "on_dependency_failure",
            sa.String(length=10),
            server_default="cancel",
            nullable=False,
        ),
    )
    op.add_column(
        "jobs",
        sa.Column("unmet_dependencies", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column(
        "jobs",
        sa.Column("has_dependents", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_table(
        "job_dependencies",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("depends_on", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.CheckConstraint(
            "kind IN ('afterok', 'afterany', 'afternotok', 'after')",
            name=op.f("ck_job_dependencies_kind"),
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'satisfied', 'failed')",
            name=op.f("ck_job_dependencies_state"),
        ),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
            name=op.f("fk_job_dependencies_job_id_jobs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", "depends_on", name=op.f("pk_job_dependencies")),
    )
    op.create_index(
        op.f("ix_job_dependencies_depends_on"), "job_dependencies", ["depends_on"], unique=False
    )
    op.create_table(
        "workflows",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_workflows_group_id_groups")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_workflows_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflows")),
    )
    op.create_index(
        "ix_workflows_group_id_id",
        "workflows",
        ["group_id", sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index(
        "ix_workflows_user_id_id",
        "workflows",
        ["user_id", sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_table(
        "workflow_jobs",
        sa.Column("workflow_id", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.String(length=50), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_workflow_jobs_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["workflow_id"],
            ["workflows.id"],
            name=op.f("fk_workflow_jobs_workflow_id_workflows"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("workflow_id", "label", name=op.f("pk_workflow_jobs")),
        sa.UniqueConstraint("job_id", name=op.f("uq_workflow_jobs_job_id")),
    )


def downgrade() -> None:
    op.drop_table("workflow_jobs")
    op.drop_index("ix_workflows_user_id_id", table_name="workflows")
    op.drop_index("ix_workflows_group_id_id", table_name="workflows")
    op.drop_table("workflows")
    op.drop_index(op.f("ix_job_dependencies_depends_on"), table_name="job_dependencies")
    op.drop_table("job_dependencies")
    op.drop_column("jobs", "has_dependents")
    op.drop_column("jobs", "unmet_dependencies")
    op.drop_column("jobs", "on_dependency_failure")

"""Hours and days of telemetry, and indexes of the windows that wait to be taken in."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rollup",
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("start", sa.Float(), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("windows", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("labels_right", sa.BigInteger(), nullable=False),
        sa.Column("labels_wrong", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("level IN ('hour', 'day')", name=op.f("ck_rollup_level")),
        sa.PrimaryKeyConstraint("level", "device", "manifest", "start", name=op.f("pk_rollup")),
    )
    op.create_index(op.f("ix_rollup_level_start"), "rollup", ["level", "start"], unique=False)
    op.add_column(
        "summary_window",
        sa.Column("rolled", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_index(
        "ix_summary_window_unfolded",
        "summary_window",
        ["id"],
        unique=False,
        sqlite_where=sa.text("folded IS 0"),
        postgresql_where=sa.text("folded IS false"),
    )
    op.create_index(
        "ix_summary_window_unrolled",
        "summary_window",
        ["start"],
        unique=False,
        sqlite_where=sa.text("rolled IS 0"),
        postgresql_where=sa.text("rolled IS false"),
    )


def downgrade() -> None:
    op.drop_index("ix_summary_window_unrolled", table_name="summary_window")
    op.drop_index("ix_summary_window_unfolded", table_name="summary_window")
    op.drop_column("summary_window", "rolled")
    op.drop_table("rollup")

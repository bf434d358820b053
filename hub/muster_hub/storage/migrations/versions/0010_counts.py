"""Counts of a window that have no column of their own, so that a new one needs no new column."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("counts", sa.JSON(), nullable=False, server_default="{}")
    op.add_column("summary_window", column)


def downgrade() -> None:
    op.drop_column("summary_window", "counts")

"""A lease's epoch: what was decided under an earlier one is never committed."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("epoch", sa.Integer(), nullable=False, server_default="0")
    op.add_column("lease", column)


def downgrade() -> None:
    op.drop_column("lease", "epoch")

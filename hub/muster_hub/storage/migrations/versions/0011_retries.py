"""How often an operator has asked each device to try anew what a slot refused."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("retries", sa.JSON(), nullable=False, server_default="{}")
    op.add_column("device", column)


def downgrade() -> None:
    op.drop_column("device", "retries")

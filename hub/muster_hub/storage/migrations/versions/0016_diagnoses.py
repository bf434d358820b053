"""How often an operator has asked what is wrong on each device."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("diagnoses", sa.Integer(), nullable=False, server_default="0")
    op.add_column("device", column)


def downgrade() -> None:
    op.drop_column("device", "diagnoses")

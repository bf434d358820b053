"""How often somebody has begun to watch each device's log, and when last."""

import sqlalchemy as sa
from alembic import op

revision = "0026a"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("log_watches", sa.Integer(), nullable=False, server_default="0")
    op.add_column("device", column)
    op.add_column("device", sa.Column("log_watched", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("device", "log_watched")
    op.drop_column("device", "log_watches")

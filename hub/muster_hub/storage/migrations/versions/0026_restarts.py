"""How often an operator has asked each device's agent to start anew, and until when it may."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("device", sa.Column("restarts", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("device", sa.Column("restart_until", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("device", "restart_until")
    op.drop_column("device", "restarts")

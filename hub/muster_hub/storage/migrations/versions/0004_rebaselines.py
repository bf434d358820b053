"""How often each device's drift monitor was begun anew, for the directive to say."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "drift_state",
        sa.Column("rebaselines", sa.Integer(), nullable=False, server_default="0"),
    )


def downgrade() -> None:
    op.drop_column("drift_state", "rebaselines")

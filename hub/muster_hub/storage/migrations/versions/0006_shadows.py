"""What challengers in shadow have compared, and rollouts that begin with a shadow."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COUNTS = (
    "compared", "disagreed", "compared_failed", "compared_labelled", "compared_right",
    "compared_champion_right",
)  # fmt: skip


def upgrade() -> None:
    for name in COUNTS:
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        op.add_column("summary_window", column)
    op.add_column("rollout", sa.Column("shadow", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("rollout", "shadow")
    for name in COUNTS:
        op.drop_column("summary_window", name)

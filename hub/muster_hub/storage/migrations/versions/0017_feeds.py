"""What devices tell of their feeds while somebody watches, and how often somebody began to."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("device", sa.Column("feeds", sa.JSON(), nullable=True))
    op.add_column("device", sa.Column("feed_watched", sa.Float(), nullable=True))
    column = sa.Column("feed_watches", sa.Integer(), nullable=False, server_default="0")
    op.add_column("device", column)


def downgrade() -> None:
    for name in ("feed_watches", "feed_watched", "feeds"):
        op.drop_column("device", name)

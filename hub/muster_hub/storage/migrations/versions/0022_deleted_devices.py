"""When a device was deleted: its row stays, and its certificates on the revocation list."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0017a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("device", sa.Column("deleted", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("device", "deleted")

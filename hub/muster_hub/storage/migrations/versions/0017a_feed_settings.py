"""What devices are told of their feeds beside their own configuration."""

import sqlalchemy as sa
from alembic import op

revision = "0017a"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feed_setting",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("selector", sa.String(), nullable=False),
        sa.Column("feed", sa.String(64), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_feed_setting"),
    )


def downgrade() -> None:
    op.drop_table("feed_setting")

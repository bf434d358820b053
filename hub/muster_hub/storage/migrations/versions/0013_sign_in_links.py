"""Links that sign somebody in to the console once."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sign_in_link",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.CheckConstraint(
            "role IN ('viewer', 'operator', 'releaser', 'admin')", name=op.f("ck_sign_in_link_role")
        ),
        sa.PrimaryKeyConstraint("hash", name="pk_sign_in_link"),
    )


def downgrade() -> None:
    op.drop_table("sign_in_link")

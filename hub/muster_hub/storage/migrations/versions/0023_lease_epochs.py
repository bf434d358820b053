"""A lease's epoch, the processes of a hub, and whose database this is."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("epoch", sa.Integer(), nullable=False, server_default="0")
    op.add_column("lease", column)
    op.create_table(
        "process",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("parts", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("directory", sa.String(), nullable=False),
        sa.Column("began", sa.Float(), nullable=False),
        sa.Column("seen", sa.Float(), nullable=False),
        sa.Column("beats", sa.Integer(), nullable=False),
        sa.Column("ingest", sa.Integer(), nullable=True),
        sa.Column("listening_seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_process")),
        sa.UniqueConstraint("ingest", name=op.f("uq_process_ingest")),
    )
    op.create_table(
        "home",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("root_sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_home")),
    )


def downgrade() -> None:
    op.drop_table("home")
    op.drop_table("process")
    op.drop_column("lease", "epoch")

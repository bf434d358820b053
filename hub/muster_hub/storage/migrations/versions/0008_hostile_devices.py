"""What devices sent that could not be taken, and since when a stream's epoch is known."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "set_aside",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("leaf", sa.String(length=16), nullable=False),
        sa.Column("received", sa.Float(), nullable=False),
        sa.Column("fault", sa.String(length=500), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["device.id"], name="fk_set_aside_device"),
        sa.PrimaryKeyConstraint("id", name="pk_set_aside"),
    )
    op.create_index("ix_set_aside_device_id", "set_aside", ["device", "id"])
    op.add_column(
        "device", sa.Column("set_aside", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("device", sa.Column("set_aside_at", sa.Float(), nullable=True))
    op.add_column(
        "device", sa.Column("set_aside_fault", sa.String(), nullable=False, server_default="")
    )
    op.create_index("ix_device_set_aside_at", "device", ["set_aside_at"])
    op.add_column("stream", sa.Column("created", sa.Float(), nullable=False, server_default="0"))
    op.create_index("ix_stream_created", "stream", ["created"])


def downgrade() -> None:
    op.drop_index("ix_stream_created", "stream")
    op.drop_column("stream", "created")
    op.drop_index("ix_device_set_aside_at", "device")
    for name in ("set_aside_fault", "set_aside_at", "set_aside"):
        op.drop_column("device", name)
    op.drop_table("set_aside")

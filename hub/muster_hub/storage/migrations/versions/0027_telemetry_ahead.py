"""Rows beyond their stream's mark, remembered apart from the telemetry itself."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026a"
branch_labels = None
depends_on = None
_KEY = ("device", "stream", "epoch")
_SEED = """
    INSERT INTO telemetry_ahead (device, stream, epoch, sequence)
    SELECT s.device, s.stream, s.epoch, t.sequence FROM stream s JOIN {table} t
    ON t.device = s.device AND t.epoch = s.epoch AND t.sequence > s.contiguous
    WHERE s.stream = '{stream}'"""


def upgrade() -> None:
    op.create_table(
        "telemetry_ahead",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("stream", sa.String(length=16), nullable=False),
        sa.Column("epoch", sa.String(length=32), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*_KEY, "sequence", name="pk_telemetry_ahead"),
        sa.ForeignKeyConstraint(
            _KEY, [f"stream.{name}" for name in _KEY], name="fk_telemetry_ahead_device",
            ondelete="CASCADE",
        ),
    )  # fmt: skip
    for stream, table in (("event", "event"), ("summary", "summary_window"), ("sample", "sample")):
        op.execute(_SEED.format(stream=stream, table=table))


def downgrade() -> None:
    op.drop_table("telemetry_ahead")

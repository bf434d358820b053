"""Numbered changes of devices, and indexes for what a step of the engine looks up by time."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revision",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_revision"),
    )
    op.add_column(
        "device", sa.Column("revision", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_index("ix_device_revision", "device", ["revision"])
    op.create_index("ix_device_certificate_expires", "device", ["certificate_expires"])
    op.create_index("ix_summary_window_start", "summary_window", ["start"])
    op.create_index("ix_event_manifest_kind", "event", ["manifest", "kind"])
    op.create_index("ix_rollout_device_rollout_state", "rollout_device", ["rollout", "state"])
    op.create_index("ix_outbox_message_published_at", "outbox_message", ["published_at"])
    # True until the next window of each says otherwise: no standing trouble is overlooked.
    op.add_column(
        "drift_state", sa.Column("alarming", sa.Boolean(), nullable=False, server_default=sa.true())
    )
    op.create_index("ix_drift_state_manifest_updated", "drift_state", ["manifest", "updated"])
    op.create_index(
        "ix_drift_state_alarming",
        "drift_state",
        ["updated"],
        sqlite_where=sa.text("alarming IS 1"),
        postgresql_where=sa.text("alarming IS true"),
    )
    op.create_index(
        "ix_drift_state_rebaselined",
        "drift_state",
        ["device"],
        sqlite_where=sa.text("rebaselines > 0"),
        postgresql_where=sa.text("rebaselines > 0"),
    )


def downgrade() -> None:
    op.drop_index("ix_drift_state_rebaselined", "drift_state")
    op.drop_index("ix_drift_state_alarming", "drift_state")
    op.drop_index("ix_drift_state_manifest_updated", "drift_state")
    op.drop_column("drift_state", "alarming")
    op.drop_index("ix_outbox_message_published_at", "outbox_message")
    op.drop_index("ix_rollout_device_rollout_state", "rollout_device")
    op.drop_index("ix_event_manifest_kind", "event")
    op.drop_index("ix_summary_window_start", "summary_window")
    op.drop_index("ix_device_certificate_expires", "device")
    op.drop_index("ix_device_revision", "device")
    op.drop_column("device", "revision")
    op.drop_table("revision")

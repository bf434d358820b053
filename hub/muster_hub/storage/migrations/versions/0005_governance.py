"""Webhooks, values posted for gates, anchors of the archived audit log, approval of versions."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATUSES = (
    "status IN ('uploaded', 'checking', 'awaiting_approval', 'checked', 'awaiting_signatures', "
    "'rejected', 'signed', 'published', 'retired')"
)
CONSTRAINT = "ck_version_status"


def upgrade() -> None:
    op.create_table(
        "webhook",
        sa.Column("name", sa.String(length=48), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("notices", sa.JSON(), nullable=False),
        sa.Column("causes", sa.JSON(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("secret_made", sa.Float(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("tried", sa.Float(), nullable=True),
        sa.Column("fault", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_webhook")),
    )
    op.create_table(
        "metric_value",
        sa.Column("rollout", sa.Integer(), nullable=False),
        sa.Column("metric", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["device.id"], name=op.f("fk_metric_value_device")),
        sa.ForeignKeyConstraint(["rollout"], ["rollout.id"], name=op.f("fk_metric_value_rollout")),
        sa.PrimaryKeyConstraint("rollout", "metric", "device", "at", name=op.f("pk_metric_value")),
    )
    op.create_table(
        "audit_anchor",
        sa.Column("rows", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("latest", sa.String(length=64), nullable=False),
        sa.Column("file_sha256", sa.String(length=64), nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("rows", name=op.f("pk_audit_anchor")),
        sa.UniqueConstraint("latest", name=op.f("uq_audit_anchor_latest")),
        sa.UniqueConstraint("previous", name=op.f("uq_audit_anchor_previous")),
    )
    with op.batch_alter_table("version") as batch:
        batch.drop_constraint(op.f(CONSTRAINT), type_="check")
        batch.create_check_constraint(op.f(CONSTRAINT), STATUSES)


def downgrade() -> None:
    op.drop_table("audit_anchor")
    op.drop_table("metric_value")
    op.drop_table("webhook")

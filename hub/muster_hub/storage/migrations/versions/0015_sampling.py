"""Sampling policies and the samples that devices sent."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

ROWID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "sampling_policy",
        sa.Column("id", ROWID, nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("selector", sa.String(), nullable=False),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("bytes_max", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("ended", sa.Float(), nullable=True),
        sa.Column("ended_by", sa.String(), nullable=False),
        sa.Column("ended_reason", sa.String(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "version"],
            ["version.model", "version.version"],
            name=op.f("fk_sampling_policy_model"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sampling_policy")),
    )
    op.create_index("ix_sampling_policy_model_id", "sampling_policy", ["model", "id"])
    op.create_index(
        "ix_sampling_policy_open",
        "sampling_policy",
        ["expires"],
        sqlite_where=sa.text("ended IS NULL"),
        postgresql_where=sa.text("ended IS NULL"),
    )
    op.create_table(
        "sample",
        sa.Column("id", ROWID, nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("epoch", sa.String(length=32), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("policy", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.String(length=64), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("stratum", sa.String(length=16), nullable=False),
        sa.Column("taken", sa.Float(), nullable=False),
        sa.Column("received", sa.Float(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("fault", sa.String(), nullable=False),
        sa.Column("label", sa.String(length=256), nullable=True),
        sa.Column("labelled_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["device.id"], name=op.f("fk_sample_device")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sample")),
        sa.UniqueConstraint(
            "device", "epoch", "sequence", name=op.f("uq_sample_device_epoch_sequence")
        ),
    )
    op.create_index("ix_sample_policy_id", "sample", ["policy", "id"])
    op.create_index("ix_sample_policy_sha256", "sample", ["policy", "sha256"])


def downgrade() -> None:
    for name in ("sample", "sampling_policy"):
        op.drop_table(name)

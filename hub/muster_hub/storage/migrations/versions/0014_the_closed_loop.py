"""Names of versions with their history, gates before a release, sources, and loops."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

STATES = "'wanted', 'training', 'checking', 'signing', 'rollout', 'closed', 'failed', 'abandoned'"
ROWID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "model_alias",
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("alias", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "version"],
            ["version.model", "version.version"],
            name=op.f("fk_model_alias_model"),
        ),
        sa.PrimaryKeyConstraint("model", "alias", name=op.f("pk_model_alias")),
    )
    op.create_table(
        "alias_change",
        sa.Column("id", ROWID, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("alias", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_alias_change_model")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias_change")),
    )
    op.create_index("ix_alias_change_model_id", "alias_change", ["model", "id"])
    op.create_table(
        "release_policy",
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("gates", sa.JSON(), nullable=False),
        sa.Column("updated", sa.Float(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_release_policy")),
    )
    op.create_table(
        "model_source",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uri", sa.String(length=512), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("every_seconds", sa.Float(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("looked", sa.Float(), nullable=True),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("fault", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_source")),
        sa.UniqueConstraint("uri", name=op.f("uq_model_source_uri")),
    )
    op.create_table(
        "loop",
        sa.Column("id", ROWID, nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("opened", sa.Float(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("deadline", sa.Float(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("opened_by", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=False),
        sa.Column("pipeline", sa.String(length=16), nullable=False),
        sa.Column("run", sa.String(length=256), nullable=False),
        sa.Column("run_state", sa.String(length=16), nullable=False),
        sa.Column("run_url", sa.String(length=2048), nullable=False),
        sa.Column("run_fault", sa.String(), nullable=False),
        sa.Column("run_due", sa.Float(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("rollout", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("ended", sa.Float(), nullable=True),
        sa.Column("history", sa.JSON(), nullable=False),
        sa.CheckConstraint(f"state IN ({STATES})", name=op.f("ck_loop_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_loop")),
    )
    op.create_index("ix_loop_model_opened", "loop", ["model", "opened"])
    op.create_index(
        "uq_loop_model_open",
        "loop",
        ["model"],
        unique=True,
        sqlite_where=sa.text("ended IS NULL"),
        postgresql_where=sa.text("ended IS NULL"),
    )


def downgrade() -> None:
    for name in ("loop", "model_source", "release_policy", "alias_change", "model_alias"):
        op.drop_table(name)

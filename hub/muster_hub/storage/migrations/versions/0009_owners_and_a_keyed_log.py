"""Codes that key the audit log, whose each API token is, how far an enrolment token reaches."""

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audit", sa.Column("code", sa.String(64), nullable=False, server_default=""))
    op.add_column(
        "enrol_token", sa.Column("selector", sa.String(), nullable=False, server_default="")
    )
    op.add_column(
        "api_token", sa.Column("owner", sa.String(255), nullable=False, server_default="")
    )
    _fill_owners()


def _fill_owners() -> None:
    """A token is its maker's; one that the hub made, or nobody known, is of who has its name."""
    token = sa.table(
        "api_token", sa.column("hash"), sa.column("name"), sa.column("created"),
        sa.column("created_by"), sa.column("owner"),
    )  # fmt: skip
    bind = op.get_bind()
    found = bind.execute(
        sa.select(token.c.hash, token.c.name, token.c.created_by).order_by(token.c.created)
    ).all()
    makers: dict[str, str] = {}
    for _, name, maker in found:
        makers.setdefault(name, maker)
    for hash_, name, _ in found:
        owner = _owner(name, makers)
        bind.execute(token.update().where(token.c.hash == hash_).values(owner=owner))


def _owner(name: str, makers: Mapping[str, str]) -> str:
    seen: set[str] = set()
    while name not in seen:
        seen.add(name)
        kind, _, maker = makers.get(name, "").partition(":")
        if kind not in {"token", "person"} or not maker:
            break
        name = maker
        if kind == "person":
            break
    return name


def downgrade() -> None:
    op.drop_column("api_token", "owner")
    op.drop_column("enrol_token", "selector")
    op.drop_column("audit", "code")

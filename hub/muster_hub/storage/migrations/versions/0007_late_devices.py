"""From when on a device is late in taking new metadata, computed for the reports that are there."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("device", sa.Column("late_from", sa.Float(), nullable=True))
    _fill_late_from()


def _fill_late_from() -> None:
    """A device that is off tells nothing more, and it is the one that is late."""
    device = sa.table(
        "device",
        sa.column("id", sa.String()),
        sa.column("report", sa.JSON()),
        sa.column("late_from", sa.Float()),
    )
    bind = op.get_bind()
    found = bind.execute(sa.select(device.c.id, device.c.report)).all()
    for name, report in found:
        late = _late_from(report)
        if late is not None:
            bind.execute(device.update().where(device.c.id == name).values(late_from=late))


# As the rule was when this migration was written: what is migrated may not depend on later code.
_WARN_DAYS = {"timestamp": 2.0, "snapshot": 10.0}
_DAY_SECONDS = 86_400.0


def _late_from(report: Any) -> float | None:
    """From when on a device with this report is behind in one role or another."""
    held = report.get("trust") if isinstance(report, dict) else None
    expires = (held or {}).get("expires") or {}
    marks = [
        float(at) - _WARN_DAYS.get(str(role), 90.0) * _DAY_SECONDS for role, at in expires.items()
    ]
    return min(marks, default=None)


def downgrade() -> None:
    op.drop_column("device", "late_from")

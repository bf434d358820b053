"""From when on a device is late in taking new metadata, computed for the reports that are there."""

import sqlalchemy as sa
from alembic import op

from muster_hub import expiry

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
        late = expiry.late_from(report if isinstance(report, dict) else None)
        if late is not None:
            bind.execute(device.update().where(device.c.id == name).values(late_from=late))


def downgrade() -> None:
    op.drop_column("device", "late_from")

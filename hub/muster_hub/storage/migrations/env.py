"""Run by Alembic; the connection is handed over by ``muster_hub.storage.migrate``."""

from alembic import context

from muster_hub.storage import models  # noqa: F401 - fills METADATA
from muster_hub.storage.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()

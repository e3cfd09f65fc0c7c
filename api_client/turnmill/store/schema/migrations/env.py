"""Alembic's way in: it works on the connection that `turnmill.store.schema.migrate` hands over."""

from alembic import context

from turnmill.store.schema.alert_tables import metadata
from turnmill.store.schema.revision import VERSION_TABLE

_given = context.config.attributes

context.configure(
    connection=_given["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    version_table_schema=_given["schema"],
    on_version_apply=_given["noted"],
    transaction_per_migration=True,
    compare_server_default=False,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()

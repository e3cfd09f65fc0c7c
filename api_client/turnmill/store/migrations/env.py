"""Alembic's way in: it works on the connection that `turnmill.store.migrate` hands over."""

from alembic import context

from turnmill.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_server_default=False,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()

"""What alembic runs to bring a database to another version: it works on the connection that it is given."""

from alembic import context

from tb.flow.history.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()

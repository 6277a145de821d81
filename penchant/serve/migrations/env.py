"""What Alembic runs to bring a database to the newest tables: inside the transaction that the caller has begun.

The caller (`engines.migrate`) hands its connection over in the configuration, so nothing here opens a database.
"""

from __future__ import annotations

from alembic import context

from penchant.serve.schema import VERSION_TABLE, metadata

__all__ = ["upgrade"]


def upgrade() -> None:
    """Run the steps that are missing on the caller's connection."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
    with context.begin_transaction():
        context.run_migrations()


if __name__ == "env_py":  # the name under which Alembic loads this file; a plain import does nothing
    upgrade()

"""Bringing a database to this version's schema."""

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect, text

from turnmill.domain.errors import SchemaOutOfDate
from turnmill.store.database import Database
from turnmill.store.tables import metadata

#: The revision that this code needs; a test holds it equal to the newest migration.
HEAD = "0001"

_LOCK = 7_211_884_301  # any number: two `migrate` at once take turns


def upgrade(database_url: str, revision: str = "head") -> None:
    """Run the migrations that are missing. Safe to run twice, and at once from two places."""
    database = Database(database_url)
    try:
        with database.begin() as conn:
            if database.is_postgres:
                conn.execute(text("SET LOCAL statement_timeout = 0"))
                conn.execute(text("SET LOCAL lock_timeout = '60s'"))
                conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            command.upgrade(_config(conn), revision)
    finally:
        database.close()


def downgrade(database_url: str, revision: str) -> None:
    """Go back to an earlier revision; `base` removes every table."""
    database = Database(database_url)
    try:
        with database.begin() as conn:
            command.downgrade(_config(conn), revision)
    finally:
        database.close()


def create_all(conn: Connection) -> None:
    """Create the tables of a store that lives in memory, where there is nothing to migrate."""
    metadata.create_all(conn)


def current(conn: Connection) -> str | None:
    """Return the revision that the database is at, or None for an empty one."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    revision: str | None = conn.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def require_current(conn: Connection) -> None:
    """Raise SchemaOutOfDate unless the database is at the revision that this code needs."""
    found = current(conn)
    if found != HEAD:
        raise SchemaOutOfDate(
            f"the database is at revision {found or 'none'}, this version needs {HEAD}"
        )


def _config(conn: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "turnmill.store:migrations")
    config.attributes["connection"] = conn
    return config

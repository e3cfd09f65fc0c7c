"""Which schema a database has, and which one this code needs."""

from sqlalchemy import Connection, inspect, text

from turnmill.domain.errors import SchemaOutOfDate
from turnmill.store.database import Database
from turnmill.store.tables import metadata

#: The revision that this code needs; a test holds it equal to the newest migration.
HEAD = "0001"


def create_all(conn: Connection) -> None:
    """Create the tables of a store that lives in memory, where there is nothing to migrate."""
    metadata.create_all(conn)


def current(conn: Connection) -> str | None:
    """Return the revision that the database is at, or None for an empty one."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    revision: str | None = conn.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def revision_of(database_url: str) -> str | None:
    """Return the revision of the database at this URL, or None for an empty one."""
    database = Database(database_url, pool_size=1, overflow=0)
    try:
        with database.begin() as conn:
            return current(conn)
    finally:
        database.close()


def require_current(conn: Connection) -> None:
    """Raise SchemaOutOfDate unless the database is at the revision that this code needs."""
    found = current(conn)
    if found != HEAD:
        raise SchemaOutOfDate(
            f"the database is at revision {found or 'none'}, this version needs {HEAD}"
        )

"""Which schema a database has, and which ones this code runs on."""

from functools import cache

from sqlalchemy import Connection, event, inspect, text

from turnmill.domain.errors import SchemaOutOfDate
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.database import Database
from turnmill.store.schema.alert_tables import metadata
from turnmill.store.schema.tables import sessions
from turnmill.store.schema_name import SCHEMA, execute

#: The newest revision that this code knows; a test holds it equal to the newest migration.
HEAD = "0058"
#: The oldest revision that this code runs on: that of its newest migration of the kind `pre`.
NEEDS = "0058"

#: Our own: an application with Alembic has a table `alembic_version` in the same database.
VERSION_TABLE = "schema_version"
#: Where versions of before kept the revision.
OLD_VERSION_TABLE = "alembic_version"
_FIRST = "0001"  # no later one was ever written there


def create_all(conn: Connection) -> None:
    """Create the tables of a store that lives in memory, where there is nothing to migrate.

    Those that are there stay as they are.
    """
    if Capability.SCHEMAS in capabilities_of(conn):
        metadata.create_all(conn)
        return
    if not inspect(conn).has_table(sessions.name):
        _create_in_sqlite(conn)


def _create_in_sqlite(conn: Connection) -> None:
    for statement in _in_sqlite():
        conn.exec_driver_sql(statement)


@cache
def _in_sqlite() -> tuple[str, ...]:
    """Return what makes the tables in SQLite: to word it takes longer than to do it.

    Tests of applications open a store in memory each.
    """
    said: list[str] = []
    database = Database("sqlite://")
    with database.begin() as conn:
        event.listen(conn, "before_cursor_execute", lambda *given: said.append(given[2]))
        metadata.create_all(conn, checkfirst=False)
    database.close()
    return tuple(said)


def current(conn: Connection, *, schema: str | None = SCHEMA) -> str | None:
    """Return the revision of the tables in this schema (None: SQLite), or None for none."""
    place = schema if Capability.SCHEMAS in capabilities_of(conn) else None
    if inspect(conn).has_table(VERSION_TABLE, schema=place):
        name = f'"{place}".{VERSION_TABLE}' if place else VERSION_TABLE
        revision: str | None = conn.scalar(text(f"SELECT version_num FROM {name}"))
        return revision
    return _FIRST if place is None and has_old_version_table(conn) else None


def has_old_version_table(conn: Connection) -> bool:
    """Tell whether a file has our revision in a table that an application may also have."""
    found = inspect(conn)
    if not found.has_table(OLD_VERSION_TABLE) or not found.has_table(sessions.name):
        return False
    ours = any(one["name"] == "head_turn_id" for one in found.get_columns(sessions.name))
    noted = conn.scalars(text(f"SELECT version_num FROM {OLD_VERSION_TABLE}")).all()
    return ours and noted == [_FIRST]


def revision_of(database_url: str, *, schema: str = SCHEMA) -> str | None:
    """Return the revision of the database at this URL, or None for an empty one."""
    database = Database(database_url, schema=schema, pool_size=1, overflow=0)
    try:
        with database.begin() as conn:
            return current(conn, schema=database.schema)
    finally:
        database.close()


def require_current(conn: Connection, *, schema: str | None = SCHEMA) -> None:
    """Raise SchemaOutOfDate unless this code runs on the database as it is.

    That is so from `NEEDS` to `HEAD`, and on later revisions for as long as they say that they
    serve code which knows no more than `HEAD`: versions of before and after run side by side.
    """
    found = current(conn, schema=schema)
    if found is not None and NEEDS <= found <= HEAD:
        return
    if found is None or found < NEEDS:
        raise SchemaOutOfDate(
            f"the database is at revision {found or 'none'}, this version needs {NEEDS}"
        )
    served = _serves(conn, found)
    if served > HEAD:
        raise SchemaOutOfDate(
            f"the database is at revision {found}, which serves versions from {served} on;"
            f" this one knows up to {HEAD}",
            hint="install the version that migrated it",
        )


def _serves(conn: Connection, revision: str) -> str:
    """Return the revision that code must know of at least to run on this one."""
    if Capability.ROLLING_MIGRATIONS not in capabilities_of(conn):
        return revision
    found: str | None = execute(
        conn,
        "SELECT serves FROM turnmill.revisions WHERE revision = %(revision)s",
        {"revision": revision},
    ).scalar()
    return found or revision

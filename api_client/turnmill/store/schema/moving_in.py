"""Into a schema of our own: made where it is missing, with the tables of a store of before."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from turnmill.store.schema.revision import OLD_VERSION_TABLE, VERSION_TABLE

#: Until then tables stood wherever the connection's search path led, in most stores `public`.
_TABLES = (
    "announcements",
    "attempts",
    "batches",
    "job_runs",
    "messages",
    "pauses",
    "sessions",
    "turns",
    "usage_daily",
)
_REVISION = "0001"

# An application may have a table `sessions` of its own: ours is known by a column, and by the
# revision beside it.
_OLD_HOME = text("""
SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'head_turn_id' AND NOT a.attisdropped
WHERE c.relname = 'sessions' AND c.relkind = 'r' AND n.nspname <> :schema
    AND pg_table_is_visible(c.oid)
""")
_EXISTS = text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema)")
_IS_MOVED = text("SELECT to_regclass(:table) IS NOT NULL")
_SEARCH_PATH = text("SELECT current_user, current_database(), current_setting('search_path')")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was done so that an application beside us notices nothing."""

    tables_from: str | None  #: the schema that tables of before stood in
    search_path: str | None  #: what the role's search path was set to, in this database


def move_in(conn: Connection, schema: str) -> Moved | None:
    """Make the schema, and bring the tables of a store of before; None where nothing was to do.

    In the caller's transaction. Needs the right to create a schema, unless it stands already.
    Workers and clients of before must have stopped: they look for the tables where they were.
    """
    if conn.scalar(_IS_MOVED, {"table": f'"{schema}".{VERSION_TABLE}'}):
        return None
    old_home = home_of_before(conn, schema)
    search_path = None
    if not conn.scalar(_EXISTS, {"schema": schema}):
        search_path = _keep_names_of_others(conn, schema)
        conn.execute(text(f'CREATE SCHEMA "{schema}"'))
    if old_home is not None:
        _bring(conn, old_home, schema)
    return Moved(tables_from=old_home, search_path=search_path)


def home_of_before(conn: Connection, schema: str) -> str | None:
    """Return the schema in which the tables of a store of before stand, or None."""
    home: str | None = conn.scalar(_OLD_HOME, {"schema": schema})
    if home is None or not conn.scalar(_IS_MOVED, {"table": _versions_in(home)}):
        return None
    return home if _REVISION in _noted(conn, home) else None


def _versions_in(home: str) -> str:
    return f'"{home}".{OLD_VERSION_TABLE}'


def _noted(conn: Connection, home: str) -> Sequence[str]:
    return conn.scalars(text(f"SELECT version_num FROM {_versions_in(home)}")).all()


def _bring(conn: Connection, old_home: str, schema: str) -> None:
    """Move every table, with its rows, indexes and constraints."""
    versions, noted = _versions_in(old_home), _noted(conn, old_home)
    for table in _TABLES:
        conn.execute(text(f'ALTER TABLE "{old_home}"."{table}" SET SCHEMA "{schema}"'))
    conn.execute(
        text(f'CREATE TABLE "{schema}".{VERSION_TABLE} (version_num varchar(32) PRIMARY KEY)')
    )
    conn.execute(text(f'INSERT INTO "{schema}".{VERSION_TABLE} VALUES (:one)'), {"one": _REVISION})
    if len(noted) == 1:
        conn.execute(text(f"DROP TABLE {versions}"))
    else:  # an application has written into it, too
        conn.execute(text(f"DELETE FROM {versions} WHERE version_num = :one"), {"one": _REVISION})


def _keep_names_of_others(conn: Connection, schema: str) -> str | None:
    """Keep the bare names of this role's own tables meaning what they mean now.

    By default a role looks first into the schema that bears its name. A role called like our
    schema, which an application may share with us, would from now on find our tables before its
    own. So that entry is taken out of its search path, in this database, and nothing else.
    """
    role, database, search_path = conn.execute(_SEARCH_PATH).one()
    entries = [entry.strip() for entry in search_path.split(",")]
    kept = [entry for entry in entries if entry != '"$user"']
    if role != schema or kept == entries:
        return None
    found = ", ".join(kept) or '""'
    conn.execute(text(f'ALTER ROLE "{role}" IN DATABASE "{database}" SET search_path = {found}'))
    return found

"""A look: one moment of the store, read only, and given up by the server when it takes too long."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from turnmill.store.database import Database
from turnmill.store.schema_name import execute

# One moment for all statements, so that the numbers of a page agree with each other. Elsewhere
# tables are read by keys; whoever counts all of them is better served by reading them through.
_BEGIN = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_SET_UP = """
SELECT set_config('statement_timeout', %(limit)s, true), set_config('enable_seqscan', 'on', true),
    set_config('plan_cache_mode', 'force_custom_plan', true), statement_timestamp()
"""
_THERE = """
SELECT a.attname FROM pg_attribute a
WHERE a.attrelid = to_regclass('turnmill.{table}') AND a.attnum > 0 AND NOT a.attisdropped
    AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')
"""


@contextmanager
def look(database: Database, *, within: timedelta) -> Iterator[tuple[Connection, datetime]]:
    """Give a connection, and the moment that it shows.

    A statement that takes longer than `within` raises StoreUnavailable.
    """
    limit = str(round(within.total_seconds() * 1000))
    with database.begin() as conn:
        execute(conn, _BEGIN)
        moment: datetime = execute(conn, _SET_UP, {"limit": limit}).one()[-1]
        yield conn, moment.astimezone(UTC)


def columns_there(conn: Connection, table: str) -> frozenset[str]:
    """Return the columns of a table that this role may read; none where there is no such table.

    Tables come with versions: what a database does not have yet is not shown.
    """
    rows: Any = execute(conn, _THERE.format(table=table)).scalars()
    return frozenset(map(str, rows))

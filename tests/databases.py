"""Migrated databases of a run: a test gets one without a row, and leaves it to the next one.

To copy the template takes a tenth of a second of the server's, to empty a copy some milliseconds.
Only what is as it was made is used again: with its tables, rights and settings, and with nobody
connected to it but us, who look: a connection that has looked knows the tables, and what it takes
to learn of them is most of the work.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from turnmill_worker.stack.postgres import EmbeddedPostgres

#: A test that has written much leaves room, and figures of it, that another would stumble over.
_MOST_BYTES = 4_000_000
#: A connection that was closed is there for a moment yet.
_TRIES, _PAUSE = 10, 0.01

_SHAPE = """
SELECT md5(string_agg(one, ';' ORDER BY one)) FROM (
    SELECT concat_ws(' ', 'class', c.oid, c.relname, c.relkind, c.relowner, c.relpersistence,
        c.relacl, c.reloptions) AS one
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid >= 16384 AND n.nspname !~ '^pg_'
    UNION ALL
    SELECT concat_ws(' ', 'column', attrelid, attnum, attname, atttypid, attnotnull, attacl)
    FROM pg_attribute WHERE attrelid >= 16384 AND attrelid IN (
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_')
    UNION ALL
    SELECT concat_ws(' ', 'default', oid, md5(adbin::text)) FROM pg_attrdef WHERE oid >= 16384
    UNION ALL
    SELECT concat_ws(' ', 'constraint', oid, conname, convalidated)
    FROM pg_constraint WHERE oid >= 16384
    UNION ALL
    SELECT concat_ws(' ', 'index', indexrelid, indisvalid) FROM pg_index WHERE indexrelid >= 16384
        AND indrelid IN (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname !~ '^pg_')
    UNION ALL
    SELECT concat_ws(' ', 'function', oid, proname, proowner, proacl, md5(prosrc))
    FROM pg_proc WHERE oid >= 16384
    UNION ALL
    SELECT concat_ws(' ', 'trigger', oid, tgname, tgenabled) FROM pg_trigger WHERE oid >= 16384
    UNION ALL
    SELECT concat_ws(' ', 'schema', oid, nspname, nspowner, nspacl)
    FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
    UNION ALL
    SELECT concat_ws(' ', 'setting', setrole, setconfig)
    FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
    WHERE d.datname = current_database()
    UNION ALL
    SELECT concat_ws(' ', 'rights', defaclrole, defaclnamespace, defaclobjtype, defaclacl)
    FROM pg_default_acl
    UNION ALL
    SELECT concat_ws(' ', 'database', datdba, datacl, datconnlimit, datallowconn)
    FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT concat_ws(' ', 'extension', oid, extname) FROM pg_extension
    UNION ALL
    SELECT concat_ws(' ', 'version', version_num) FROM turnmill.schema_version
    UNION ALL
    SELECT concat_ws(' ', 'revision', revision, serves) FROM turnmill.revisions
) AS every
"""
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
#: The tables that have rows of tests.
TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'turnmill' AND c.relkind = 'r'
    AND c.relname NOT IN ('schema_version', 'revisions')
"""
_SEQUENCES_ANEW = """
SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
FROM pg_sequences WHERE schemaname = 'turnmill'
"""


class Databases:
    """Copies of a template, each used by one test at a time."""

    def __init__(
        self, server: EmbeddedPostgres, make: Callable[[], str], drop: Callable[[str], None]
    ) -> None:
        self._server = server
        self._make = make
        self._drop = drop
        self._free: list[str] = []
        self._made: tuple[str, int] | None = None  #: the shape and the size of a new one
        self._looking: dict[str, psycopg.Connection] = {}  #: into each, by its name

    @contextmanager
    def one(self) -> Iterator[str]:
        """Yield the URL of one without a row."""
        name = self._free.pop() if self._free else self._make()
        if self._made is None:
            self._made = _made_of(self._look_into(name))
        yield self._server.url_of(name)
        if self._is_as_made(name):
            self._free.append(name)
        else:
            self._look_no_more(name)
            self._drop(name)

    def close(self) -> None:
        for name in list(self._looking):
            self._look_no_more(name)

    def _look_into(self, name: str) -> psycopg.Connection:
        found = self._looking.get(name)
        if found is None or not _answers(found):  # a test has ended every connection
            self._look_no_more(name)
            url = self._server.url_of(name)
            found = self._looking[name] = psycopg.connect(url, autocommit=True)
        return found

    def _look_no_more(self, name: str) -> None:
        if name in self._looking:
            self._looking.pop(name).close()

    def _is_as_made(self, name: str) -> bool:
        assert self._made is not None
        try:
            conn = self._look_into(name)
            if not _is_left_alone(conn):
                return False
            shape, size = _made_of(conn)
            if shape != self._made[0] or size > self._made[1] + _MOST_BYTES:
                return False
            _empty(conn)
        except psycopg.Error:  # it is gone, or closed to us
            return False
        return True


def _answers(conn: psycopg.Connection) -> bool:
    try:
        conn.execute("SELECT")
    except psycopg.Error:
        return False
    return True


def _made_of(conn: psycopg.Connection) -> tuple[str, int]:
    (shape,) = conn.execute(_SHAPE).fetchone() or ("",)
    (size,) = conn.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
    return shape, size


def _is_left_alone(conn: psycopg.Connection) -> bool:
    for _ in range(_TRIES):
        if conn.execute(_OTHERS).fetchone() == (0,):
            return True
        time.sleep(_PAUSE)
    return False


def _empty(conn: psycopg.Connection) -> None:
    tables = [str(name) for (name,) in conn.execute(TABLES)]
    with conn.transaction():
        conn.execute("SET LOCAL lock_timeout = '2s'")
        conn.execute("SET LOCAL session_replication_role = replica")
        conn.execute("; ".join(f'DELETE FROM turnmill."{name}"' for name in tables))
        conn.execute(_SEQUENCES_ANEW)

"""Roles of Postgres: who owns the tables, who works on their rows, and who may do a part of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql
from sqlalchemy import Connection

from turnmill.domain.errors import InvalidSetting, UnsupportedByStore
from turnmill.store.database import Database, parse_url
from turnmill.store.schema.grants import (
    ANALYSED,
    AUDITED,
    PRODUCED,
    PRODUCER_SEQUENCES,
    RUN_BY_RUNTIME,
    VIEWED,
    WHOLE,
    WITHHELD,
    Grant,
)
from turnmill.store.schema.moving_in import move_in
from turnmill.store.schema_name import SCHEMA

#: What the viewer may ask for: dispatchers do it, should the turn allow it. And one bit of what it
#: does not see.
ASKED_BY_VIEWERS = ("ask_cancel", "ask_retry", "falls_back")
#: Those of the schema, which a migration made; those of triggers, too.
FUNCTIONS = (
    *(*ASKED_BY_VIEWERS, *RUN_BY_RUNTIME, "audit_keep", "audit_keep_whole"),
    *("audit_at_now", "audit_in_place"),
    *("refuse_erased_user_id", "refuse_erased_name", "refuse_erased_sender"),
    "refuse_erased_budget",
)

_POWERS = ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")


@dataclass(frozen=True, slots=True)
class Login:
    """A role that logs in."""

    name: str
    password: str = field(repr=False)

    @classmethod
    def of(cls, variable: str, url: str) -> "Login":
        """Return the login that a URL names; raises InvalidSetting where it names none."""
        parsed = parse_url(url)
        if not parsed.username or not parsed.password:
            raise InvalidSetting(
                f"{variable} names no role and password", hint="postgresql://role:password@host/…"
            )
        return cls(parsed.username, str(parsed.password))


class _Do:
    """Runs a statement in which names stand for `{}`."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._driver: Any = conn.connection.driver_connection

    def __call__(self, statement: str, *names: str) -> None:
        template: Any = statement
        self._run(sql.SQL(template).format(*map(sql.Identifier, names)))

    def set_password(self, login: Login) -> None:
        """Set it as the server keeps it: statements that failed, or were slow, may be logged."""
        role, password = login.name.encode(), login.password.encode()
        kept = self._driver.pgconn.encrypt_password(password, role, b"scram-sha-256").decode()
        self._run(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(login.name), kept))

    def _run(self, statement: sql.Composed) -> None:
        self._conn.exec_driver_sql(statement.as_string(self._driver).replace("%", "%%"))


#: Whoever may log in could fill the disk by these, a role that may only look, too.
_MAKING_LARGE_OBJECTS = ("lo_creat(integer)", "lo_create(oid)", "lo_from_bytea(oid, bytea)")


def make_roles(
    admin_url: str,
    *,
    owner: Login,
    runtime: Login,
    viewer: Login | None = None,
    producer: Login | None = None,
    auditor: Login | None = None,
    analyst: Login | None = None,
    schema: str = SCHEMA,
) -> None:
    """Let these roles exist with these passwords, and own and use what they are to. Repeatable.

    In a database of Turnmill's own: what everybody may do there by default is taken away. Tables
    that stand already, a store of before included, are handed over to the owner. `admin_url` leads
    there as a superuser, or as the database's owner with CREATEROLE.
    """
    users = [runtime, *filter(None, (viewer, producer, auditor, analyst))]
    with _administering(admin_url, schema) as conn:
        do = _Do(conn)
        _refuse_same(conn, [owner, *users])
        for login in (owner, *users):
            _let_log_in(conn, do, login)
        for login in users:
            _take_memberships(conn, do, login.name)
        if not conn.exec_driver_sql(_IS_SUPERUSER).scalar():
            do("GRANT {} TO CURRENT_USER", owner.name)  # who hands over to a role, is of it
        _close_database(conn, do, owner.name, [login.name for login in users])
        move_in(conn, schema)
        _hand_over(conn, do, schema, owner.name)
        others = {"viewer": viewer, "producer": producer, "auditor": auditor, "analyst": analyst}
        named = {what: login.name if login else None for what, login in others.items()}
        grant_to(conn, schema=schema, runtime=runtime.name, **named)


def grant_to(
    conn: Connection,
    *,
    schema: str = SCHEMA,
    runtime: str | None,
    viewer: str | None,
    producer: str | None = None,
    auditor: str | None = None,
    analyst: str | None = None,
) -> None:
    """Let roles that exist do their part on the tables as they are, and the first on those to come.

    In the caller's transaction, as the owner of the schema or a superuser.
    """
    do = _Do(conn)
    for role in filter(None, (runtime, viewer, producer, auditor, analyst)):
        do("GRANT USAGE ON SCHEMA {} TO {}", schema, role)
    if runtime:
        _grant_rows(conn, do, schema, runtime)
    if viewer:
        _grant_looks(conn, do, schema, viewer)
    if producer:
        _grant_columns(conn, do, schema, producer, PRODUCED)
        for sequence in _there(conn, schema, PRODUCER_SEQUENCES):
            do("GRANT USAGE ON SEQUENCE {}.{} TO {}", schema, sequence, producer)
    if auditor:
        _grant_columns(conn, do, schema, auditor, AUDITED)
    if analyst:
        _grant_columns(conn, do, schema, analyst, ANALYSED)


def _grant_rows(conn: Connection, do: _Do, schema: str, role: str) -> None:
    do("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {} TO {}", schema, role)
    do("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {} TO {}", schema, role)
    there = _relations(conn, schema)
    for table in filter(there.__contains__, WITHHELD):
        do(f"REVOKE {', '.join(WITHHELD[table])} ON {{}}.{{}} FROM {{}}", schema, table, role)
    for function, arguments in _functions(conn, schema, RUN_BY_RUNTIME):
        do(f"GRANT EXECUTE ON FUNCTION {{}}.{{}}({arguments}) TO {{}}", schema, function, role)
    owner = str(conn.exec_driver_sql(_OWNER, {"schema": schema}).scalar_one())
    later = "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT"
    do(later + " SELECT, INSERT, UPDATE, DELETE ON TABLES TO {}", owner, schema, role)
    do(later + " USAGE, SELECT ON SEQUENCES TO {}", owner, schema, role)


def _grant_looks(conn: Connection, do: _Do, schema: str, role: str) -> None:
    # Of a store of before, what it has by now; a migration that adds columns has it granted again.
    there = _columns(conn, schema)
    for table, viewed in VIEWED.items():
        if columns := [one for one in viewed if one in there.get(table, ())]:
            names = ", ".join("{}" for _ in columns)
            do(f"GRANT SELECT ({names}) ON {{}}.{{}} TO {{}}", *columns, schema, table, role)
    for function, arguments in _functions(conn, schema, ASKED_BY_VIEWERS):
        do(f"GRANT EXECUTE ON FUNCTION {{}}.{{}}({arguments}) TO {{}}", schema, function, role)


def _grant_columns(
    conn: Connection, do: _Do, schema: str, role: str, granted: Mapping[str, Grant]
) -> None:
    """Grant this and nothing else: what the role may have been before is taken away."""
    do("REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM {}", schema, role)
    do("REVOKE ALL ON ALL SEQUENCES IN SCHEMA {} FROM {}", schema, role)
    for table in _there(conn, schema, granted):
        for verb, columns in zip(Grant._fields, granted[table], strict=True):
            if columns == WHOLE:
                do(f"GRANT {verb.upper()} ON {{}}.{{}} TO {{}}", schema, table, role)
            elif columns:
                names = ", ".join("{}" for _ in columns)
                statement = f"GRANT {verb.upper()} ({names}) ON {{}}.{{}} TO {{}}"
                do(statement, *columns, schema, table, role)


@contextmanager
def _administering(admin_url: str, schema: str) -> Iterator[Connection]:
    database = Database(admin_url, schema=schema, pool_size=1, overflow=0)
    try:
        if not database.is_postgres:
            raise UnsupportedByStore("roles are a thing of Postgres")
        with database.begin() as conn:
            yield conn
    finally:
        database.close()


def _refuse_same(conn: Connection, logins: Sequence[Login]) -> None:
    names = [str(conn.exec_driver_sql("SELECT current_user").scalar_one())]
    for login in logins:
        if login.name in names:
            raise InvalidSetting(
                "a role cannot be both",
                hint="admin, owner, runtime, viewer, producer, auditor, analyst",
            )
        names.append(login.name)


def _let_log_in(conn: Connection, do: _Do, login: Login) -> None:
    found = conn.exec_driver_sql(_ATTRIBUTES, {"role": login.name}).first()
    if found is None:
        do("CREATE ROLE {}", login.name)
    for power, has in zip(_POWERS, found or (), strict=False):
        if has:
            do(f"ALTER ROLE {{}} NO{power}", login.name)
    do("ALTER ROLE {} LOGIN", login.name)
    do.set_password(login)


def _take_memberships(conn: Connection, do: _Do, role: str) -> None:
    for group in conn.exec_driver_sql(_MEMBER_OF, {"role": role}).scalars():
        do("REVOKE {} FROM {}", group, role)


def _close_database(conn: Connection, do: _Do, owner: str, users: Iterable[str]) -> None:
    if conn.exec_driver_sql(_IS_SUPERUSER).scalar():  # nobody else can take that away
        for function in _MAKING_LARGE_OBJECTS:
            do(f"REVOKE EXECUTE ON FUNCTION pg_catalog.{function} FROM PUBLIC")
    name = str(conn.exec_driver_sql("SELECT current_database()").scalar_one())
    do("REVOKE ALL ON DATABASE {} FROM PUBLIC", name)
    do("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {} TO {}", name, owner)
    for user in users:
        do("REVOKE CREATE, TEMPORARY ON DATABASE {} FROM {}", name, user)
        do("GRANT CONNECT ON DATABASE {} TO {}", name, user)
    if conn.exec_driver_sql("SELECT to_regnamespace('public') IS NOT NULL").scalar():
        do("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # before Postgres 15 everybody may


def _hand_over(conn: Connection, do: _Do, schema: str, owner: str) -> None:
    do("ALTER SCHEMA {} OWNER TO {}", schema, owner)
    for name, kind in _relations(conn, schema).items():
        do(f"ALTER {kind} {{}}.{{}} OWNER TO {{}}", schema, name, owner)
    for function, arguments in _functions(conn, schema, FUNCTIONS):  # with their owner's rights
        do(f"ALTER FUNCTION {{}}.{{}}({arguments}) OWNER TO {{}}", schema, function, owner)


def _relations(conn: Connection, schema: str) -> dict[str, str]:
    """Return the name and kind of what stands in the schema by itself."""
    rows = conn.exec_driver_sql(_RELATIONS, {"schema": schema})
    return {row.name: row.kind for row in rows}


def _columns(conn: Connection, schema: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table, column in conn.exec_driver_sql(_COLUMNS, {"schema": schema}):
        found.setdefault(table, set()).add(column)
    return found


def _there(conn: Connection, schema: str, names: Iterable[str]) -> list[str]:
    """Return those of these tables and sequences that stand in the schema."""
    found = set(conn.exec_driver_sql(_NAMES, {"schema": schema}).scalars())
    return [one for one in names if one in found]


def _functions(conn: Connection, schema: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return those of these functions that stand in the schema, with the types of arguments."""
    wanted = {"schema": schema, "names": list(names)}
    rows = conn.exec_driver_sql(_FUNCTIONS, wanted)
    return [(row.name, row.arguments) for row in rows]


_NAMES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p', 'v', 'S')
"""
_FUNCTIONS = """
SELECT p.proname AS name, oidvectortypes(p.proargtypes) AS arguments
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %(schema)s AND p.proname = ANY(%(names)s)
"""
_IS_SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
_OWNER = "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %(schema)s"
_ATTRIBUTES = """
SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls
FROM pg_roles WHERE rolname = %(role)s
"""
_MEMBER_OF = """
SELECT g.rolname FROM pg_auth_members m
JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
WHERE r.rolname = %(role)s
"""
_COLUMNS = """
SELECT table_name::text, column_name::text FROM information_schema.columns
WHERE table_schema = %(schema)s
"""
_RELATIONS = """
SELECT c.relname AS name, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW'
    ELSE 'TABLE' END AS kind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p', 'v', 'S')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i'))
"""

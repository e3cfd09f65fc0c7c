"""Bringing a database to this version's schema, with workers of the version before still at work.

A migration is `pre` when the code of before goes on running on what it leaves, and `post` when it
does not: it waits until that code is gone. Each runs in a transaction of its own, unless it asks
for none, and waits for locks only for moments, so that nobody queues behind it.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, event, inspect, text

from turnmill.domain.errors import AccessDenied, InvalidInput, SessionBusy, UnsupportedByStore
from turnmill.store.capabilities import Capability, require
from turnmill.store.database import Database
from turnmill.store.dialing import is_pooled
from turnmill.store.refusals import translated
from turnmill.store.schema.files import refuse_file, refuse_incomplete_file
from turnmill.store.schema.moving_in import Moved, move_in
from turnmill.store.schema.revision import (
    HEAD,
    OLD_VERSION_TABLE,
    VERSION_TABLE,
    current,
    has_old_version_table,
)
from turnmill.store.schema.role_settings import settle
from turnmill.store.schema.roles import grant_to
from turnmill.store.schema_name import SCHEMA, execute

T = TypeVar("T")

#: Folders of migrations, as Alembic names them.
VERSIONS: tuple[str, ...] = ("turnmill.store.schema:migrations/versions",)

_LOCK = 7_211_884_301  # any number: two `migrate` at once take turns
#: A lock that is not had by then is asked for again later: behind a waiting ALTER TABLE everybody
#: else waits too.
_SHORT_WAITS = {"lock_timeout": "2s"}
#: What a database or a role may have set, from Postgres 17 on: no step is cut off by it.
_NO_END = {"transaction_timeout": "0"}
_NO_BOUNDS = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    **_NO_END,
}
_SET = """
SELECT set_config(name, %(value)s, %(within)s) FROM pg_settings WHERE name = %(name)s
"""
_OWNERS = """
SELECT pg_get_userbyid(c.relowner), current_user FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s
"""
_TRIES = 30
_PAUSE_SECONDS = 1.0

#: What is counted before somebody goes back.
_TELLING = ("sessions", "turns", "messages", "batches")
_COUNTED = 1_000_000

_REVISIONS = """
CREATE TABLE IF NOT EXISTS turnmill.revisions (
    revision text PRIMARY KEY,
    serves text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
_NOTE = """
INSERT INTO turnmill.revisions (revision, serves) VALUES (%(revision)s, %(serves)s)
ON CONFLICT (revision) DO UPDATE SET serves = EXCLUDED.serves, applied_at = clock_timestamp()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What `upgrade` did."""

    before: str | None  #: the revision that was found; None: an empty store
    after: str | None
    moved: Moved | None  #: what moving into the schema took, where it was needed
    #: What connections of these roles begin with from now on; "" is the role that migrated.
    settled: Mapping[str, Sequence[str]] = field(default_factory=dict)


def upgrade(
    database_url: str,
    revision: str = "head",
    *,
    schema: str = SCHEMA,
    finish: bool = True,
    pooled_roles: Sequence[str] = (),
) -> Migrated:
    """Run the migrations that are missing. Safe to run twice, and at once from two places.

    Without `finish`, the newest ones of the kind `post` are left for when the code of before is
    gone; an empty store gets them at once. `pooled_roles` are those that come through a pooler; one
    that is seen to is among them. Raises SessionBusy when others held a lock for minutes.
    """
    refuse_unknown_revision(revision)
    database = Database(database_url, schema=schema, pool_size=2, overflow=0)
    try:
        if not database.is_postgres:
            return _upgrade_file(database, revision)
        if revision == "head" and not pooled_roles and (found := _found_at_head(database)):
            return Migrated(before=found, after=found, moved=None)
        with _migrating(database) as (conn, moved):
            before = current(conn, schema=schema)
            target = revision
            if revision == "head" and not finish and before is not None:
                target = _without_last_posts(_config(conn, schema), at_least=before)
            conn.commit()
            _patiently(conn, lambda: command.upgrade(_config(conn, schema), target))
            after = current(conn, schema=schema)
            conn.commit()
            settled = _patiently(conn, lambda: _settle_roles(conn, pooled_roles))
            return Migrated(before=before, after=after, moved=moved, settled=settled)
    finally:
        database.close()


def grant(
    database_url: str,
    *,
    schema: str,
    runtime: str | None,
    viewer: str | None,
    producer: str | None = None,
    auditor: str | None = None,
    analyst: str | None = None,
) -> None:
    """Let roles that exist do their part on the tables; `database_url` is the owner's."""
    database = Database(database_url, schema=schema, pool_size=1, overflow=0)
    try:
        with database.begin() as conn:
            require(conn, Capability.SCHEMAS)
            roles = {"runtime": runtime, "viewer": viewer, "producer": producer}
            grant_to(conn, schema=schema, **roles, auditor=auditor, analyst=analyst)
    finally:
        database.close()


def downgrade(database_url: str, revision: str, *, schema: str = SCHEMA) -> None:
    """Go back to an earlier revision; `base` removes every table but the note of revisions."""
    refuse_unknown_revision(revision)
    database = Database(database_url, schema=schema, pool_size=2, overflow=0)
    try:
        if not database.is_postgres:
            with database.begin() as conn, _known_revisions():
                _rename_version_table(conn)
                command.downgrade(_config(conn, None), revision)
            return
        with _migrating(database) as (conn, _):
            _patiently(conn, lambda: command.downgrade(_config(conn, schema), revision))
    finally:
        database.close()


@contextmanager
def whose(database_url: str, *, schema: str = SCHEMA) -> Iterator[None]:
    """Say whose the tables are, where the role may not change them: a dump may have moved them."""
    try:
        yield
    except AccessDenied as denied:
        owners = _owners(database_url, schema)
        if owners is None and denied.hint.startswith("GRANT it SELECT"):
            raise AccessDenied(
                f"this role may not make the schema {schema} in the database (sqlstate 42501)",
                hint="GRANT it CREATE ON DATABASE, or migrate as a role that has it:"
                " TURNMILL_OWNER_URL",
            ) from None
        if owners is None or owners[0] == owners[1]:
            raise
        raise AccessDenied(
            f"the tables belong to {owners[0]}, and this is {owners[1]}",
            hint="migrate as their owner (TURNMILL_OWNER_URL), or let `turnmill roles` hand them"
            " over, as after a pg_restore that was run as somebody else",
        ) from None


def _owners(database_url: str, schema: str) -> tuple[str, str] | None:
    """Return whose the tables are, and who asks; None where there are none, or nobody is let in."""
    database = Database(database_url, schema=schema, pool_size=1, overflow=0)
    try:
        if not database.is_postgres:
            return None
        with database.begin() as conn:
            row = execute(conn, _OWNERS, {"schema": schema, "table": VERSION_TABLE}).one_or_none()
            return None if row is None else (row[0], row[1])
    except AccessDenied:
        return None
    finally:
        database.close()


def refuse_unknown_revision(revision: str) -> None:
    """Raise InvalidInput unless this version knows the revision, by the whole of its name."""
    if revision in ("head", "base"):
        return
    scripts = ScriptDirectory.from_config(_config(None, None))
    known = sorted(script.revision for script in scripts.walk_revisions())
    if revision not in known:
        raise InvalidInput(
            f"this version has no revision {revision!r}",
            hint=f"{known[0]} to {known[-1]}, `head` for the newest, or `base` for none at all",
        )


def most_rows(database_url: str, *, schema: str = SCHEMA) -> Mapping[str, int]:
    """Return how many rows stand in the tables that people know, counted up to a million."""
    database = Database(database_url, schema=schema, pool_size=1, overflow=0)
    try:
        with database.begin() as conn:
            there = inspect(conn).get_table_names(schema=database.schema)
            return {name: _count(conn, name) for name in _TELLING if name in there}
    finally:
        database.close()


def _count(conn: Connection, table: str) -> int:
    some = f"SELECT 1 FROM turnmill.{table} LIMIT {_COUNTED}"
    return int(execute(conn, f"SELECT count(*) FROM ({some}) AS counted").scalar_one())


def unfinished(database_url: str, *, schema: str = SCHEMA) -> int:
    """Return how many migrations are still to be run."""
    database = Database(database_url, schema=schema, pool_size=1, overflow=0)
    try:
        with database.begin() as conn:
            found = current(conn, schema=database.schema)
            scripts = ScriptDirectory.from_config(_config(conn, database.schema))
            return sum(1 for _ in scripts.iterate_revisions("head", found or "base"))
    finally:
        database.close()


def _found_at_head(database: Database) -> str | None:
    """Return the revision where nothing is to be done: a role that owns nothing finds out, too."""
    head = ScriptDirectory.from_config(_config(None, database.schema)).get_current_head()
    with database.begin() as conn:
        found = current(conn, schema=database.schema)
        return found if found == head and not is_pooled(conn) else None


@contextmanager
def _migrating(database: Database) -> Iterator[tuple[Connection, Moved | None]]:
    """Yield a connection that sees our schema only, while no other `migrate` runs.

    Settings are those of a transaction each: behind a pooler those of a session would go on to
    whoever gets the server's connection next.
    """
    schema = database.schema
    assert schema is not None
    with _alone(database), database.engine.connect() as conn:
        event.listen(conn, "begin", _setting({"statement_timeout": "0", **_NO_END, **_SHORT_WAITS}))
        try:
            moved = _patiently(conn, lambda: _enter(conn, schema))
            event.listen(conn, "begin", _setting({"search_path": f'"{schema}"'}))
            yield conn, moved
        finally:
            conn.rollback()
            conn.invalidate()  # with its settings


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """Wait for every other `migrate`, and keep later ones waiting."""
    with translated(), database.engine.connect() as conn:
        event.listen(conn, "begin", _setting(_NO_BOUNDS))
        # Without parameters: what has some keeps its snapshot until the transaction ends. And each
        # try is a transaction of its own: CREATE INDEX CONCURRENTLY of the one that is waited for
        # waits itself for the end of whatever it met with a snapshot, a waiting statement included.
        while not execute(conn, f"SELECT pg_try_advisory_xact_lock({_LOCK})").scalar():
            conn.rollback()
            time.sleep(_PAUSE_SECONDS / 4)
        yield
        conn.rollback()


def _setting(settings: Mapping[str, str]) -> Callable[[Connection], None]:
    """Return what sets this for a transaction that begins, or for statements without one."""

    def begin(conn: Connection) -> None:
        within = conn.get_execution_options().get("isolation_level") != "AUTOCOMMIT"
        if not within and is_pooled(conn):
            raise UnsupportedByStore(
                "a migration that is no transaction cannot be run through a pooler",
                hint="run `turnmill migrate` with a TURNMILL_DATABASE_URL past the pooler",
            )
        for name, value in settings.items():
            given = {"name": name, "value": value, "within": within}
            execute(conn, _SET, given)

    return begin


def _enter(conn: Connection, schema: str) -> Moved | None:
    with conn.begin():
        moved = move_in(conn, schema)
        execute(conn, _REVISIONS)
    return moved


def _settle_roles(conn: Connection, roles: Sequence[str]) -> Mapping[str, Sequence[str]]:
    with conn.begin():
        wanted = [*roles, ""] if is_pooled(conn) else roles
        found = {role: settle(conn, role) for role in wanted}
    return {role: names for role, names in found.items() if names}


def _patiently(conn: Connection, step: Callable[[], T]) -> T:
    """Run a step that may be repeated, until it gets its locks."""
    for _ in range(_TRIES):
        try:
            with _known_revisions(), translated():
                return step()
        except SessionBusy:
            conn.rollback()
            time.sleep(_PAUSE_SECONDS)
    raise SessionBusy(
        "a lock that a migration needs is held by somebody else",
        hint="end long transactions on Turnmill's tables, and run it again",
    )


def _upgrade_file(database: Database, revision: str) -> Migrated:
    """Bring a file along in one transaction: killed at any moment, it is as it was before."""
    with database.begin() as conn, _known_revisions():
        before = current(conn, schema=None)
        refuse_file(conn, before, known=_revisions(conn))
        _rename_version_table(conn)
        command.upgrade(_config(conn, None), revision)
        after = current(conn, schema=None)
        if after == HEAD:
            refuse_incomplete_file(conn)
        return Migrated(before=before, after=after, moved=None)


def _revisions(conn: Connection) -> set[str]:
    scripts = ScriptDirectory.from_config(_config(conn, None))
    return {script.revision for script in scripts.walk_revisions()}


def _rename_version_table(conn: Connection) -> None:
    """Let a file of before keep its revision under the name of today."""
    if not inspect(conn).has_table(VERSION_TABLE) and has_old_version_table(conn):
        conn.execute(text(f"ALTER TABLE {OLD_VERSION_TABLE} RENAME TO {VERSION_TABLE}"))


def _without_last_posts(config: Config, *, at_least: str) -> str:
    """Return the newest revision of the kind `pre`, or the one that the database has, if later."""
    for script in ScriptDirectory.from_config(config).walk_revisions():
        if script.revision <= at_least or getattr(script.module, "phase", "pre") == "pre":
            return script.revision
    return at_least


@contextmanager
def _known_revisions() -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise InvalidInput(str(error), hint="name a revision of this version, or `head`") from None


def _config(conn: Connection | None, schema: str | None) -> Config:
    config = Config()
    config.set_main_option("script_location", "turnmill.store.schema:migrations")
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(VERSIONS))
    config.attributes["connection"] = conn
    config.attributes["schema"] = schema
    config.attributes["noted"] = _note if schema else _note_nothing
    return config


def _note(*, ctx: Any, step: Any, **_: Any) -> None:
    """Write down, in the migration's transaction, which code the new revision serves."""
    if not step.is_upgrade:
        left = {"revision": step.source_revision_ids[0]}
        execute(
            ctx.connection, "DELETE FROM turnmill.revisions WHERE revision = %(revision)s", left
        )
        return
    module = step.up_revision.module
    serves = getattr(module, "serves", step.up_revision_id)
    execute(ctx.connection, _NOTE, {"revision": step.up_revision_id, "serves": serves})


def _note_nothing(**_: Any) -> None:
    """Serve a file: one process uses it, of one version."""

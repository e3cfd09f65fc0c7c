"""Migrations end where the tables of the code begin, and can be undone."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect

from tests import rows, steps
from tests.conftest import fresh_database
from tests.crowd import at_once, succeeded
from turnmill.domain.errors import SchemaOutOfDate
from turnmill.domain.ids import SessionId
from turnmill.intake import new_id
from turnmill.store import migrate, revision
from turnmill.store.database import Database
from turnmill.store.kept import KeptRef, kept_of, take_due
from turnmill.store.schema_name import SCHEMA
from turnmill.store.sessions import remove
from turnmill.store.tables import metadata, sessions, turns
from turnmill_worker.stack.postgres import EmbeddedPostgres

#: Tables of `migrate` itself.
NOTES = {revision.VERSION_TABLE, "revisions"}


@pytest.fixture(params=["postgres", "sqlite"])
def empty_url(
    request: pytest.FixtureRequest, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> Iterator[str]:
    if request.param == "postgres":
        with fresh_database(postgres_server) as url:
            yield url
    else:
        yield f"sqlite:///{tmp_path / 'turns.db'}"


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url, pool_size=1)
    yield database
    database.close()


def tables(conn: Connection) -> set[str]:
    return set(inspect(conn).get_table_names(schema=place_of(conn)))


def place_of(conn: Connection) -> str | None:
    return SCHEMA if conn.dialect.name == "postgresql" else None


def bare(conn: Connection) -> MetaData:
    """Return the tables of the code as they stand in this store."""
    if place_of(conn):
        return metadata
    target = MetaData()
    for table in metadata.sorted_tables:
        table.to_metadata(target, schema=None)  # type: ignore[arg-type]  # as SQLite has it
    return target


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Leave out what Alembic and `migrate` keep for themselves."""
    return name not in NOTES if kind == "table" else kind != "schema" or name in (None, SCHEMA)


def test_migrations_end_at_the_tables_of_the_code(empty: Database, empty_url: str) -> None:
    migrate.upgrade(empty_url)
    with empty.begin() as conn:
        options = {
            "compare_type": True,
            "include_schemas": place_of(conn) is not None,
            "include_name": is_ours,
        }
        context = MigrationContext.configure(conn, opts=options)
        assert compare_metadata(context, bare(conn)) == []


def test_migrations_make_the_very_constraints_and_indexes_of_the_code(
    empty: Database, empty_url: str
) -> None:
    with empty.begin() as conn:
        if place_of(conn):
            conn.exec_driver_sql("CREATE SCHEMA turnmill")
        revision.create_all(conn)
        expected = definitions(conn)
        metadata.drop_all(conn)
    migrate.upgrade(empty_url)
    with empty.begin() as conn:
        assert definitions(conn) == expected


def definitions(conn: Connection) -> list[str]:
    """Return every index, constraint and column as the database itself describes it."""
    if conn.dialect.name == "postgresql":
        found = conn.exec_driver_sql(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'turnmill'"
            " UNION ALL"
            " SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid))"
            " FROM pg_constraint WHERE connamespace = 'turnmill'::regnamespace"
            " UNION ALL SELECT concat_ws(' ', relname, relpersistence, reloptions)"
            " FROM pg_class WHERE relnamespace = 'turnmill'::regnamespace AND relkind = 'r'"
        )
    else:
        found = conn.exec_driver_sql("SELECT sql FROM sqlite_master WHERE type = 'index'")
    ours = (row[0] for row in found if row[0])
    return sorted(one for one in ours if not any(note in one for note in NOTES))


def test_going_back_to_the_beginning_leaves_nothing(empty: Database, empty_url: str) -> None:
    migrate.upgrade(empty_url)
    migrate.downgrade(empty_url, "base")
    with empty.begin() as conn:
        assert tables(conn) <= NOTES
        assert revision.current(conn) is None


def test_what_went_back_can_come_again(empty: Database, empty_url: str) -> None:
    migrate.upgrade(empty_url)
    migrate.downgrade(empty_url, "base")
    migrate.upgrade(empty_url)
    steps.answer(empty, rows.send(empty, rows.start(empty)))


def test_migrating_twice_is_migrating_once(empty: Database, empty_url: str) -> None:
    migrate.upgrade(empty_url)
    session = rows.start(empty)
    migrate.upgrade(empty_url)
    assert steps.session(empty, session).id == session


def test_what_vendors_kept_before_it_was_written_down_is_known_after_the_migration(
    empty: Database, empty_url: str
) -> None:
    migrate.upgrade(empty_url, "0001")
    live, archived, waiting = (new_id() for _ in range(3))
    turn = new_id()
    of_all = {"user_id": "ada", "provider": "openai", "model": "m"}
    with empty.begin() as conn:
        for one, status, ref in (
            (live, "active", "resp_1"),
            (archived, "archived", "resp_2"),
            (waiting, "active", ""),
        ):
            values = {"id": one, "status": status, "provider_ref": ref, **of_all}
            conn.execute(sessions.insert().values(values))
        row = {"id": turn, "session_id": waiting, "seq": 1, "max_attempts": 5}
        row |= {"state": "waiting", "native_ref": "bg_1"}
        conn.execute(turns.insert().values(row))
    migrate.upgrade(empty_url)
    with empty.begin() as conn:
        assert refs(take_due(conn, again_after=timedelta(hours=1))) == {"resp_2"}
        for one in (live, waiting):
            assert kept_of(conn, SessionId(one)).count == 1
            remove(conn, SessionId(one))
        assert refs(take_due(conn, again_after=timedelta(hours=1))) == {"resp_1", "bg_1"}


def refs(found: Sequence[KeptRef]) -> set[str]:
    return {one.ref for one in found}


def test_two_migrations_at_once_take_turns(postgres_server: EmbeddedPostgres) -> None:
    with fresh_database(postgres_server) as url:
        succeeded(at_once(*[partial(migrate.upgrade, url)] * 4))
        assert revision.revision_of(url) == revision.HEAD


def test_the_code_needs_the_newest_migration() -> None:
    scripts = ScriptDirectory(str(Path(migrate.__file__).with_name("migrations")))
    assert scripts.get_heads() == [revision.HEAD]


def test_a_database_that_was_not_migrated_is_refused(empty: Database, empty_url: str) -> None:
    with pytest.raises(SchemaOutOfDate, match="revision none"), empty.begin() as conn:
        revision.require_current(conn)
    migrate.upgrade(empty_url)
    with empty.begin() as conn:
        revision.require_current(conn)

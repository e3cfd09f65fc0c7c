"""Migrations end where the tables of the code begin, and can be undone."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect, select, update

from tests import rows, steps
from tests.conftest import fresh_database, run_as_superuser
from tests.crowd import at_once, succeeded
from tests.migration.conftest import StoreAt
from turnmill.domain.errors import SchemaOutOfDate, StoreError
from turnmill.domain.ids import SessionId
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.kept import KeptRef, kept_of, take_due
from turnmill.store.nouns.sessions import remove
from turnmill.store.schema import migrate, revision
from turnmill.store.schema.batch_tables import metadata
from turnmill.store.schema.bounds import within_bounds
from turnmill.store.schema.tables import attempts, batches, sessions, turns
from turnmill.store.schema_name import SCHEMA
from turnmill.store.upkeep.odd_rows import odd_rows
from turnmill_worker.stack.postgres import EmbeddedPostgres

#: Tables of `migrate` itself.
NOTES = {revision.VERSION_TABLE, "revisions"}
#: Table → when a row of it was made.
_BOUNDED = {
    "sessions": "created_at",
    "turns": "created_at",
    "batches": "created_at",
    "pauses": "since",
}


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


@pytest.fixture
def began_at() -> str:
    """The revision at which a test finds its store."""
    return "head"


@pytest.fixture(params=["postgres", "sqlite"])
def url(request: pytest.FixtureRequest, store_at: StoreAt, began_at: str) -> Iterator[str]:
    with store_at(request.param, began_at) as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[Database]:
    database = Database(url, pool_size=1)
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


#: Constraints that a file of SQLite keeps beside the indexes that stand for them since 0035.
KEPT_IN_FILES = {
    "uq_sessions_key",
    "uq_turns_session_id_idempotency_key",
    "uq_turns_batch_id_batch_line",
}


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Leave out what Alembic and `migrate` keep for themselves, and what files keep."""
    if name in KEPT_IN_FILES:
        return False
    return name not in NOTES if kind == "table" else kind != "schema" or name in (None, SCHEMA)


# SQLAlchemy stumbles over a constraint that is not validated, and says so; nothing else is wrong.
@pytest.mark.filterwarnings("ignore:Can't validate argument 'dialect_options'")
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
    # The bounds of the door are made by a migration only, which lets older rows be.
    others = {*NOTES, "within_bounds"}
    return sorted(row[0] for row in found if row[0] and not any(one in row[0] for one in others))


def test_going_back_to_the_beginning_leaves_nothing(store: Database, url: str) -> None:
    migrate.downgrade(url, "base")
    with store.begin() as conn:
        assert tables(conn) <= NOTES
        assert revision.current(conn) is None


def test_what_went_back_can_come_again(store: Database, url: str) -> None:
    migrate.downgrade(url, "base")
    migrate.upgrade(url)
    steps.answer(store, rows.send(store, rows.start(store)))


def test_tokens_that_are_unknown_count_as_0_where_a_schema_cannot_say_so(
    store: Database, url: str
) -> None:
    turn = rows.send(store, rows.start(store))
    rows.run(store, turn, cost=None, tokens=(None, None, None))
    scripts = ScriptDirectory(str(Path(migrate.__file__).with_name("migrations")))
    before = scripts.get_revision("0004").down_revision
    assert isinstance(before, str)
    migrate.downgrade(url, before)
    with store.begin() as conn:
        found = conn.execute(
            select(turns.c.input_tokens, turns.c.cached_tokens).where(turns.c.id == turn)
        ).one()
    assert tuple(found) == (0, 0)
    with pytest.raises(StoreError), store.begin() as conn:
        conn.execute(update(attempts).values(output_tokens=None))
    migrate.upgrade(url)
    again = rows.send(store, rows.start(store))
    rows.run(store, again, cost=None, tokens=(None, None, None))
    assert steps.turn(store, again).input_tokens is None


def test_migrating_twice_is_migrating_once(store: Database, url: str) -> None:
    session = rows.start(store)
    migrate.upgrade(url)
    assert steps.session(store, session).id == session


@pytest.mark.parametrize("began_at", ["0001"])
def test_what_vendors_kept_before_it_was_written_down_is_known_after_the_migration(
    store: Database, url: str
) -> None:
    live, archived, waiting = (new_id() for _ in range(3))
    turn = new_id()
    of_all = {"user_id": "ada", "provider": "openai", "model": "m"}
    with store.begin() as conn:
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
    migrate.upgrade(url)
    with store.begin() as conn:
        assert refs(take_due(conn, again_after=timedelta(hours=1))) == {"resp_2"}
        for one in (live, waiting):
            assert kept_of(conn, SessionId(one)).count == 1
            remove(conn, SessionId(one))
        assert refs(take_due(conn, again_after=timedelta(hours=1))) == {"resp_1", "bg_1"}


def refs(found: Sequence[KeptRef]) -> set[str]:
    return {one.ref for one in found}


@pytest.mark.parametrize("began_at", ["0027"])
@pytest.mark.parametrize(
    ("states", "total", "becomes"),
    [
        ([], None, ("submitting", False)),
        (["succeeded", "queued"], 2, ("running", True)),
        (["succeeded", "succeeded"], 2, ("completed", True)),
        (["succeeded", "dead"], 2, ("completed_with_errors", True)),
        (["failed", "expired"], 2, ("failed", True)),
    ],
)
def test_batches_of_before_are_sealed_where_every_line_stands(
    store: Database,
    url: str,
    states: list[str],
    total: int | None,
    becomes: tuple[str, bool],
) -> None:
    batch, session = new_id(), new_id()
    with store.begin() as conn:
        values = {"id": batch, "name": "old", "content_hash": b"", "last_line": len(states)}
        conn.execute(batches.insert().values(**values, total=total))
        of_all = {"user_id": "ada", "provider": "mock", "model": "m"}
        conn.execute(sessions.insert().values(id=session, **of_all))
        for n, state in enumerate(states, 1):
            row = {"id": new_id(), "session_id": session, "seq": n, "max_attempts": 5}
            row |= {"batch_id": batch, "batch_line": n, "state": state}
            conn.execute(turns.insert().values(row))
    migrate.upgrade(url)
    with store.begin() as conn:
        found = conn.execute(select(batches)).one()
    assert (found.state, found.sealed_at is not None) == becomes
    assert found.fed_line == found.last_line


def test_two_migrations_at_once_take_turns(postgres_server: EmbeddedPostgres) -> None:
    with fresh_database(postgres_server) as url:
        succeeded(at_once(*[partial(migrate.upgrade, url)] * 4))
        assert revision.revision_of(url) == revision.HEAD


@pytest.mark.parametrize("bound", ["statement_timeout", "transaction_timeout"])
def test_bounds_that_a_database_sets_for_all_cut_off_no_migration(
    postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    enter = migrate._enter
    with fresh_database(postgres_server) as where:

        def enter_late(conn: Connection, schema: str) -> object:
            with psycopg.connect(where) as another, pytest.raises(psycopg.Error):
                another.execute("SELECT pg_sleep(60)")  # until it is cut off
            return enter(conn, schema)

        monkeypatch.setattr(migrate, "_enter", enter_late)
        database = Database(where, pool_size=1)
        with database.begin() as conn:
            known = "SELECT count(*) FROM pg_settings WHERE name = %(name)s"
            if not conn.exec_driver_sql(known, {"name": bound}).scalar():
                pytest.skip(f"this Postgres knows no {bound}")
        database.close()
        name = where.rpartition("/")[2]
        run_as_superuser(postgres_server, f"ALTER DATABASE \"{name}\" SET {bound} = '1s'")
        migrate.upgrade(where)
        run_as_superuser(postgres_server, f'ALTER DATABASE "{name}" RESET {bound}')
        assert revision.revision_of(where) == revision.HEAD


def test_the_bounds_of_the_database_are_those_of_the_door(store_at: StoreAt) -> None:
    with store_at("postgres", "head") as url:
        database = Database(url, pool_size=1)
        for table, made_at in _BOUNDED.items():
            held = within_bounds(table, dialect="postgresql")
            with database.begin() as conn:
                conn.exec_driver_sql(
                    f"ALTER TABLE turnmill.{table} ADD CONSTRAINT probe CHECK"
                    f" ({made_at} < TIMESTAMPTZ '2000-01-01' OR ({held})) NOT VALID"
                )
                found = conn.exec_driver_sql(
                    "SELECT regexp_replace(pg_get_constraintdef(oid), $$< '[^']+'$$, '<')"
                    " FROM pg_constraint WHERE conrelid = %(table)s::regclass"
                    " AND conname IN ('probe', %(name)s)",
                    {"table": f"turnmill.{table}", "name": f"ck_{table}_within_bounds"},
                ).scalars()
                assert len(definitions := list(found)) == 2
                assert len(set(definitions)) == 1
        database.close()


@pytest.fixture
def on_a_server(store_at: StoreAt) -> Iterator[Database]:
    with store_at("postgres", "head") as url:
        database = Database(url, pool_size=2)
        yield database
        database.close()


def test_rows_from_before_the_bounds_run_beside_others_and_are_listed(
    on_a_server: Database,
) -> None:
    grown = on_a_server  # what sends knows no older tables
    url = grown.url.render_as_string(hide_password=False)
    odd, neighbour = rows.send(grown, rows.start(grown)), rows.send(grown, rows.start(grown))
    migrate.downgrade(url, "0001")
    with grown.begin() as conn:
        conn.exec_driver_sql(
            "UPDATE turnmill.turns SET expires_at = 'infinity' WHERE id = %(id)s", {"id": odd}
        )
        conn.exec_driver_sql("UPDATE turnmill.sessions SET idle_seconds = 86399999999999")
    migrate.upgrade(url)

    with grown.begin() as conn:
        assert {(one.table, one.column) for one in odd_rows(conn)} == {
            ("turns", "expires_at"),
            ("sessions", "idle_seconds"),
        }
    for turn in (odd, neighbour):
        rows.run(grown, turn)
    steps.assert_sound(grown, drained=True)


_PAST_THE_DOOR = {
    "turns": "UPDATE turnmill.turns SET expires_at = 'infinity'",
    "sessions": "UPDATE turnmill.sessions SET idle_seconds = 86399999999999",
    "batches": "INSERT INTO turnmill.batches (id, name, content_hash)"
    " VALUES (gen_random_uuid(), repeat('n', 801), '')",
    "pauses": "INSERT INTO turnmill.pauses (kind, name) VALUES ('provider', repeat('n', 801))",
}


@pytest.mark.parametrize("table", _PAST_THE_DOOR)
def test_new_rows_are_held_to_the_bounds(on_a_server: Database, table: str) -> None:
    rows.send(on_a_server, rows.start(on_a_server))
    bound = f"ck_{table}_within_bounds"
    with pytest.raises(StoreError, match=bound), on_a_server.begin() as conn:
        conn.exec_driver_sql(_PAST_THE_DOOR[table])


def test_the_code_needs_the_newest_migration() -> None:
    scripts = ScriptDirectory(str(Path(migrate.__file__).with_name("migrations")))
    assert scripts.get_heads() == [revision.HEAD]


def test_a_database_that_was_not_migrated_is_refused(empty: Database) -> None:
    with pytest.raises(SchemaOutOfDate, match="revision none"), empty.begin() as conn:
        revision.require_current(conn)


def test_a_database_that_was_migrated_is_not_refused(store: Database) -> None:
    with store.begin() as conn:
        revision.require_current(conn)

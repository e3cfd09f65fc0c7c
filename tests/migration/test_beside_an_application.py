"""Our tables share a database with an application's, whatever those are called."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from tests.acceptance.terminal import Terminal
from tests.conftest import fresh_database
from tests.migration.application import Application
from tests.migration.conftest import StoreAt
from turnmill import AsyncClient, Client, InvalidInput, InvalidSetting, Settings, StoreUnavailable
from turnmill.store.database import Database
from turnmill.store.schema import migrate, revision
from turnmill.store.upkeep.invariants import violations
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.process import wait_until

SOON = timedelta(seconds=20)
#: Of the application, and of nobody else.
OWN = {"sessions", "turns", "messages", "alembic_version"}


@pytest.fixture
def began_at() -> str:
    """The revision of our tables that a test finds in its database: by default there are none."""
    return "none"


@pytest.fixture
def url(postgres_server: EmbeddedPostgres, store_at: StoreAt, began_at: str) -> Iterator[str]:
    is_bare = began_at == "none"
    with fresh_database(postgres_server) if is_bare else store_at("postgres", began_at) as url:
        yield url


#: Our tables are there before the application's; either order is tried by a test of its own.
OURS_FIRST = pytest.mark.parametrize("began_at", ["head"])


@pytest.fixture
def application(url: str, tmp_path: Path) -> Application:
    return Application.beside(url, tmp_path)


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_both_migrate_up_and_down_in_any_order(
    url: str, application: Application, first: str
) -> None:
    for whose in ("ours", "theirs") if first == "ours" else ("theirs", "ours"):
        if whose == "ours":
            migrate.upgrade(url)
        else:
            application.migrate()
    assert application.columns("sessions") == {"id", "seat"}
    assert revision.revision_of(url) == revision.HEAD
    application.migrate("base")
    assert revision.revision_of(url) == revision.HEAD
    application.migrate()
    migrate.downgrade(url, "base")
    assert application.tables() == OWN
    migrate.upgrade(url)
    assert application.tables() == OWN


@OURS_FIRST
def test_a_message_and_a_row_of_the_application_are_one_transaction(
    url: str, application: Application
) -> None:
    application.migrate()
    engine = application.engine()
    with Client(database_url=url) as client:
        session = client.sessions.create(user_id="ada", key="desk:1")
        with engine.begin() as conn:
            conn.execute(text("INSERT INTO sessions (id, seat) VALUES (1, 'window')"))
            client.send("desk:1", "kept", connection=conn)
        with engine.connect() as conn:
            conn.execute(text("INSERT INTO sessions (id, seat) VALUES (2, 'aisle')"))
            client.send(session, "rolled back", connection=conn)
            conn.rollback()
        with engine.connect() as conn:
            assert conn.execute(text("SELECT seat FROM sessions")).scalars().all() == ["window"]
        assert len(client.turns.list(session=session)) == 1
    engine.dispose()


@pytest.mark.parametrize("schema", ["turnmill", "talks"])
def test_an_async_message_and_a_row_of_the_application_are_one_transaction(
    url: str, application: Application, schema: str
) -> None:
    application.migrate()
    migrate.upgrade(url, schema=schema)

    async def send() -> None:
        engine = create_async_engine(application.url)
        settings = Settings(database_url=url, schema=schema)
        async with AsyncClient(settings=settings) as client:
            await client.sessions.create(user_id="ada", key="desk:1")
            async with engine.begin() as conn:
                await conn.execute(text("INSERT INTO sessions (id, seat) VALUES (1, 'window')"))
                await client.send("desk:1", "kept", connection=conn)
            async with AsyncSession(engine) as orm:
                await client.send("desk:1", "rolled back", connection=orm)
                await orm.rollback()
            assert len(await client.turns.list(session="desk:1")) == 1
        await engine.dispose()

    asyncio.run(send())


@OURS_FIRST
def test_a_connection_to_another_kind_of_database_is_refused(url: str) -> None:
    engine = create_engine("sqlite://")
    with Client(database_url=url) as client, engine.connect() as conn:
        session = client.sessions.create(user_id="ada")
        with pytest.raises(InvalidInput, match="sqlite"):
            client.send(session, "hello", connection=conn)
    engine.dispose()


@OURS_FIRST
@pytest.mark.parametrize("search_path", ["public", "elsewhere,public", "turnmill,public", "''"])
def test_a_message_is_accepted_whatever_the_callers_search_path(
    url: str, application: Application, search_path: str
) -> None:
    application.migrate()
    engine = application.engine()
    with Client(database_url=url) as client:
        session = client.sessions.create(user_id="ada")
        with engine.begin() as conn:
            conn.execute(text(f"SET LOCAL search_path = {search_path}"))
            turn = client.send(session, "hello", connection=conn)
        assert turn.refresh().session_id == session.id
    engine.dispose()


@OURS_FIRST
def test_the_tables_stand_in_the_schema_that_is_set(url: str, application: Application) -> None:
    application.migrate()
    migrate.upgrade(url, schema="talks")
    settings = Settings(database_url=url, schema="talks")
    engine = application.engine()
    with Client(settings=settings) as talks, Client(database_url=url) as other:
        session = talks.sessions.create(user_id="ada", key="desk:1")
        talks.send(session, "one", idempotency_key="k")
        talks.send_many([(session, "two"), (session, "three")])
        with engine.begin() as conn:
            talks.send("desk:1", "four", connection=conn)
            assert conn.execute(text("SELECT count(*) FROM sessions")).scalar_one() == 0
        assert len(talks.turns.list(session=session)) == 4
        assert other.turns.list() == []
        talks.turns.list()[0].cancel()
        talks.sessions.pause(session)
    engine.dispose()
    database = Database(url, schema="talks")
    with database.begin() as conn:
        assert violations(conn) == []
    database.close()


@pytest.mark.parametrize("name", ["Turns", "a-b", "1st", "pg_own", 'x"; --', "x" * 64, " "])
def test_a_schema_that_has_no_plain_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidSetting, match="TURNMILL_SCHEMA"):
        Settings.from_env({"TURNMILL_SCHEMA": name})


def test_a_store_of_the_version_before_moves_in_with_every_row(
    url: str, application: Application
) -> None:
    an_old_store(url)
    with psycopg.connect(url) as conn:
        before = [conn.execute(f"SELECT * FROM public.{one}").fetchall() for one in _FILLED]
    done = migrate.upgrade(url)
    assert done.moved is not None
    assert (done.moved.tables_from, done.before) == ("public", "0001")
    with psycopg.connect(url) as conn:
        for table, rows in zip(_FILLED, before, strict=True):
            moved = conn.execute(f"SELECT * FROM turnmill.{table}").fetchall()
            assert [row[: len(rows[0])] for row in moved] == rows
    with Client(database_url=url) as client:
        history = client.sessions.history("desk:1")
        assert [message.text for message in history] == ["Ahoy?", "Ahoy."]
        assert client.send("desk:1", "next").refresh().record.attempt == 0
    application.migrate()  # its names are free again
    assert application.columns("sessions") == {"id", "seat"}


def test_an_old_store_that_is_in_use_is_moved_when_its_user_has_gone(url: str) -> None:
    an_old_store(url)
    with ThreadPoolExecutor(1) as thread, psycopg.connect(url) as user:
        user.execute("SELECT count(*) FROM public.turns")
        moving = thread.submit(migrate.upgrade, url)
        with psycopg.connect(url, autocommit=True) as conn:
            waiting = "SELECT FROM pg_locks WHERE NOT granted"
            assert wait_until(lambda: conn.execute(waiting).fetchone() is not None, timeout=SOON)
        assert revision.revision_of(url) is None
        user.rollback()
        assert moving.result(timeout=60).after == revision.HEAD


def test_tables_of_an_application_are_never_taken_for_ours(
    url: str, application: Application
) -> None:
    application.migrate()
    done = migrate.upgrade(url)
    assert done.moved is not None
    assert done.moved.tables_from is None
    assert application.columns("sessions") == {"id", "seat"}


def test_who_may_not_make_a_schema_uses_one_that_was_made_for_him(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
        conn.execute("CREATE SCHEMA turnmill")
        conn.execute("GRANT ALL ON SCHEMA turnmill TO guest")
    guest = "postgresql://guest:guest@" + url.rpartition("@")[2]
    try:
        migrate.upgrade(guest)
        with Client(database_url=guest) as client:
            assert client.sessions.create(user_id="ada").user_id == "ada"
    finally:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("DROP OWNED BY guest CASCADE")
            conn.execute("DROP ROLE guest")


_FILLED = ("sessions", "turns", "messages", "attempts")
_OLD_ROWS = """
INSERT INTO sessions (id, key, user_id, provider, model, next_seq, fence, turns_succeeded)
VALUES ('00000000-0000-7000-8000-000000000001', 'desk:1', 'ada', 'mock', 'mock', 2, 1, 1);
INSERT INTO turns (id, session_id, seq, state, attempt, max_attempts, claims, finished_at)
VALUES ('00000000-0000-7000-8000-000000000002', '00000000-0000-7000-8000-000000000001', 1,
    'succeeded', 1, 5, 1, now());
INSERT INTO messages (id, session_id, turn_id, position, role, content, final) VALUES
    ('00000000-0000-7000-8000-000000000003', '00000000-0000-7000-8000-000000000001',
    '00000000-0000-7000-8000-000000000002', 0, 'user', '[{"type": "text", "text": "Ahoy?"}]',
    false),
    ('00000000-0000-7000-8000-000000000004', '00000000-0000-7000-8000-000000000001',
    '00000000-0000-7000-8000-000000000002', 1, 'assistant', '[{"type": "text", "text": "Ahoy."}]',
    true);
INSERT INTO attempts (turn_id, fence, n, kind, worker, ended_at, outcome)
VALUES ('00000000-0000-7000-8000-000000000002', 1, 1, 'send', 'w', now(), 'succeeded');
"""


def an_old_store(url: str) -> None:
    """Lay out what the first version left: its tables in `public`, Alembic's beside them."""
    migrate.upgrade(url, "0001")
    with psycopg.connect(url) as conn:
        names = conn.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = 'turnmill'::regnamespace"
        ).fetchall()
        for (name,) in names:
            conn.execute(f"ALTER TABLE turnmill.{name} SET SCHEMA public")
        conn.execute("ALTER TABLE public.schema_version RENAME TO alembic_version")
        conn.execute("DROP TABLE public.revisions")
        conn.execute("DROP SCHEMA turnmill")
        conn.execute("ALTER ROLE turnmill IN DATABASE " + conn.info.dbname + " RESET search_path")
        conn.execute("SET search_path = public")
        conn.execute(_OLD_ROWS)


def test_doctor_knows_a_store_of_the_version_before_and_the_way_out(
    url: str, tmp_path: Path
) -> None:
    there = Terminal(tmp_path, {"TURNMILL_DATABASE_URL": url})

    def wrong() -> list[dict[str, str]]:
        found = there.run("doctor", "--json").json()["findings"]
        return [one for one in found if (one["check"], one["level"]) == ("schema", "wrong")]

    an_old_store(url)
    [found] = wrong()
    assert "a store of the version before" in found["what"]
    assert "schema public" in found["what"]
    assert found["fix"] == "stop its workers and clients, then: turnmill migrate"
    assert there.run("migrate").code == 0
    assert wrong() == []


def test_a_database_whose_tables_are_elsewhere_says_what_to_run(url: str) -> None:
    an_old_store(url)
    with Client(database_url=url) as client, pytest.raises(Exception, match="migrated") as caught:
        client.sessions.create(user_id="ada")
    assert not isinstance(caught.value, StoreUnavailable)
    assert "turnmill migrate" in caught.value.hint  # type: ignore[attr-defined]

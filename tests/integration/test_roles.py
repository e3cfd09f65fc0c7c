"""Who may do what in Postgres: the owner of the tables, who works on their rows, who looks."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

from tests import budgeting, rows, stepping, steps
from tests.conftest import fresh_database
from turnmill import Client, Turn
from turnmill.domain.errors import InvalidSetting, UnsupportedByStore
from turnmill.domain.ids import TurnId
from turnmill.domain.states import ToolCallState, TurnState
from turnmill.new_ids import new_id
from turnmill.store.budget_records import Found
from turnmill.store.database import Database
from turnmill.store.nouns import turns
from turnmill.store.nouns.wishes import grant_one
from turnmill.store.schema import migrate
from turnmill.store.schema.roles import Login, make_roles
from turnmill_worker.process.dispatcher import Dispatcher
from turnmill_worker.stack.postgres import EmbeddedPostgres

CANARY = "xyzzy-canary"
OTHER = "00000000-0000-7000-8000-000000000000"
OWNER, RUNTIME, VIEWER = (
    Login(f"test_{one}", f"p@ss/{one}%") for one in ("owner", "app", "viewer")
)


@dataclass(frozen=True)
class Place:
    """A database, and the URLs of those who use it."""

    admin: str

    def url_as(self, login: Login) -> str:
        url = make_url(self.admin).set(username=login.name, password=login.password)
        return url.render_as_string(hide_password=False)

    def make(self, admin: str = "") -> None:
        make_roles(admin or self.admin, owner=OWNER, runtime=RUNTIME, viewer=VIEWER)

    def run(self, login: Login | None, statement: str) -> list[tuple[object, ...]]:
        url = self.url_as(login) if login else self.admin
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement))
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def place(postgres_server: EmbeddedPostgres) -> Iterator[Place]:
    with fresh_database(postgres_server) as url, without_roles(Place(url)) as place:
        yield place


@pytest.fixture
def handed_over(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[Place]:
    """A place whose tables are there, and belong to the roles that they are to belong to."""
    with (
        fresh_database(postgres_server, migrated_template) as url,
        without_roles(Place(url)) as place,
    ):
        place.make()
        yield place


@contextmanager
def without_roles(place: Place) -> Iterator[Place]:
    """Yield the place, and remove the roles of a test behind it."""
    yield place
    place.run(None, f"ALTER DATABASE {make_url(place.admin).database} OWNER TO CURRENT_USER")
    for role in (OWNER, RUNTIME, VIEWER, Login("test_admin", "")):
        if place.run(None, f"SELECT 1 FROM pg_roles WHERE rolname = '{role.name}'"):
            place.run(None, f"DROP OWNED BY {role.name} CASCADE")
            place.run(None, f"DROP ROLE {role.name}")


def use(place: Place) -> None:
    """Do what a client, a worker and a beat do, as the runtime role."""
    with Client(database_url=place.url_as(RUNTIME)) as client:
        turn = client.send(client.sessions.create(user_id="ada"), "Hello")
        store = Database(place.url_as(RUNTIME))
        steps.answer(store, turn.id)
        assert client.turns.get(turn.id).result(timeout=5).text
        assert client.analytics.report(days=1).lines
        store.close()


def test_the_owner_migrates_and_the_runtime_role_works(place: Place) -> None:
    for _ in range(2):
        place.make()
        migrate.upgrade(place.url_as(OWNER))
    use(place)
    assert migrate.upgrade(place.url_as(RUNTIME)).moved is None  # who owns nothing finds it done


def test_a_store_that_a_superuser_made_is_handed_over_with_its_rows(place: Place) -> None:
    migrate.upgrade(place.admin)
    store = Database(place.admin)
    session = rows.start(store)
    steps.send(store, session)
    store.close()
    place.make()
    use(place)
    assert place.run(RUNTIME, "SELECT count(*) FROM turnmill.turns") == [(2,)]
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'turnmill'"
    assert place.run(None, owners) == [(OWNER.name,)]


def test_tables_of_a_later_migration_are_the_runtime_roles_to_use(place: Place) -> None:
    place.make()
    migrate.upgrade(place.url_as(OWNER))
    place.run(OWNER, "CREATE TABLE turnmill.later (n int)")
    place.run(RUNTIME, "INSERT INTO turnmill.later VALUES (1)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.run(VIEWER, "SELECT n FROM turnmill.later")


def test_the_runtime_role_reserves_where_nobody_may_run_functions_by_default(place: Place) -> None:
    place.make()
    revoked = "ALTER DEFAULT PRIVILEGES{} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"
    place.run(None, revoked.format(f" FOR ROLE {OWNER.name}"))
    migrate.upgrade(place.url_as(OWNER))
    with closing(Database(place.url_as(RUNTIME))) as store:
        budgeting.bound(store, "1", budgeting.ALL)
        claim = budgeting.one(store)
        assert budgeting.ask(store, claim, budgeting.CENT).found is Found.RESERVED
        budgeting.end(store, claim, cost_usd=budgeting.CENT)
        assert budgeting.sums(store, budgeting.ALL) == (budgeting.CENT, 0, 0)


def test_the_admin_need_not_be_a_superuser(place: Place) -> None:
    admin = Login("test_admin", "x")
    place.run(None, "CREATE ROLE test_admin LOGIN CREATEROLE PASSWORD 'x'")
    name = make_url(place.admin).database
    place.run(None, f"ALTER DATABASE {name} OWNER TO test_admin")
    place.make(place.url_as(admin))
    migrate.upgrade(place.url_as(OWNER))
    use(place)


def test_a_role_that_could_do_more_is_brought_down(place: Place) -> None:
    place.run(None, f"CREATE ROLE {RUNTIME.name} SUPERUSER CREATEDB CREATEROLE")
    place.run(None, f"GRANT pg_execute_server_program TO {RUNTIME.name}")
    place.make()
    migrate.upgrade(place.url_as(OWNER))
    for statement in ("COPY (SELECT 1) TO PROGRAM 'true'", "CREATE ROLE x", "CREATE DATABASE x"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            place.run(RUNTIME, statement)


def test_a_login_of_somebody_else_cannot_even_connect(place: Place) -> None:
    place.make()
    stranger = Login("test_admin", "x")
    place.run(None, "CREATE ROLE test_admin LOGIN PASSWORD 'x'")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        place.run(stranger, "SELECT 1")


def test_one_role_cannot_be_two(place: Place) -> None:
    admin = Login.of("X", place.admin)
    for owner, runtime in ((OWNER, OWNER), (OWNER, admin), (admin, RUNTIME)):
        with pytest.raises(InvalidSetting, match="both"):
            make_roles(place.admin, owner=owner, runtime=runtime)
    with pytest.raises(UnsupportedByStore):
        make_roles("sqlite://", owner=OWNER, runtime=RUNTIME)


def test_a_viewer_reads_states_and_numbers_and_nothing_that_anybody_wrote(
    place: Place, tmp_path: Path
) -> None:
    place.make()
    migrate.upgrade(place.url_as(OWNER))
    migrate.grant(place.url_as(OWNER), schema="turnmill", runtime=RUNTIME.name, viewer=VIEWER.name)
    write_everywhere(place, tmp_path / "batch")

    granted = place.run(
        None,
        "SELECT table_name, string_agg(quote_ident(column_name), ', ')"
        " FROM information_schema.column_privileges"
        f" WHERE grantee = '{VIEWER.name}' AND table_schema = 'turnmill' GROUP BY 1",
    )
    seen = {
        str(table): str(place.run(VIEWER, f"SELECT {columns} FROM turnmill.{table}"))
        for table, columns in granted
    }
    assert {"sessions", "turns", "attempts", "tool_calls", "batches", "rollups"} <= set(seen)
    assert "rejected" in seen["tool_calls"]
    assert "succeeded" in seen["turns"]
    assert [table for table, text in seen.items() if CANARY in text] == []
    for statement in (
        "SELECT content FROM turnmill.messages",
        "SELECT system_prompt FROM turnmill.sessions",
        "SELECT decision FROM turnmill.tool_calls",
        "SELECT tool FROM turnmill.tool_calls",
        "SELECT * FROM turnmill.turns",
        "UPDATE turnmill.turns SET cancel_requested = true",
        "DELETE FROM turnmill.events",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            place.run(VIEWER, statement)


def test_a_viewer_asks_for_retry_and_cancel_and_a_dispatcher_sees_to_it(handed_over: Place) -> None:
    place = handed_over
    store = Database(place.url_as(RUNTIME))
    failed, queued = (steps.send(store, rows.start(store)).turn_id for _ in range(2))
    steps.end(store, steps.take_one(store, failed), TurnState.FAILED, error_code="x")
    assert place.run(VIEWER, f"SELECT turnmill.ask_retry('{failed}')") == [(True,)]
    assert place.run(VIEWER, f"SELECT turnmill.ask_retry('{failed}')") == [(False,)]  # it has
    assert place.run(VIEWER, f"SELECT turnmill.ask_cancel('{queued}')") == [(True,)]
    assert place.run(VIEWER, f"SELECT turnmill.ask_retry('{queued}')") == [(False,)]
    for other in (
        f"SELECT turnmill.ask_cancel('{OTHER}')",
        f"SELECT turnmill.ask_retry('{OTHER}')",
    ):
        assert place.run(VIEWER, other) == [(False,)]

    dispatcher = Dispatcher(store, lease=timedelta(seconds=15), tell=lambda _: None)
    dispatcher.tick()
    assert steps.state(store, failed) is TurnState.QUEUED
    assert steps.state(store, queued) is TurnState.CANCELLED
    assert place.run(None, "SELECT count(*) FROM turnmill.wishes") == [(0,)]
    steps.assert_sound(store)
    store.close()


def test_roles_of_before_do_their_part_after_a_migration_alone(place: Place) -> None:
    place.make()
    migrate.upgrade(place.url_as(OWNER), "0027")
    place.make()
    migrate.upgrade(place.url_as(OWNER))
    asked = f"SELECT turnmill.ask_cancel('{OTHER}', 'flower:eve')"
    assert place.run(VIEWER, asked) == [(False,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.run(RUNTIME, asked)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.run(RUNTIME, "UPDATE turnmill.audit_log SET actor = ''")
    with Client(database_url=place.url_as(RUNTIME)) as client:
        client.budgets.set(limit_usd=1)
        assert client.audit.checkpoint() is not None


def test_who_may_ask_reaches_nothing_by_it(place: Place) -> None:
    place.make()
    migrate.upgrade(place.url_as(OWNER))
    migrate.grant(place.url_as(OWNER), schema="turnmill", runtime=RUNTIME.name, viewer=VIEWER.name)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.run(
            VIEWER,
            "INSERT INTO turnmill.wishes (turn_id, verb) VALUES (gen_random_uuid(), 'cancel')",
        )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.run(RUNTIME, f"SELECT turnmill.ask_cancel('{OTHER}')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.run(RUNTIME, f"SELECT turnmill.falls_back('{OTHER}')")
    settings = place.run(
        None,
        "SELECT proconfig FROM pg_proc WHERE pronamespace = 'turnmill'::regnamespace",
    )
    assert settings == [(["search_path=turnmill, pg_temp"],)] * len(settings)
    assert len(settings) >= 8


def test_what_is_asked_for_twice_is_done_once_whoever_was_quicker(handed_over: Place) -> None:
    place = handed_over
    store = Database(place.url_as(RUNTIME))
    session = rows.start(store)
    first, second = (steps.send(store, session).turn_id for _ in range(2))
    for one in (first, second):
        steps.end(store, steps.take_one(store, one), TurnState.FAILED, error_code="x")
    ask = f"SELECT turnmill.ask_retry('{first}')"
    assert place.run(VIEWER, ask) == [(True,)]
    with store.begin() as conn:  # somebody retries it by hand: a copy, since it was overtaken
        turns.retry(conn, first, new_id=TurnId(new_id()))
    with store.begin() as conn:
        assert grant_one(conn, new_id=TurnId(new_id())) == []
    assert place.run(None, "SELECT count(*) FROM turnmill.turns") == [(3,)]
    assert place.run(VIEWER, ask) == [(False,)]  # it was run again
    assert place.run(None, "SELECT count(*) FROM turnmill.wishes") == [(0,)]
    store.close()


def test_while_a_thousand_others_wait_nothing_more_is_noted(handed_over: Place) -> None:
    place = handed_over
    store = Database(place.url_as(RUNTIME))
    queued = steps.send(store, rows.start(store)).turn_id
    ask = f"SELECT turnmill.ask_cancel('{queued}')"
    place.run(
        None,
        "INSERT INTO turnmill.wishes (turn_id, verb)"
        " SELECT gen_random_uuid(), 'cancel' FROM generate_series(1, 1000)",
    )
    assert place.run(VIEWER, ask) == [(None,)]
    assert place.run(VIEWER, f"SELECT turnmill.ask_cancel('{OTHER}')") == [(False,)]
    with store.begin() as conn:
        assert grant_one(conn, new_id=TurnId(new_id())) == []  # of a turn that is gone
    assert place.run(VIEWER, ask) == [(True,)]
    store.close()


def test_two_dispatchers_do_one_after_the_other_what_was_asked_for(handed_over: Place) -> None:
    place = handed_over
    store = Database(place.url_as(RUNTIME))
    session = rows.start(store)
    said = [steps.send(store, session).turn_id for _ in range(3)]
    for one in said:
        steps.end(store, steps.take_one(store, one), TurnState.FAILED, error_code="x")
        assert place.run(VIEWER, f"SELECT turnmill.ask_retry('{one}')") == [(True,)]
    with store.begin() as conn, store.begin() as other:
        assert grant_one(conn, new_id=TurnId(new_id())) is not None
        assert grant_one(other, new_id=TurnId(new_id())) is None  # the first one is not done yet
    for left in (True, True, False):
        with store.begin() as conn:
            assert (grant_one(conn, new_id=TurnId(new_id())) is not None) is left
    again = "SELECT retry_of FROM turnmill.turns WHERE retry_of IS NOT NULL ORDER BY seq"
    assert [one for (one,) in place.run(None, again)] == said
    steps.assert_sound(store)
    store.close()


def test_a_viewer_learns_of_settings_only_whether_others_may_answer(handed_over: Place) -> None:
    place = handed_over
    with Client(database_url=place.url_as(RUNTIME)) as client:
        alone = client.sessions.create(user_id="ada")
        helped = client.sessions.create(user_id="ada", fallback=["anthropic/claude"])
    for session, told in ((alone.id, False), (helped.id, True), (OTHER, False)):
        assert place.run(VIEWER, f"SELECT turnmill.falls_back('{session}')") == [(told,)]


def call_tools(client: Client, store: Database, turn: Turn) -> None:
    """Let a model call tools, and somebody outside reject the one and answer the other."""
    claim = steps.take_one(store, turn.id)
    named: dict[str, Any] = {"call_id": CANARY, "tool": CANARY}
    asked = stepping.new_call(state=ToolCallState.APPROVAL, **named)
    stepping.wait(store, stepping.call(store, claim, asked))
    turn.reject(CANARY, CANARY, by=CANARY)
    claim = steps.take_one(store, turn.id)
    outside = stepping.new_call(state=ToolCallState.CALLER, **named)
    stepping.wait(store, stepping.call(store, claim, outside))
    turn.submit_tool_outputs({CANARY: CANARY})
    assert [one.why for one in client.turns.get(turn.id).tool_calls()] == [CANARY, None]


def write_everywhere(place: Place, file: Path) -> None:
    """Put a word into everything that callers, users and vendors can write into."""
    with Client(database_url=place.url_as(RUNTIME)) as client:
        session = client.sessions.create(
            user_id=CANARY, key=CANARY, system_prompt=CANARY, metadata={CANARY: CANARY}
        )
        turn = client.send(session, CANARY, idempotency_key=CANARY, metadata={CANARY: CANARY})
        store = Database(place.url_as(RUNTIME))
        steps.answer(store, turn.id)
        call_tools(client, store, client.send(session, CANARY))
        store.close()
        lines = file.with_suffix(".jsonl")
        line = {"user_id": CANARY, "text": CANARY, "custom_id": CANARY}
        lines.write_text(json.dumps(line) + "\n")
        client.batches.create(lines, name=CANARY)
    place.run(OWNER, f"UPDATE turnmill.turns SET native_ref = '{CANARY}', custom_id = '{CANARY}'")
    place.run(OWNER, f"UPDATE turnmill.attempts SET error_detail = '{CANARY}'")
    place.run(OWNER, f"UPDATE turnmill.sessions SET provider_ref = '{CANARY}'")

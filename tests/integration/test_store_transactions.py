"""Transactions of the caller's, and errors of the database's: ours, typed, without contents."""

import pickle
import traceback
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from threading import Barrier

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, insert

from tests import rows, steps
from tests.conftest import fresh_database
from tests.crowd import DEADLINE, at_once
from turnmill import Client
from turnmill.domain.errors import (
    SchemaOutOfDate,
    SessionBusy,
    StoreError,
    StoreUnavailable,
    WrongIsolation,
)
from turnmill.domain.ids import SessionId
from turnmill.domain.states import Lane
from turnmill.store.database import Database
from turnmill.store.line.accept import accept, accept_within
from turnmill.store.line.due import announce_due
from turnmill.store.records import Waits
from turnmill.store.schema.tables import messages
from turnmill.wire import WAKE_CHANNEL
from turnmill_worker.stack.postgres import EmbeddedPostgres

CANARY = "nobody-may-ever-read-this"


@pytest.fixture
def theirs(database_url: str) -> Iterator[Engine]:
    """An application's own engine, with settings of its own."""
    engine = create_engine(
        database_url.replace("postgresql://", "postgresql+psycopg://"),
        connect_args={"options": "-c lock_timeout=300ms"},
    )
    yield engine
    engine.dispose()


def told(error: BaseException) -> str:
    """Return all that a log or a debugger of a caller's would show of an error."""
    return "".join(traceback.format_exception(error)) + repr(vars(error))


def test_a_rollback_leaves_nothing(store: Database, theirs: Engine) -> None:
    session = rows.start(store)
    with theirs.connect() as mine:
        accept_within(mine, session, rows.say())
        mine.rollback()
    assert steps.count_turns(store) == 0
    assert steps.turn(store, steps.send(store, session).turn_id).seq == 1


def test_a_savepoint_that_is_undone_takes_its_message_with_it(
    store: Database, theirs: Engine
) -> None:
    session = rows.start(store)
    with theirs.begin() as mine:
        kept = accept_within(mine, session, rows.say())
        undone = mine.begin_nested()
        accept_within(mine, session, rows.say())
        undone.rollback()
    assert steps.line(store, session).head == kept.turn_id
    assert steps.count_turns(store) == 1


def test_a_commit_wakes_a_dispatcher_and_nothing_before_does(
    store: Database, theirs: Engine, database_url: str
) -> None:
    session = rows.start(store)
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute(f"LISTEN {WAKE_CHANNEL}")
        with theirs.begin() as mine:
            sent = accept_within(mine, session, rows.say())
            assert list(listener.notifies(timeout=0, stop_after=1)) == []
        (notice,) = listener.notifies(timeout=DEADLINE, stop_after=1)
    assert notice.payload == str(sent.turn_id)


def test_a_message_behind_another_wakes_nobody(
    store: Database, theirs: Engine, database_url: str
) -> None:
    session = rows.start(store)
    steps.send(store, session)
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute(f"LISTEN {WAKE_CHANNEL}")
        with theirs.begin() as mine:
            accept_within(mine, session, rows.say())
        listener.execute(f"NOTIFY {WAKE_CHANNEL}, 'end'")
        (notice,) = listener.notifies(timeout=DEADLINE, stop_after=1)
    assert notice.payload == "end"


def test_a_commit_whose_wake_was_lost_is_found_by_the_next_look(
    store: Database, theirs: Engine
) -> None:
    with theirs.begin() as mine:
        sent = accept_within(mine, rows.start(store), rows.say())
    waits = Waits(grace=timedelta(0), quiet=timedelta(seconds=1))
    with store.single() as conn:
        (head,) = announce_due(
            conn,
            Lane.INTERACTIVE,
            providers=["mock"],
            limit=10,
            hints=0,
            waits=waits,
            drained=waits,
        )
    assert head.turn_id == sent.turn_id


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_frozen_snapshot_is_refused(store: Database, theirs: Engine, level: str) -> None:
    session = rows.start(store)
    frozen = theirs.execution_options(isolation_level=level)
    with frozen.connect() as mine, pytest.raises(WrongIsolation, match=level):
        accept_within(mine, session, rows.say())
    assert steps.count_turns(store) == 0


def test_a_lock_timeout_says_that_the_session_is_busy(store: Database, theirs: Engine) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        accept(conn, session, rows.say())
        with theirs.connect() as mine, pytest.raises(SessionBusy) as caught:
            accept_within(mine, session, rows.say(CANARY, idempotency_key="k"))
    assert CANARY not in told(caught.value)


def test_a_client_in_a_callers_transaction_says_the_same(
    store: Database, theirs: Engine, database_url: str
) -> None:
    session = rows.start(store)
    with (
        Client(database_url=database_url) as client,
        store.begin() as conn,
        theirs.connect() as mine,
    ):
        accept(conn, session, rows.say())
        with pytest.raises(SessionBusy):
            client.send(session, "hello", connection=mine)


def test_callers_that_deadlock_each_other_are_told_so(store: Database) -> None:
    ada, bob = rows.start(store), rows.start(store)
    both_hold_one = Barrier(2)

    def send_to(first: SessionId, second: SessionId) -> None:
        with store.begin() as conn:
            accept(conn, first, rows.say(CANARY))
            both_hold_one.wait(timeout=DEADLINE)
            accept(conn, second, rows.say(CANARY))

    results = at_once(partial(send_to, ada, bob), partial(send_to, bob, ada))
    (error,) = [one for one in results if isinstance(one, Exception)]
    assert isinstance(error, SessionBusy)
    assert CANARY not in told(error)
    assert steps.count_turns(store) == 2


def test_a_unique_violation_names_the_constraint_and_not_the_row(store: Database) -> None:
    session = rows.start(store)
    sent = steps.send(store, session, CANARY)
    row = {"session_id": session, "turn_id": sent.turn_id, "position": 0, "role": "user"}
    with pytest.raises(StoreError) as caught, store.begin() as conn:
        conn.execute(insert(messages).values(id=sent.turn_id, content=[CANARY], **row))
    assert "uq_messages_turn_id_position" in str(caught.value)
    assert "23505" in str(caught.value)
    assert CANARY not in told(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_what_the_database_cannot_store_is_an_error_without_the_text(store: Database) -> None:
    claim = steps.take_one(store, steps.send(store, rows.start(store)).turn_id)
    with pytest.raises(StoreError) as caught:
        steps.end(store, claim, reply=f"{CANARY}\0")
    assert not isinstance(caught.value, StoreUnavailable)
    assert CANARY not in told(caught.value)
    steps.end(store, claim)


def test_what_the_driver_refuses_is_not_a_database_out_of_reach(store: Database) -> None:
    with pytest.raises(StoreError) as caught:
        steps.take(store, steps.send(store, rows.start(store)).turn_id, owner=f"{CANARY}\0")
    assert not isinstance(caught.value, StoreUnavailable)
    assert CANARY not in told(caught.value)


def test_a_statement_that_takes_too_long_may_be_tried_again(store: Database) -> None:
    slow = "SET LOCAL statement_timeout = 20; SELECT pg_sleep(30)"
    with pytest.raises(StoreUnavailable), store.begin() as conn:
        conn.exec_driver_sql(slow)


def test_a_connection_that_was_cut_is_a_database_out_of_reach(store: Database) -> None:
    with pytest.raises(StoreUnavailable), store.begin() as conn:
        conn.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    assert steps.count_turns(store) == 0


def test_a_database_without_tables_says_what_to_run(postgres_server: EmbeddedPostgres) -> None:
    with fresh_database(postgres_server) as url:
        bare = Database(url)
        with pytest.raises(SchemaOutOfDate) as caught:
            steps.count_turns(bare)
        assert "turnmill migrate" in caught.value.hint
        bare.close()


def test_a_server_that_does_not_answer_is_a_database_out_of_reach() -> None:
    nowhere = Database("postgresql://nobody:secret-word@127.0.0.1:9/none")
    with pytest.raises(StoreUnavailable) as caught:
        steps.count_turns(nowhere)
    assert "secret-word" not in told(caught.value)

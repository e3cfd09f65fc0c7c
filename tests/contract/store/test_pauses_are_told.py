"""A session that a failure pauses: an event says so, behind that of the turn that failed."""

from collections.abc import Iterator

import pytest
from sqlalchemy import select, update

from tests import rows, steps
from turnmill.domain.ids import SessionId
from turnmill.domain.states import EventKind, OnFailure, TurnState
from turnmill.store.database import Database
from turnmill.store.nouns import sessions, subscribing
from turnmill.store.rules import wanted
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.tables import turns
from turnmill.store.upkeep.invariants import violations


@pytest.fixture(autouse=True)
def watched(store: Database) -> Iterator[None]:
    with store.begin() as conn:
        subscribing.subscribe(conn, "reader", [EventKind.PAUSED])
    wanted.forget()
    yield
    wanted.forget()


def one(store: Database, on_failure: OnFailure = OnFailure.PAUSE) -> SessionId:
    return rows.start(store, on_failure=on_failure)


def told(store: Database, session: SessionId) -> list[str]:
    """Return the kinds of the session's events, which are numbered without a gap."""
    with store.begin() as conn:
        found = conn.execute(
            select(events.c.n, events.c.kind)
            .where(events.c.session_id == session)
            .order_by(events.c.n)
        ).all()
        last = conn.scalar(select(session_rows.c.events).where(session_rows.c.id == session))
        assert violations(conn) == []
    assert [row.n for row in found] == list(range(1, len(found) + 1))
    assert last == len(found)
    return [row.kind for row in found]


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.DEAD])
def test_a_verdict_that_pauses_its_session_says_so(store: Database, state: TurnState) -> None:
    session = one(store)
    turn = steps.send(store, session).turn_id
    steps.end(store, steps.take_one(store, turn), state, error_code="x")
    assert told(store, session) == [f"turn.{state}", "session.paused"]
    with store.begin() as conn:
        paused = select(events.c.turn_id).where(events.c.kind == "session.paused")
        assert conn.scalars(paused).one().int == 0


def test_a_worker_that_was_lost_too_often_pauses_it_and_that_is_said(store: Database) -> None:
    session = one(store)
    turn = steps.send(store, session).turn_id
    with store.begin() as conn:
        conn.execute(update(turns).values(max_attempts=1))
    steps.take_one(store, turn)
    steps.lose(store, turn)
    for _ in range(5):
        if steps.turn(store, turn).state is TurnState.DEAD:
            break
        steps.take_one(store, turn)
        steps.lose(store, turn)
    assert steps.turn(store, turn).state is TurnState.DEAD
    assert told(store, session)[-2:] == ["turn.dead", "session.paused"]


def test_nothing_is_said_where_no_failure_pauses_or_somebody_has_paused_it_before(
    store: Database,
) -> None:
    goes_on, paused, fine = one(store, OnFailure.CONTINUE), one(store), one(store)
    for session in (goes_on, paused):
        claim = steps.take_one(store, steps.send(store, session).turn_id)
        if session == paused:
            with store.begin() as conn:
                sessions.pause(conn, session)
        steps.end(store, claim, TurnState.FAILED, error_code="x")
    steps.answer(store, steps.send(store, fine).turn_id)
    assert told(store, goes_on) == ["turn.failed"]
    assert told(store, paused) == ["session.paused", "turn.failed"]
    assert told(store, fine) == ["turn.succeeded"]


def test_a_cancelled_turn_pauses_nothing_though_its_call_has_failed(store: Database) -> None:
    session = one(store)
    turn = steps.send(store, session).turn_id
    claim = steps.take_one(store, turn)
    steps.cancel(store, turn)
    steps.end(store, claim, TurnState.FAILED, error_code="x")
    assert told(store, session) == ["turn.cancelled"]


def test_several_verdicts_in_one_statement_are_told_each_in_its_session(store: Database) -> None:
    many = [one(store) for _ in range(4)]
    claims = [steps.take_one(store, steps.send(store, each).turn_id) for each in many]
    for n, claim in enumerate(claims):
        state = TurnState.SUCCEEDED if n % 2 else TurnState.FAILED
        steps.end(store, claim, state, error_code=None if n % 2 else "x")
    assert [told(store, each) for each in many] == [
        ["turn.failed", "session.paused"],
        ["turn.succeeded"],
    ] * 2


def test_nobody_who_does_not_ask_pays_for_it(store: Database) -> None:
    with store.begin() as conn:
        subscribing.unsubscribe(conn, "reader")
    wanted.forget()
    session = one(store)
    turn = steps.send(store, session).turn_id
    steps.end(store, steps.take_one(store, turn), TurnState.FAILED, error_code="x")
    assert told(store, session) == ["turn.failed"]

"""Accepting many messages at once: as accepting each of them would, all or none."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from tests import rows
from turnmill.domain.errors import IdempotencyConflict, SessionArchived, SessionNotFound
from turnmill.domain.ids import SessionId
from turnmill.domain.states import Lane, TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.line.accept_many import accept_many
from turnmill.store.nouns import sessions, turns
from turnmill.store.schema.tables import turns as turn_rows


def count(store: Database) -> int:
    with store.begin() as conn:
        return conn.execute(select(func.count()).select_from(turn_rows)).scalar_one()


def test_messages_of_one_session_keep_their_order_among_others(store: Database) -> None:
    ada, bob = rows.start(store), rows.start(store, user_id="bob")
    items = [(session, rows.say(f"{n}")) for n in range(5) for session in (ada, bob)]
    with store.begin() as conn:
        accept_many(conn, items)
        said = [message.text for message in sessions.history(conn, ada)]
        seqs = [message.seq for message in sessions.history(conn, bob)]
    assert said == ["0", "1", "2", "3", "4"]
    assert seqs == [1, 2, 3, 4, 5]


def test_the_result_stands_in_the_order_of_the_messages(store: Database) -> None:
    session = rows.start(store)
    items = [(session, rows.say(f"{n}")) for n in range(20)]
    with store.begin() as conn:
        accepted = accept_many(conn, items)
    assert [one.turn_id for one in accepted] == [turn.id for _, turn in items]
    assert all(one.created for one in accepted)


def test_only_the_head_of_each_line_is_announced(store: Database) -> None:
    ada, bob, cy = (rows.start(store, user_id=name) for name in ("ada", "bob", "cy"))
    rows.send(store, cy)
    with store.begin() as conn:
        accepted = accept_many(conn, [(one, rows.say()) for one in (ada, ada, bob, cy)])
    assert [one.announce for one in accepted] == [True, False, True, False]


def test_a_head_that_is_not_due_or_paused_is_not_announced(store: Database) -> None:
    later, paused = rows.start(store), rows.start(store)
    with store.begin() as conn:
        sessions.pause(conn, paused)
        accepted = accept_many(
            conn,
            [
                (later, rows.say(deliver_at=datetime.now(UTC) + timedelta(hours=1))),
                (paused, rows.say()),
            ],
        )
    assert [one.announce for one in accepted] == [False, False]


def test_what_is_said_of_a_message_is_kept(store: Database) -> None:
    session = rows.start(store, max_attempts=7)
    due = datetime.now(UTC) + timedelta(hours=1)
    new = rows.say(
        "ünï\u2028",
        lane="bulk",
        metadata={"a": [1, None]},
        deliver_at=due,
        expires=due + timedelta(hours=1),
        idempotency_key="k",
    )
    with store.begin() as conn:
        accept_many(conn, [(session, new)])
        turn = turns.get(conn, new.id)
        assert sessions.history(conn, session)[0].text == "ünï\u2028"
    assert (turn.state, turn.lane, turn.max_attempts) == (TurnState.QUEUED, Lane.BULK, 7)
    assert (turn.available_at, turn.expires_at) == (due, due + timedelta(hours=1))
    assert (turn.metadata, turn.idempotency_key) == ({"a": [1, None]}, "k")


def test_a_key_that_is_known_returns_the_turn_it_stands_for(store: Database) -> None:
    session = rows.start(store)
    known = rows.send(store, session, "same", idempotency_key="k")
    with store.begin() as conn:
        accepted = accept_many(
            conn, [(session, rows.say("same", idempotency_key="k")), (session, rows.say("new"))]
        )
    assert (accepted[0].turn_id, accepted[0].created) == (known, False)
    assert accepted[1].created
    assert count(store) == 2


def test_a_key_used_twice_in_one_call_makes_one_turn(store: Database) -> None:
    session, other = rows.start(store), rows.start(store)
    with store.begin() as conn:
        accepted = accept_many(
            conn,
            [
                (session, rows.say("same", idempotency_key="k")),
                (session, rows.say("same", idempotency_key="k")),
                (other, rows.say("same", idempotency_key="k")),
            ],
        )
    assert accepted[1].turn_id == accepted[0].turn_id
    assert [one.created for one in accepted] == [True, False, True]
    assert count(store) == 2


@pytest.mark.parametrize("known", [True, False], ids=["before", "in the same call"])
def test_a_key_with_other_content_is_refused_by_index(store: Database, known: bool) -> None:
    session = rows.start(store)
    first = rows.say("one", idempotency_key="k")
    if known:
        rows.send(store, session, "one", idempotency_key="k")
    items = [(session, first), (session, rows.say("canary", idempotency_key="k"))]
    with pytest.raises(IdempotencyConflict) as caught, store.begin() as conn:
        accept_many(conn, items)
    assert caught.value.index == 1
    assert "canary" not in str(caught.value)
    assert count(store) == int(known)


def test_an_unknown_session_is_refused_by_index_and_nothing_is_written(store: Database) -> None:
    session = rows.start(store)
    items = [(session, rows.say()), (SessionId(new_id()), rows.say())]
    with pytest.raises(SessionNotFound) as caught, store.begin() as conn:
        accept_many(conn, items)
    assert caught.value.index == 1
    assert count(store) == 0


def test_an_archived_session_is_refused_by_index_and_nothing_is_written(store: Database) -> None:
    session, archived = rows.start(store), rows.start(store)
    with store.begin() as conn:
        sessions.archive(conn, archived)
    items = [(session, rows.say()), (session, rows.say()), (archived, rows.say())]
    with pytest.raises(SessionArchived) as caught, store.begin() as conn:
        accept_many(conn, items)
    assert caught.value.index == 2
    assert count(store) == 0


def test_no_messages_are_no_work(store: Database) -> None:
    with store.begin() as conn:
        assert accept_many(conn, []) == []


def test_more_messages_than_one_statement_takes_keep_their_order(store: Database) -> None:
    session = rows.start(store)
    items = [(session, rows.say(f"{n}")) for n in range(2050 if store.is_postgres else 60)]
    with store.begin() as conn:
        accept_many(conn, items)
        found = sessions.get(conn, session)
        last = turns.get(conn, items[-1][1].id)
    assert found.unfinished == last.seq == len(items)


def test_turns_accepted_together_run_one_after_the_other(store: Database) -> None:
    session = rows.start(store)
    items = [(session, rows.say(f"{n}", lane="bulk")) for n in range(3)]
    with store.begin() as conn:
        accept_many(conn, items)
    for _, turn in items:
        rows.run(store, turn.id)
    with store.begin() as conn:
        assert sessions.get(conn, session).turns_succeeded == 3


def test_a_key_stands_for_its_turn_when_its_session_was_archived_meanwhile(
    store: Database,
) -> None:
    session, other = rows.start(store), rows.start(store)
    items = [(one, rows.say("same", idempotency_key="k")) for one in (session, other)]
    with store.begin() as conn:
        first = accept_many(conn, items)
    rows.run(store, first[0].turn_id)
    with store.begin() as conn:
        sessions.archive(conn, session)
    with store.begin() as conn:
        again = accept_many(conn, items)
    assert [one.turn_id for one in again] == [one.turn_id for one in first]
    assert not any(one.created for one in again)
    with pytest.raises(SessionArchived) as caught, store.begin() as conn:
        accept_many(conn, [items[1], (session, rows.say("new", idempotency_key="l"))])
    assert caught.value.index == 1


def test_a_key_of_a_session_that_was_deleted_stands_for_nothing(store: Database) -> None:
    session = rows.start(store)
    items = [(session, rows.say("same", idempotency_key="k"))]
    with store.begin() as conn:
        accept_many(conn, items)
        sessions.remove(conn, session)
    with pytest.raises(SessionNotFound), store.begin() as conn:
        accept_many(conn, items)

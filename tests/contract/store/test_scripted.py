"""Scripted turns: read and shown to models as what was said, and asked of nobody."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from tests import rows, steps
from turnmill.domain.content import Message, Text
from turnmill.domain.errors import InvalidInput, MoveRefused, SessionNotFound
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.scripts import script_of
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.analytics import usage
from turnmill.store.database import Database
from turnmill.store.nouns import sessions, turns
from turnmill.store.nouns.scripted import SCRIPTED, ScriptedTurn, insert_scripted
from turnmill.store.upkeep.invariants import violations
from turnmill.verbs.reply import read_reply

LONG_AGO = datetime(2025, 3, 14, 9, tzinfo=UTC)


def said(role: str, text: str) -> Message:
    return Message(role, (Text(text),))


def scripted(*messages: Message, at: datetime | None = None) -> ScriptedTurn:
    return ScriptedTurn(id=TurnId(new_id()), messages=messages, at=at)


def play(store: Database, session: SessionId, script: Sequence[ScriptedTurn]) -> int:
    with store.begin() as conn:
        return insert_scripted(conn, session, script)


A_QUESTION = scripted(said("user", "Who?"), said("assistant", "Me."), at=LONG_AGO)


def test_a_model_is_shown_scripted_turns_before_the_first_that_is_asked(store: Database) -> None:
    session = rows.start(store)
    assert play(store, session, [scripted(said("assistant", "Hello!")), A_QUESTION]) == 2
    claim = steps.take_one(store, rows.send(store, session, "And now?"))
    assert [(one.role, one.text) for one in claim.history or ()] == [
        ("assistant", "Hello!"),
        ("user", "Who?"),
        ("assistant", "Me."),
    ]


def test_a_scripted_turn_has_its_reply_and_no_attempt_cost_or_answerer(store: Database) -> None:
    session = rows.start(store)
    play(store, session, [A_QUESTION])
    with store.begin() as conn:
        reply = read_reply(conn, A_QUESTION.id)
        record = turns.get(conn, A_QUESTION.id)
        history = sessions.history(conn, session)
    assert reply is not None
    assert (reply.text, reply.finish_reason, reply.attempts) == ("Me.", SCRIPTED, [])
    assert (reply.answered_by, reply.usage.total_tokens) == ("", 0)
    assert reply.cost_usd == 0
    assert (record.state, record.attempt, record.answered_by) == (TurnState.SUCCEEDED, 0, None)
    assert [one.created_at for one in history] == [LONG_AGO, LONG_AGO]


def test_scripted_turns_break_no_promise_and_are_in_no_figures(store: Database) -> None:
    session = rows.start(store)
    play(store, session, [scripted(said("assistant", "Hello!")), A_QUESTION])
    rows.run(store, rows.send(store, session))
    with store.begin() as conn:
        assert violations(conn, drained=True) == []
        today = datetime.now(UTC).date()
        usage.roll_up(conn)
        (line,) = usage.report(conn, first=LONG_AGO.date(), last=today)
        assert sessions.get(conn, session).turns_succeeded == 3
    assert line.turns == line.succeeded == 1


def test_history_goes_in_before_anything_else_happens(store: Database) -> None:
    session = rows.start(store)
    turn = rows.send(store, session)
    with pytest.raises(MoveRefused):
        play(store, session, [A_QUESTION])
    rows.run(store, turn, provider_ref="resp_1")
    with pytest.raises(MoveRefused):
        play(store, session, [A_QUESTION])
    with pytest.raises(SessionNotFound):
        play(store, SessionId(new_id()), [A_QUESTION])


def test_a_turn_without_a_reply_is_none_of_the_history(store: Database) -> None:
    session = rows.start(store)
    with pytest.raises(InvalidInput):
        play(store, session, [A_QUESTION, scripted(said("user", "Anybody?"))])
    with store.begin() as conn:
        assert sessions.history(conn, session) == []


def test_a_conversation_is_taken_apart_where_somebody_asks_after_a_reply() -> None:
    asked, replied = said("user", "?"), said("assistant", "!")
    tool = Message("tool", ())
    script = script_of([replied, asked, asked, replied, tool, replied, asked, replied, asked])
    assert script.turns == [
        (replied,),
        (asked, asked, replied, tool, replied),
        (asked, replied),
    ]
    assert script.open == (asked,)
    assert script_of([]) == ([], ())

"""Whatever is said comes back from every store as it was said: all of it, in order."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from tests import contents, rows, steps
from tests.contract.store.test_odd_rows import put
from turnmill.domain.content import Message, Part, Text, ToolCall, ToolOutput
from turnmill.domain.errors import IdempotencyConflict, Rejected, UnreadableRow
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.codec import content_of
from turnmill.store.database import Database
from turnmill.store.line.accept import accept
from turnmill.store.line.accept_many import accept_many, accept_new
from turnmill.store.line.history import succeeded_history
from turnmill.store.line.start_many import start_many
from turnmill.store.nouns import outcome, sessions
from turnmill.store.records import NewSession, NewTurn
from turnmill.store.schema.tables import messages as message_rows
from turnmill.verbs import intake

pytestmark = pytest.mark.usefixtures("sound")

ASKED = (
    Message("user", contents.EACH),
    Message.of("user", "And this:"),
    Message("user", (Text("one"), Text("two"))),
)
REPLIED = (
    Message("assistant", (Text("Let me see."), ToolCall(id="1", name="now", arguments="{}"))),
    Message("tool", (ToolOutput(call_id="1", output="noon"),)),
    Message("assistant", (contents.EACH[-1], Text("It is noon."))),
)


def new_turn(*messages: Message, **options: Any) -> NewTurn:
    return NewTurn(id=TurnId(new_id()), messages=messages, **options)


def ask(store: Database, session: SessionId, *messages: Message) -> TurnId:
    with store.begin() as conn:
        return accept(conn, session, new_turn(*messages)).turn_id


def listed(store: Database, session: SessionId) -> list[Message]:
    with store.begin() as conn:
        return [Message(one.role, one.parts) for one in sessions.history(conn, session)]


def shown(store: Database, session: SessionId) -> Sequence[Message]:
    """Return what a provider is sent."""
    with store.begin() as conn:
        return list(succeeded_history(conn, session))


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    asked=st.lists(contents.messages, max_size=3),
    replied=st.lists(contents.messages, max_size=2),
)
def test_all_that_is_asked_and_said_in_reply_comes_back_in_its_order(
    store: Database, asked: list[Message], replied: list[Message]
) -> None:
    asked = [Message.of("user", "Hello"), *asked]
    replied = [*replied, Message.of("assistant", "Hello.")]
    session = rows.start(store)
    claim = steps.take_one(store, ask(store, session, *asked))
    assert list(claim.messages) == asked
    steps.end(store, claim, replies=replied)
    assert listed(store, session) == [*asked, *replied]
    again = steps.take_one(store, steps.send(store, session, "And now?").turn_id)
    assert again.history == shown(store, session) == [*asked, *replied]


def test_every_kind_of_part_is_stored_and_shown(store: Database) -> None:
    session = rows.start(store)
    turn = ask(store, session, *ASKED)
    steps.end(store, steps.take_one(store, turn), replies=REPLIED)
    assert listed(store, session) == [*ASKED, *REPLIED]
    with store.begin() as conn:
        ended = outcome.outcome_of(conn, turn)
        told = list(sessions.history(conn, session))
    assert ended is not None and ended.parts == REPLIED[-1].parts
    assert [one.position for one in told] == [0, 1, 2, 3, 4, 5]
    assert told[-1].text == "It is noon."


@pytest.mark.parametrize("many", ["accept_many", "accept_new", "start_many"])
def test_many_turns_of_several_messages_are_each_whole(store: Database, many: str) -> None:
    new = [new_turn(Message.of("user", f"{n}"), *ASKED) for n in range(3)]
    fresh = [_new_session() for _ in new]
    lines = [one.id for one in fresh]
    if many != "start_many":
        lines = [rows.start(store) for _ in new]
    with store.begin() as conn:
        if many == "start_many":
            start_many(conn, list(zip(fresh, new, strict=True)))
        elif many == "accept_new":
            accept_new(conn, lines, iter(new))
        else:
            accept_many(conn, list(zip(lines, new, strict=True)))
    for turn, line in zip(new, lines, strict=True):
        assert listed(store, line) == list(turn.messages)
        assert list(steps.take_one(store, turn.id).messages) == list(turn.messages)


def _new_session() -> NewSession:
    return intake.new_session(
        user_id="ada",
        provider="mock",
        model="mock",
        key=None,
        system_prompt=None,
        max_text_bytes=100,
    )


@pytest.mark.parametrize("final", [TurnState.FAILED, TurnState.DEAD, TurnState.CANCELLED])
def test_a_turn_that_came_to_nothing_leaves_nothing_behind_in_the_thread(
    store: Database, final: TurnState
) -> None:
    session = rows.start(store)
    claim = steps.take_one(store, ask(store, session, *ASKED))
    if final is TurnState.CANCELLED:
        steps.cancel(store, claim.turn_id)
        steps.end(store, claim, TurnState.SUCCEEDED, replies=REPLIED)
    else:
        steps.end(store, claim, final)
    assert steps.turn(store, claim.turn_id).state is final
    assert listed(store, session) == [*ASKED]
    assert shown(store, session) == []


def test_a_retry_at_the_end_of_the_line_asks_all_of_it_again(store: Database) -> None:
    session = rows.start(store)
    failed = ask(store, session, *ASKED)
    steps.end(store, steps.take_one(store, failed), TurnState.FAILED)
    steps.answer(store, steps.send(store, session).turn_id)
    copy = steps.retry(store, failed)
    assert copy.turn_id != failed
    assert list(steps.take_one(store, copy.turn_id).messages) == list(ASKED)


def test_a_reply_stands_behind_what_was_said_wherever_that_stands(store: Database) -> None:
    session = rows.start(store)
    turn = ask(store, session, Message.of("user", "one"))
    later = {"id": new_id(), "session_id": session, "turn_id": turn, "position": 7}
    with store.begin() as conn:
        row = {"role": "user", "content": content_of([Text("two")]), **later}
        conn.execute(insert(message_rows).values(**row))
    claim = steps.take_one(store, turn)
    assert [one.text for one in claim.messages] == ["one", "two"]
    steps.end(store, claim, replies=REPLIED)
    with store.begin() as conn:
        assert [one.position for one in sessions.history(conn, session)] == [0, 7, 8, 9, 10]


def test_a_key_stands_for_all_parts_of_all_messages(store: Database) -> None:
    session = rows.start(store)
    asked = new_turn(*ASKED, idempotency_key="k")
    with store.begin() as conn:
        first = accept(conn, session, asked)
        again = accept(conn, session, new_turn(*ASKED, idempotency_key="k"))
    assert (again.turn_id, again.created) == (first.turn_id, False)
    less: list[tuple[Message, ...]] = [
        ASKED[:-1],
        (ASKED[1], ASKED[0], ASKED[2]),
        (Message("user", contents.EACH[:-1]), *ASKED[1:]),
        (Message("system", contents.EACH), *ASKED[1:]),
        (*ASKED[:2], Message.of("user", "onetwo")),
    ]
    for messages in less:
        other = new_turn(*messages, idempotency_key="k")
        with pytest.raises(IdempotencyConflict), store.begin() as conn:
            accept(conn, session, other)
        with pytest.raises(IdempotencyConflict), store.begin() as conn:
            accept_many(conn, [(session, other)])


NEWER = '[{"type": "text", "text": "Look:"}, {"type": "hologram", "text": "hello"}]'


def test_a_kind_that_a_newer_version_asked_with_ends_its_turn_alone(store: Database) -> None:
    lines = [rows.start(store) for _ in range(3)]
    sent = [steps.send(store, line, f"message {n}").turn_id for n, line in enumerate(lines)]
    put(store, "messages", sent[1], "content", NEWER)
    assert [one.turn_id for one in steps.take(store, *sent)] == [sent[0], sent[2]]
    odd = steps.turn(store, sent[1])
    assert (odd.state, odd.error_code) == (TurnState.FAILED, "unreadable_row")
    assert listed(store, lines[1]) == [Message("user", (Text("Look:"), Text("\ufffd")))]


def test_a_kind_that_a_newer_version_replied_with_is_an_error_where_it_would_be_missed(
    store: Database,
) -> None:
    session = rows.start(store)
    turn = steps.send(store, session).turn_id
    steps.answer(store, turn)
    put(store, "messages", turn, "content", NEWER)
    with pytest.raises(UnreadableRow), store.begin() as conn:
        outcome.outcome_of(conn, turn)
    claim = steps.take_one(store, steps.send(store, session, "And now?").turn_id)
    assert claim.history is not None
    with pytest.raises(Rejected) as caught:
        list(claim.history)
    assert caught.value.error_code == "unreadable_row"


def test_a_native_item_comes_back_to_the_letter(store: Database) -> None:
    """A column of JSON would sort its keys, and write its numbers anew."""
    session = rows.start(store)
    said: Sequence[Part] = (contents.EACH[-1],)
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    steps.end(store, claim, replies=[Message("assistant", tuple(said))])
    assert shown(store, session)[-1].parts == said

"""Several people in a session: what may be said by whom, and one order for all of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests import rows, steps
from tests.contract.store.people_rows import add, answered, history, kinds, note, say, shared, told
from turnmill.domain.bounds import MOST_PARTICIPANTS
from turnmill.domain.content import Sender, Text
from turnmill.domain.errors import (
    IdempotencyConflict,
    InvalidInput,
    MoveRefused,
    NotAParticipant,
    RoleForbids,
    SessionArchived,
    SessionNotFound,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import EventKind, ParticipantRole, TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns import forks, happened, notes, people, sessions, turns
from turnmill.store.nouns.subscribing import subscribe
from turnmill.store.people_records import Happened
from turnmill.store.records import NewSession
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.people_tables import notes as note_rows
from turnmill.store.schema.people_tables import shared_log, turn_senders
from turnmill.store.upkeep.content_retention import empty_content, sessions_with_old_content

pytestmark = pytest.mark.usefixtures("sound")

DAY = timedelta(days=1)


def test_messages_notes_and_what_turns_come_to_are_told_in_the_order_in_which_they_happened(
    store: Database,
) -> None:
    session = shared(store, "bob")
    first = say(store, session, "one", "bob")
    note(store, session, "beside", "ada")
    steps.send(store, session, "nobody's")
    answered(store, first)
    note(store, session, "behind", "bob")
    with store.begin() as conn:
        people.remove(conn, session, "bob", by=None)
    assert kinds(store, session) == [
        ("joined", ""),
        ("accepted", "one"),
        ("posted", "beside"),
        ("accepted", "nobody's"),
        ("started", ""),
        ("succeeded", "answer to one"),
        ("posted", "behind"),
        ("left", ""),
    ]
    assert [one.sender for one in told(store, session)] == [
        *("bob", "bob", "ada", None, None, None, "bob", "bob")
    ]


def test_whoever_looks_when_and_how_often_changes_nothing_for_those_who_look_later(
    store: Database,
) -> None:
    session = shared(store, "bob")
    seen: list[Happened] = []
    for n in range(4):
        turn = say(store, session, f"message {n}", "bob")
        seen += told(store, session, after=len(seen), limit=2)
        claim = steps.take_one(store, turn)
        seen += told(store, session, after=len(seen))
        steps.end(store, claim)
        note(store, session, f"note {n}", "ada")
    seen += told(store, session, after=len(seen))
    assert told(store, session) == seen
    assert [one.cursor for one in seen] == list(range(1, len(seen) + 1))
    assert sum(one.kind == EventKind.SUCCEEDED for one in seen) == 4


def test_what_had_not_ended_when_the_first_one_joined_is_told_and_what_had_is_history(
    store: Database,
) -> None:
    session = rows.start(store)
    answered(store, steps.send(store, session, "old").turn_id)
    turn = steps.send(store, session, "open").turn_id
    add(store, session, "bob")
    answered(store, turn)
    assert kinds(store, session) == [
        *(("accepted", "open"), ("joined", ""), ("started", "")),
        ("succeeded", "answer to open"),
    ]


def test_a_turn_that_is_retried_ends_again_for_everybody(store: Database) -> None:
    session = shared(store, "bob")
    turn = say(store, session, "again", "bob")
    steps.end(store, steps.take_one(store, turn), TurnState.FAILED, error_code="no")
    with store.begin() as conn:
        turns.retry(conn, turn, new_id=TurnId(new_id()))
    answered(store, turn)
    assert [kind for kind, _ in kinds(store, session)] == [
        *("joined", "accepted", "started", "failed", "retried", "succeeded")
    ]


def test_a_turn_that_had_failed_before_anybody_joined_is_told_of_when_it_is_retried(
    store: Database,
) -> None:
    session = rows.start(store)
    turn = steps.send(store, session, "before").turn_id
    steps.end(store, steps.take_one(store, turn), TurnState.FAILED, error_code="no")
    add(store, session, "bob")
    with store.begin() as conn:
        turns.retry(conn, turn, new_id=TurnId(new_id()))
    answered(store, turn)
    assert [kind for kind, _ in kinds(store, session)] == ["joined", "retried", "succeeded"]


def test_what_is_said_again_at_the_end_is_said_by_the_same(store: Database) -> None:
    session = shared(store, "bob")
    turn = say(store, session, "again", "bob")
    steps.end(store, steps.take_one(store, turn), TurnState.FAILED, error_code="no")
    answered(store, say(store, session, "later", "ada"))
    with store.begin() as conn:
        turns.retry(conn, turn, new_id=TurnId(new_id()))
    said = [one for one in told(store, session) if one.kind == EventKind.ACCEPTED]
    assert [(one.sender, one.text) for one in said] == [
        *(("bob", "again"), ("ada", "later"), ("bob", "again"))
    ]


@pytest.mark.parametrize(
    ("name", "refused"),
    [("ada", None), ("bob", None), ("eve", RoleForbids), ("zed", NotAParticipant)],
)
def test_who_may_speak_is_said_by_his_role(
    store: Database, name: str, refused: type[Exception] | None
) -> None:
    session = shared(store, "bob")
    add(store, session, "eve", "observer")
    for speak in (say, note):
        if refused is None:
            speak(store, session, "hello", name)
            continue
        with pytest.raises(refused):
            speak(store, session, "hello", name)
    assert len(history(store, session)) == (2 if refused is None else 0)


def test_only_an_owner_decides_who_takes_part_and_everybody_may_leave(store: Database) -> None:
    session = shared(store, "bob")
    for name, refused in (("bob", RoleForbids), ("zed", NotAParticipant)):
        with pytest.raises(refused), store.begin() as conn:
            people.add(conn, session, "eve", role=None, by=name)
        with pytest.raises(refused), store.begin() as conn:
            people.remove(conn, session, "ada", by=name)
    for act in (
        lambda conn: people.remove(conn, session, "ada", by="ada"),
        lambda conn: people.add(conn, session, "ada", role=ParticipantRole.MEMBER, by=None),
    ):
        with pytest.raises(MoveRefused), store.begin() as conn:
            act(conn)
    with store.begin() as conn:
        people.add(conn, session, "bob", role=ParticipantRole.OWNER, by="ada")
        people.add(conn, session, "eve", role=None, by="bob")
        people.remove(conn, session, "eve", by="eve")
        found = people.listed(conn, session)
    assert [(one.name, one.role.value) for one in found] == [("ada", "owner"), ("bob", "owner")]
    with pytest.raises(NotAParticipant), store.begin() as conn:
        people.remove(conn, session, "eve", by=None)


def test_what_others_have_said_is_unread_until_it_was_read_and_never_goes_back(
    store: Database,
) -> None:
    session = shared(store, "bob")
    answered(store, say(store, session, "hello", "bob"))
    note(store, session, "beside", "ada")
    add(store, session, "eve")

    def unread() -> dict[str, int]:
        with store.begin() as conn:
            happened.look(conn, session)
            return {one.name: one.unread for one in people.listed(conn, session)}

    assert unread() == {"ada": 2, "bob": 2, "eve": 0}
    reply = next(one for one in told(store, session) if one.kind == EventKind.SUCCEEDED)
    with store.begin() as conn:
        people.mark_read(conn, session, "bob", upto=reply.cursor)
        people.mark_read(conn, session, "bob", upto=1)
    assert unread() == {"ada": 2, "bob": 1, "eve": 0}
    with pytest.raises(InvalidInput), store.begin() as conn:
        people.mark_read(conn, session, "bob", upto=1000)
    with store.begin() as conn:
        people.mark_read(conn, session, "ada", upto=None)
    assert unread() == {"ada": 0, "bob": 1, "eve": 0}


def test_a_note_is_no_turn_stands_in_the_history_and_no_model_is_shown_it(store: Database) -> None:
    session = shared(store, "bob")
    note(store, session, "first", "ada")
    turn = say(store, session, "hello", "bob")
    note(store, session, "while it waits", "ada")
    answered(store, turn)
    last = note(store, session, "last", None)
    assert (last.seq, last.sender, last.created) == (1, None, True)
    claim = steps.take_one(store, steps.send(store, session, "and?").turn_id)
    assert [one.text for one in claim.history or ()] == ["hello", "answer to hello"]
    found = [(one.seq, one.to, one.sender, one.text) for one in history(store, session)]
    assert found == [
        (0, "participants", "ada", "first"),
        (1, None, "bob", "hello"),
        (1, None, None, "answer to hello"),
        (1, "participants", "ada", "while it waits"),
        (1, "participants", None, "last"),
        (2, None, None, "and?"),
    ]
    with store.begin() as conn:
        assert [one.text for one in turns.messages_of(conn, turn)] == ["hello", "answer to hello"]


@pytest.mark.parametrize("limit", [1, 2, 500])
def test_pages_of_a_history_leave_out_no_note_and_bring_none_twice(
    store: Database, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "_CHUNK", 2)
    session = shared(store, "bob")
    wanted = []
    for n in range(4):
        for m in range(n):
            note(store, session, f"note {n}.{m}", "bob")
            wanted.append(f"note {n}.{m}")
        say(store, session, f"turn {n}", "bob")
        wanted.append(f"turn {n}")
    note(store, session, "the end", "bob")
    found: list[Any] = []
    page = history(store, session, limit=limit)
    while page:
        found += page
        page = history(store, session, after=notes.place_of(page[-1]), limit=limit)
    assert [one.text for one in found] == [*wanted, "the end"]


def test_a_key_stands_for_one_note(store: Database) -> None:
    session = shared(store, "bob")
    first = note(store, session, "hello", "bob", idempotency_key="k")
    again = note(store, session, "hello", "bob", idempotency_key="k")
    assert (again.cursor, again.created) == (first.cursor, False)
    for text, sender in (("other", "bob"), ("hello", "ada")):
        with pytest.raises(IdempotencyConflict):
            note(store, session, text, sender, idempotency_key="k")
    assert kinds(store, session) == [("joined", ""), ("posted", "hello")]


def test_a_key_stands_for_what_one_of_them_has_said(store: Database) -> None:
    session = shared(store, "bob")
    turn = say(store, session, "hello", "bob", idempotency_key="k")
    assert say(store, session, "hello", "bob", idempotency_key="k") == turn
    with pytest.raises(IdempotencyConflict):
        say(store, session, "hello", "ada", idempotency_key="k")


def test_the_name_is_in_the_message_that_a_model_is_shown(store: Database) -> None:
    session = shared(store, "bob")
    claim = steps.take_one(store, say(store, session, "hello", "bob"))
    assert claim.messages[0].parts == (Sender("bob"), Text("hello"))
    steps.end(store, claim)
    claim = steps.take_one(store, say(store, session, "and", "ada"))
    assert claim.history is not None
    assert claim.history[0].parts == (Sender("bob"), Text("hello"))


def test_a_session_that_is_archived_takes_no_note_and_one_that_is_gone_nothing(
    store: Database,
) -> None:
    session = shared(store, "bob")
    with store.begin() as conn:
        sessions.archive(conn, session)
    with pytest.raises(SessionArchived):
        note(store, session, "hello", "bob")
    with pytest.raises(SessionArchived):
        say(store, session, "hello", "bob")
    assert kinds(store, session) == [("joined", "")]
    with store.begin() as conn:
        sessions.remove(conn, session)
    for act in (note, say):
        with pytest.raises((SessionNotFound, NotAParticipant)):
            act(store, session, "hello", "bob")
    with store.begin() as conn:
        assert conn.scalar(select(func.count()).select_from(shared_log)) == 0


def test_a_fork_keeps_who_has_said_what_and_neither_people_nor_notes(store: Database) -> None:
    session = shared(store, "bob")
    answered(store, say(store, session, "hello", "bob"))
    note(store, session, "beside", "bob")
    new = NewSession(id=SessionId(new_id()), user_id="ada", provider="mock", model="mock")
    with store.begin() as conn:
        forks.fork(conn, new, session, at=None)
        people.share(conn, new.id)
        assert [one.name for one in people.listed(conn, new.id)] == ["ada"]
        found = conn.scalars(
            select(turn_senders.c.name).where(turn_senders.c.session_id == new.id)
        ).all()
    assert found == ["bob"]
    said = [(one.sender, one.text) for one in history(store, new.id)]
    assert said == [("bob", "hello"), (None, "answer to hello")]


def test_what_a_note_says_goes_when_its_time_is_over(store: Database) -> None:
    session = shared(store, "bob")
    now = datetime.now(UTC)
    for days in (40, 20):
        written = note(store, session, f"{days} days old", "bob")
        with store.begin() as conn:
            conn.execute(
                update(note_rows)
                .where(note_rows.c.n == written.cursor)
                .values(created_at=now - days * DAY)
            )
    rows.set_session(store, session, created_at=now - 50 * DAY)

    def look(default: timedelta) -> list[str]:
        with store.begin() as conn:
            for one in sessions_with_old_content(conn, default=default):
                empty_content(conn, one, default=default)
        return [one.text for one in history(store, session)]

    assert look(30 * DAY) == ["", "20 days old"]
    assert look(10 * DAY) == ["", ""]
    assert [text for kind, text in kinds(store, session) if kind == "posted"] == ["", ""]


def test_what_people_do_is_an_event_where_somebody_wants_it(store: Database) -> None:
    with store.begin() as conn:
        subscribe(conn, "observer:crm", {"participant.joined", "participant.left", "note.posted"})
    session = shared(store, "bob")
    note(store, session, "hello", "bob", idempotency_key="k")
    note(store, session, "hello", "bob", idempotency_key="k")
    add(store, session, "bob", "observer")
    with store.begin() as conn:
        people.remove(conn, session, "bob", by=None)
        found = conn.scalars(select(events.c.kind).order_by(events.c.n)).all()
    assert found == ["participant.joined", "note.posted", "participant.left"]


def test_a_session_has_room_for_so_many(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_PARTICIPANTS == 1000
    monkeypatch.setattr(people, "MOST_PARTICIPANTS", 3)
    session = shared(store, "bob", "eve")
    with pytest.raises(MoveRefused):
        add(store, session, "zed")
    add(store, session, "eve", "observer")

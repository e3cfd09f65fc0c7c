"""What people say of replies: one word of each, of what the turn has come to."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests import rows, steps
from tests.keyed import at_hand, encrypted, rows_as_they_lie
from turnmill.domain.errors import InvalidInput, InvalidText, MoveRefused, TurnNotFound, UserErased
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import EventKind, TurnState
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.analytics import feedback
from turnmill.store.analytics.conversations import of_session
from turnmill.store.database import Database
from turnmill.store.feedback_records import Feedback
from turnmill.store.nouns import sessions, turns
from turnmill.store.nouns.forks import fork
from turnmill.store.nouns.subscribing import subscribe
from turnmill.store.records import NewSession
from turnmill.store.rules.wanted import forget
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.feedback_tables import feedback as table
from turnmill.store.upkeep.content_retention import empty_content
from turnmill.store.upkeep.resealing import begin_anew, reseal
from turnmill.verbs import feedback as verbs
from turnmill.verbs.users.erasing import Erasing

pytestmark = pytest.mark.usefixtures("sound")

CANARY = "canary-of-a-comment"


def answered(store: Database, session: SessionId, text: str = "hello") -> TurnId:
    turn = steps.send(store, session, text).turn_id
    steps.end(store, steps.take_one(store, turn))
    return turn


def give(
    store: Database, turn: TurnId, score: Any, comment: Any = None, by: Any = None
) -> Feedback:
    with store.begin() as conn:
        return verbs.give(turn, score, comment, by=by).on(conn).result


def found(store: Database, **filters: Any) -> list[Feedback]:
    with store.begin() as conn:
        return feedback.find(conn, **filters)


def words(store: Database, **filters: Any) -> list[tuple[float | None, str | None, str | None]]:
    return [(one.score, one.comment, one.by) for one in found(store, **filters)]


def test_the_last_word_of_each_counts_and_is_said_how_often_it_was_changed(store: Database) -> None:
    turn = answered(store, rows.start(store))
    first = give(store, turn, -1, "wrong")
    assert (first.changes, first.score, first.comment) == (0, -1.0, "wrong")
    again = give(store, turn, 0.5)
    assert (again.id, again.changes, again.comment) == (first.id, 1, None)
    other = give(store, turn, 1, "I liked it", by="bob")
    assert (other.id != first.id, other.changes) == (True, 0)
    assert words(store) == [(1.0, "I liked it", "bob"), (0.5, None, None)]


def test_the_same_again_changes_nothing_and_tells_nobody(store: Database) -> None:
    with store.begin() as conn:
        subscribe(conn, "somebody", [EventKind.FEEDBACK])
    turn = answered(store, rows.start(store))
    first = give(store, turn, 1, "good")
    assert give(store, turn, 1, "good") == first
    give(store, turn, 1, "very good")
    assert told(store) == [turn, turn]


def told(store: Database) -> list[Any]:
    with store.begin() as conn:
        kind = events.c.kind == EventKind.FEEDBACK.value
        return list(conn.scalars(select(events.c.turn_id).where(kind)))


def test_nobody_pays_for_an_event_that_nobody_wants(store: Database) -> None:
    forget()  # what a test before this one wanted
    turn = answered(store, rows.start(store))
    give(store, turn, 1)
    assert told(store) == []


def test_it_can_be_taken_back_and_given_again(store: Database) -> None:
    turn = answered(store, rows.start(store))
    with pytest.raises(MoveRefused, match="no such feedback"):
        give(store, turn, None)
    give(store, turn, -1, CANARY)
    gone = give(store, turn, None)
    assert (gone.score, gone.comment) == (None, None)
    assert found(store) == []
    assert CANARY not in rows_as_they_lie(store)
    give(store, turn, 1)
    assert [(one.score, one.changes) for one in found(store)] == [(1.0, 2)]


def test_a_turn_that_has_not_ended_is_given_none(store: Database) -> None:
    session = rows.start(store)
    turn = steps.send(store, session).turn_id
    with pytest.raises(MoveRefused, match="queued"):
        give(store, turn, 1)
    claim = steps.take_one(store, turn)
    with pytest.raises(MoveRefused, match="running"):
        give(store, turn, 1)
    steps.end(store, claim)
    assert give(store, turn, 1).score == 1
    with pytest.raises(TurnNotFound):
        give(store, TurnId(new_id()), 1)


def test_what_was_said_before_a_turn_ran_again_is_of_another_reply(store: Database) -> None:
    session = rows.start(store)
    turn = steps.send(store, session).turn_id
    steps.end(store, steps.take_one(store, turn), state=TurnState.FAILED)
    give(store, turn, -1, "nothing came")
    with store.begin() as conn:
        turns.retry(conn, turn, new_id=TurnId(new_id()))
    assert found(store) == []
    steps.end(store, steps.take_one(store, turn))
    assert found(store) == []
    now = give(store, turn, -1, "nothing came")
    assert (now.changes, len(found(store))) == (1, 1)


@pytest.mark.parametrize(
    "score", [1.01, -1.5, float("nan"), float("inf"), True, "1", 10**400, [1], b"1"]
)
def test_a_score_is_a_number_from_minus_one_to_one(store: Database, score: Any) -> None:
    with pytest.raises(InvalidInput):
        verbs.give(new_id(), score, None, by=None)


def test_a_comment_is_text_that_can_be_kept_and_goes_with_a_score(store: Database) -> None:
    for comment in ("", "\0", "\ud800", 7, "x" * 10_001):
        with pytest.raises(InvalidText):
            verbs.give(new_id(), 1, comment, by=None)
    with pytest.raises(InvalidInput, match="goes with a score"):
        verbs.give(new_id(), None, "words", by=None)
    with pytest.raises(InvalidInput):
        verbs.give(new_id(), 1, None, by="\x1b[31m")


def test_it_is_found_by_turn_session_user_score_and_words_in_pages(store: Database) -> None:
    mine, his = rows.start(store, user_id="ada"), rows.start(store, user_id="bob")
    first, second, third = answered(store, mine), answered(store, mine), answered(store, his)
    give(store, first, 1)
    give(store, second, -0.5, "meh")
    give(store, third, -1, "bad")
    give(store, third, 0.25, "from ada", by="ada")
    assert [one.turn_id for one in found(store)] == [third, third, second, first]
    assert words(store, session_id=mine) == [(-0.5, "meh", None), (1.0, None, None)]
    assert words(store, user_id="ada") == [
        (0.25, "from ada", "ada"),
        (-0.5, "meh", None),
        (1.0, None, None),
    ]
    assert words(store, user_id="bob") == [(-1.0, "bad", None)]
    assert words(store, most=-0.5) == [(-1.0, "bad", None), (-0.5, "meh", None)]
    assert words(store, commented=True, session_id=mine) == [(-0.5, "meh", None)]
    assert words(store, turn_id=first) == [(1.0, None, None)]
    page = found(store, limit=3)
    assert [one.turn_id for one in found(store, after=page[-1].id)] == [first]


def test_figures_are_those_of_what_stands(store: Database) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        nothing = feedback.given(conn, of_session(session))
    assert (nothing.count, nothing.mean) == (0, None)
    for score, comment in ((1, None), (1, "yes"), (-0.5, None), (0, None)):
        give(store, answered(store, session), score, comment)
    give(store, taken := answered(store, session), -1)
    give(store, taken, None)
    with store.begin() as conn:
        all_ = feedback.given(conn, of_session(session))
    assert (all_.count, all_.mean, all_.positive, all_.negative) == (4, 0.375, 2, 1)
    assert all_.comments == 1


def test_comments_are_sealed_where_they_lie_and_opened_where_they_are_read(store: Database) -> None:
    session = rows.start(store)
    with encrypted(store, at_hand()):
        turn = answered(store, session)
        give(store, turn, -1, CANARY)
        give(store, turn, 1, f"{CANARY} of bob", by="bob")
        assert [one.comment for one in found(store)] == [f"{CANARY} of bob", CANARY]
        assert give(store, turn, -1, CANARY).changes == 0
        assert CANARY not in rows_as_they_lie(store)


def test_comments_that_were_plain_are_sealed_later(store: Database) -> None:
    turn = answered(store, rows.start(store))
    give(store, turn, -1, CANARY)
    with encrypted(store, at_hand()):
        with store.begin() as conn:
            begin_anew(conn)
        while store.run(reseal):
            pass
        assert CANARY not in rows_as_they_lie(store)
        assert [one.comment for one in found(store)] == [CANARY]


def test_words_go_with_the_content_of_their_turn_and_the_number_stays(store: Database) -> None:
    session = rows.start(store)
    turn = answered(store, session)
    long_ago = datetime.now(UTC) - timedelta(days=40)
    rows.ended_at(store, turn, long_ago)
    rows.set_session(store, session, created_at=long_ago)
    give(store, turn, -1, CANARY)
    with store.begin() as conn:
        assert empty_content(conn, session, default=timedelta(days=30)).turns == 1
    assert words(store) == [(-1.0, None, None)]
    assert CANARY not in rows_as_they_lie(store)


def test_it_goes_with_its_session(store: Database) -> None:
    session = rows.start(store)
    give(store, answered(store, session), -1, CANARY)
    with store.begin() as conn:
        sessions.remove(conn, session)
        assert conn.execute(select(table)).all() == []


def test_a_fork_begins_with_what_was_said_and_not_with_what_was_thought_of_it(
    store: Database,
) -> None:
    session = rows.start(store)
    give(store, answered(store, session), 1)
    new = NewSession(id=SessionId(new_id()), user_id="ada", provider="mock", model="mock")
    with store.begin() as conn:
        fork(conn, new, session, at=None)
    assert words(store, session_id=new.id) == []
    assert len(words(store, session_id=session)) == 1


def test_what_an_erased_user_has_said_goes_in_sessions_of_others_too(
    store: Database, tmp_path: Path
) -> None:
    session = rows.start(store, user_id="ada")
    turn = answered(store, session)
    give(store, turn, 1, "of ada")
    give(store, turn, -1, CANARY, by="bob")
    own = rows.start(store, user_id="bob")
    give(store, answered(store, own), -1, CANARY)
    report = Erasing(store, Settings(home=tmp_path)).erase("bob", reason="", grace=timedelta(0))
    assert report.rows["feedback"] == 2
    assert words(store) == [(1.0, "of ada", None)]
    assert CANARY not in rows_as_they_lie(store)
    with pytest.raises(UserErased):
        give(store, turn, 1, by="bob")


def test_somebody_who_has_said_something_is_known_and_can_be_erased(
    store: Database, tmp_path: Path
) -> None:
    turn = answered(store, rows.start(store, user_id="ada"))
    give(store, turn, -1, by="a reviewer")
    Erasing(store, Settings(home=tmp_path)).erase("a reviewer", reason="", grace=timedelta(0))
    assert found(store) == []
    assert store.run(lambda conn: sessions.find(conn, limit=5))

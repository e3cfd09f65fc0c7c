"""A user who is erased takes part in sessions of others: what he said goes, theirs stays."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import and_, select

from tests import rows, steps
from tests.contract.store.people_rows import add, answered, note, say, shared, told
from turnmill.domain.errors import UserErased, UserOnHold
from turnmill.domain.ids import SessionId
from turnmill.domain.states import ErasureState, TurnState
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.analytics import feedback
from turnmill.store.database import Database
from turnmill.store.deletion_records import ErasureReport
from turnmill.store.feedback_records import NewFeedback
from turnmill.store.nouns import erasures, holds, sessions
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.people_tables import notes, participants, shared_log, turn_senders
from turnmill.store.schema.tables import attempts, messages, turns
from turnmill.verbs.users.erasing import Erasing
from turnmill.verbs.users.verifying import Verifying

pytestmark = pytest.mark.usefixtures("sound")


def test_what_a_member_said_in_a_session_of_another_is_emptied_and_the_rest_stays(
    store: Database, tmp_path: Path
) -> None:
    session = rows.start(store, user_id="ada")
    for name in ("bob", "eve"):
        add(store, session, name)
    for sender in ("bob", "eve", "ada"):
        answered(store, say(store, session, f"words of {sender}", sender))
        note(store, session, f"a note of {sender}", sender)
    mine = rows.start(store, user_id="bob")
    answered(store, say(store, mine, "in his own", "bob"))
    Erasing(store, Settings(home=tmp_path)).erase("bob", reason="", grace=timedelta(0))
    with store.begin() as conn:
        said = [(one.role, one.text) for one in sessions.history(conn, session)]
        for table, name in (
            (participants, "name"),
            (shared_log, "name"),
            (notes, "sender"),
            (turn_senders, "name"),
        ):
            assert "bob" not in conn.scalars(select(table.c[name])).all(), table.name
    with pytest.raises(UserErased):
        add(store, session, "bob")
    assert said == [
        ("user", ""),
        ("assistant", "answer to words of bob"),
        ("user", "words of eve"),
        ("assistant", "answer to words of eve"),
        ("user", "words of ada"),
        ("assistant", "answer to words of ada"),
    ]
    assert "a note of bob" not in [one.text for one in told(store, session)]
    assert "a note of eve" in [one.text for one in told(store, session)]


@pytest.mark.parametrize("how", ["a message", "a note", "feedback"])
def test_who_has_spoken_in_a_session_of_somebody_on_hold_is_not_erased_before_it_ends(
    store: Database, tmp_path: Path, how: str
) -> None:
    speak(store, rows.start(store, user_id="ada"), how)
    erasing = Erasing(store, Settings(home=tmp_path))
    erasing.erase("bob", reason="", grace=timedelta(microseconds=1))
    store.run(holds.hold, "ada", "case 7")
    assert erasing.go_on_with_all() == 0, "what waits, waits"
    with pytest.raises(UserOnHold):
        erase(store, tmp_path)
    assert store.run(holds.release, "ada")
    assert erase(store, tmp_path).done


@pytest.mark.parametrize("how", ["a message", "a note", "feedback"])
def test_a_hold_is_refused_while_what_somebody_has_said_in_a_session_is_being_erased(
    store: Database, tmp_path: Path, how: str
) -> None:
    speak(store, rows.start(store, user_id="ada"), how)
    rows.start(store, user_id="eve")
    store.run(erasures.request, "bob", reason="", grace=timedelta(0))
    assert store.run(erasures.begin, "bob")  # and whoever began it has died
    with pytest.raises(UserErased, match="somebody is being erased who has spoken"):
        store.run(holds.hold, "ada", "case 7")
    assert store.run(holds.hold, "eve", "case 7").user_id == "eve"
    assert Erasing(store, Settings(home=tmp_path)).go_on_with_all() == 1
    assert store.run(holds.hold, "ada", "case 7").user_id == "ada"


def speak(store: Database, session: SessionId, how: str) -> None:
    """Let bob say something there."""
    add(store, session, "bob")
    if how == "a note":
        note(store, session, "a note of bob", "bob")
        return
    turn = say(store, session, "words", "bob" if how == "a message" else "ada")
    answered(store, turn)
    if how == "feedback":
        store.run(feedback.give, turn, NewFeedback(score=-1, by="bob"), new_id=new_id())


def test_a_session_goes_with_its_owner_whoever_takes_part(store: Database, tmp_path: Path) -> None:
    session = rows.start(store, user_id="ada")
    add(store, session, "bob")
    answered(store, say(store, session, "words of bob", "bob"))
    report = Erasing(store, Settings(home=tmp_path)).erase("ada", reason="", grace=timedelta(0))
    assert report.rows["sessions"] == 1
    with store.begin() as conn:
        assert conn.scalars(select(participants.c.name)).all() == []
    assert steps.count_turns(store) == 0


def erase(store: Database, tmp_path: Path, user: str = "bob") -> ErasureReport:
    erasing = Erasing(store, Settings(home=tmp_path))
    return erasing.erase(user, reason="", grace=timedelta(0))


def test_what_quotes_a_member_or_stands_for_his_words_goes_with_them(
    store: Database, tmp_path: Path
) -> None:
    session = shared(store, "bob")
    options = {"idempotency_key": "his words", "metadata": {"of": "his"}}
    claim = steps.take_one(store, say(store, session, "words of bob", "bob", **options))
    quoted = {"error_code": "bad_request", "error_detail": "no such words: words of bob"}
    steps.end(store, claim, TurnState.FAILED, **quoted)
    erase(store, tmp_path)
    with store.begin() as conn:
        assert conn.scalars(select(attempts.c.error_detail)).all() == [None]
        keyed = select(turns.c.idempotency_key, turns.c.idempotency_hash, turns.c.metadata)
        assert conn.execute(keyed).all() == [(None, None, {})]


def test_what_a_member_said_that_waits_or_runs_is_cancelled(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnmill.verbs.users.erasing._WAITED_FOR", 0.0)
    session = shared(store, "bob")
    runs = steps.take_one(store, say(store, session, "runs", "bob"))
    waits = say(store, session, "waits", "bob")
    theirs = say(store, session, "of ada", "ada")
    erase(store, tmp_path)
    steps.end(store, runs)
    found = [steps.state(store, one) for one in (runs.turn_id, waits, theirs)]
    assert found == [TurnState.CANCELLED, TurnState.CANCELLED, TurnState.QUEUED]


def test_a_thread_that_works_when_a_member_is_erased_is_begun_anew_when_it_has_ended(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnmill.verbs.users.erasing._WAITED_FOR", 0.0)
    session = shared(store, "bob")
    answered(store, say(store, session, "words of bob", "bob"), provider_ref="resp_1")
    claim = steps.take_one(store, say(store, session, "of ada", "ada"))
    report = erase(store, tmp_path)
    assert [(one.what, one.count) for one in report.pending] == [("turn_senders", 1)]
    steps.end(store, claim, provider_ref="resp_2")
    erasing = Erasing(store, Settings(home=tmp_path))
    assert erasing.go_on_with_all() == 1
    assert erasing.report("bob").done
    assert steps.session(store, session).provider_ref == ""
    with store.begin() as conn:
        kept = conn.execute(select(kept_refs.c.ref, kept_refs.c.due_at.is_not(None))).all()
        assert sorted(kept) == [("resp_1", True), ("resp_2", True)]
        assert conn.scalars(select(turn_senders.c.name)).all() == ["ada"]


class _Died(BaseException):
    """The process was killed."""


class _Dying(Erasing):
    """Dies before a step, each of which is a transaction."""

    steps = 0

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        self.steps -= 1
        if not self.steps:
            raise _Died
        return super()._run(*args, **kwargs)


def talked(store: Database, user: str) -> SessionId:
    """Have something said by a user, in sessions of his own and in one of somebody else's."""
    rows.run(store, rows.send(store, rows.start(store, user_id=user), "mine"))
    steps.take_one(store, rows.send(store, rows.start(store, user_id=user), "runs"))
    session = shared(store, user)
    answered(store, say(store, session, f"words of {user}", user), provider_ref=f"resp {user}")
    note(store, session, "a note", user)
    return session


@pytest.mark.long
def test_whoever_dies_before_whichever_step_of_an_erasure_upkeep_ends_it(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnmill.verbs.users.erasing._ENDS_WITHIN", 0.0)
    settings, died = Settings(home=tmp_path), 0
    for step in range(3, 100):
        session = talked(store, user := f"user {step}")
        dying = _Dying(store, settings)
        dying.steps = step
        try:
            dying.erase(user, reason="", grace=timedelta(0))
        except _Died:
            died += 1
            Erasing(store, settings).go_on_with_all()
        with store.begin() as conn:
            assert erasures.state_of(conn, user) is ErasureState.ERASED
        found = Verifying(store, settings).verify(user, words=[f"words of {user}"])
        assert [one.where for one in found.remains] == ["messages.content"], "a reply says it again"
        with store.begin() as conn:
            ours = and_(messages.c.session_id == session, messages.c.role == "user")
            assert conn.scalars(select(messages.c.content).where(ours)).all() == [[]]
        assert steps.session(store, session).provider_ref == ""
        if dying.steps > 0:
            break
    assert died > 12

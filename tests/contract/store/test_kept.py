"""What vendors keep is known by its id until it was deleted there, whatever becomes of our rows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from tests import rows, steps
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store import kept
from turnmill.store.database import Database
from turnmill.store.kept import Keeping, KeptRef
from turnmill.store.line import leases
from turnmill.store.line.due import overdue, purge_deleted
from turnmill.store.nouns import batch_moves, sessions, turns
from turnmill.store.records import Claim, Fenced, Kept, Settled
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.tables import attempts
from turnmill.store.schema.tables import batches as batch_rows
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.store.upkeep import retention as upkeep
from turnmill.store.upkeep.invariants import violations

pytestmark = pytest.mark.usefixtures("sound")

DAY = timedelta(days=1)
LATER = timedelta(minutes=5)


def due(store: Database, *, again_after: timedelta = LATER, **options: Any) -> list[KeptRef]:
    """Take what is due, as a worker does that asks vendors."""
    with store.begin() as conn:
        return kept.take_due(conn, again_after=again_after, **options)


def refs(found: list[KeptRef]) -> set[str]:
    return {one.ref for one in found}


def known(store: Database) -> dict[str, bool]:
    """Return every id that is known, and whether it is to be given up."""
    with store.begin() as conn:
        found = conn.execute(select(kept_refs.c.ref, kept_refs.c.due_at))
        return {ref: at is not None for ref, at in found}


def chain(store: Database, session: SessionId, *names: str) -> None:
    """Answer a turn for each name, under which the vendor keeps the answer."""
    for name in names:
        turn = steps.send(store, session).turn_id
        assert isinstance(steps.end(store, steps.take_one(store, turn), provider_ref=name), Settled)


def in_background(store: Database, session: SessionId, ref: str = "bg_1") -> TurnId:
    turn = steps.send(store, session).turn_id
    steps.end(store, steps.take_one(store, turn), TurnState.WAITING, native_ref=ref)
    return turn


def test_a_chain_of_nine_turns_is_known_by_nine_ids(store: Database) -> None:
    session = rows.start(store)
    names = [f"resp_{number}" for number in range(9)]
    chain(store, session, *names)
    assert known(store) == dict.fromkeys(names, False)
    with store.begin() as conn:
        assert not overdue(conn).kept
    assert due(store) == []


def test_an_answer_that_no_vendor_keeps_leaves_no_row(store: Database) -> None:
    steps.answer(store, steps.send(store, rows.start(store)).turn_id)
    assert known(store) == {}


@pytest.mark.parametrize("verb", [sessions.archive, sessions.remove])
def test_every_id_is_to_be_given_up_when_the_session_ends(store: Database, verb: Any) -> None:
    session, other = rows.start(store), rows.start(store)
    chain(store, session, "resp_1", "resp_2", "resp_3")
    chain(store, other, "resp_4")
    with store.begin() as conn:
        verb(conn, session)
        assert overdue(conn).kept
    found = due(store)
    assert refs(found) == {"resp_1", "resp_2", "resp_3"}
    assert {(one.provider, one.stored, one.running, one.tries) for one in found} == {
        ("mock", True, False, 1)
    }
    assert known(store)["resp_4"] is False


def test_what_an_idle_session_leaves_is_given_up_and_outlives_its_rows(store: Database) -> None:
    session = rows.start(store)
    chain(store, session, "resp_1", "resp_2")
    with store.begin() as conn:
        rows.age(conn, session, 40 * DAY)
        assert upkeep.archive_idle(conn, default_ttl=30 * DAY) == 1
    rows.set_session(store, session, archived_at=datetime.now(UTC) - 100 * DAY)
    with store.begin() as conn:
        assert upkeep.purge_archived(conn, older_than=90 * DAY) == 1
    assert refs(due(store)) == {"resp_1", "resp_2"}


def test_a_session_deleted_while_a_turn_runs_gives_up_what_comes_back_later(
    store: Database,
) -> None:
    session = rows.start(store)
    chain(store, session, "resp_1")
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    with store.begin() as conn:
        sessions.remove(conn, session)
    assert refs(due(store)) == {"resp_1"}
    steps.end(store, claim, provider_ref="resp_2")
    with store.begin() as conn:
        assert purge_deleted(conn) == 1
    assert refs(due(store)) == {"resp_2"}


def test_the_id_of_a_session_that_an_older_version_worked_on_is_given_up_too(
    store: Database,
) -> None:
    session = rows.start(store)
    rows.set_session(store, session, provider_ref="resp_0")
    with store.begin() as conn:
        sessions.archive(conn, session)
    assert refs(due(store)) == {"resp_0"}
    with store.begin() as conn:
        assert sessions.get(conn, session).provider_ref == ""


def test_what_ended_without_being_given_up_is_found_later(store: Database) -> None:
    removed, archived, live = (rows.start(store) for _ in range(3))
    chain(store, removed, "resp_1", "resp_2")
    chain(store, archived, "resp_3")
    chain(store, live, "resp_4")
    now = datetime.now(UTC)
    rows.set_session(store, archived, status="archived", archived_at=now, provider_ref="resp_9")
    with store.begin() as conn:
        conn.execute(session_rows.delete().where(session_rows.c.id == removed))
        assert kept.give_up_missed(conn) > 0
        assert kept.give_up_missed(conn) == 0
    assert refs(due(store)) == {"resp_1", "resp_2", "resp_3", "resp_9"}


def test_what_was_given_up_is_forgotten_and_what_was_not_comes_again(store: Database) -> None:
    session = rows.start(store)
    chain(store, session, "resp_1", "resp_2")
    with store.begin() as conn:
        sessions.archive(conn, session)
    gone, stays = due(store)
    assert due(store) == []
    with store.begin() as conn:
        kept.forget(conn, [gone])
        kept.put_off(conn, stays, error_code="overloaded", delay=timedelta(0))
        (left,) = kept.backlog(conn)
        assert kept.kept_of(conn, session) == Keeping(count=1, unwanted_at=left.since)
    assert (left.provider, left.count, left.error_code) == ("mock", 1, "overloaded")
    (again,) = due(store)
    assert (again.ref, again.tries) == (stays.ref, 2)


def test_what_a_dead_worker_took_is_due_again(store: Database) -> None:
    session = rows.start(store)
    chain(store, session, "resp_1")
    with store.begin() as conn:
        sessions.archive(conn, session)
    assert refs(due(store, again_after=timedelta(0))) == {"resp_1"}
    assert refs(due(store)) == {"resp_1"}


def test_a_provider_that_rests_is_left_out(store: Database) -> None:
    for provider in ("broken", "sound"):
        session = rows.start(store, provider=provider)
        chain(store, session, f"resp_{provider}")
        with store.begin() as conn:
            sessions.archive(conn, session)
    assert refs(due(store, resting=["broken"])) == {"resp_sound"}


def test_an_answer_that_comes_after_a_cancel_is_given_up_and_the_chain_is_not(
    store: Database,
) -> None:
    session = rows.start(store)
    chain(store, session, "resp_1")
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    steps.cancel(store, claim.turn_id)
    steps.end(store, claim, provider_ref="resp_2")
    assert known(store) == {"resp_1": False, "resp_2": True}


def test_a_thread_that_goes_on_is_not_given_up_with_a_cancelled_turn(store: Database) -> None:
    session = rows.start(store)
    chain(store, session, "conv_1")
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    steps.cancel(store, claim.turn_id)
    steps.end(store, claim, provider_ref="conv_1")
    assert known(store) == {"conv_1": False}


def test_a_failure_that_the_vendor_stored_is_given_up_at_once(store: Database) -> None:
    claim = steps.take_one(store, steps.send(store, rows.start(store)).turn_id)
    stored = Kept(ref="resp_1", provider="mock", stored=True, running=False, wanted=False)
    steps.end(store, claim, TurnState.FAILED, kept=[stored])
    assert refs(due(store)) == {"resp_1"}


def test_work_in_the_background_is_known_while_it_runs_and_when_it_is_done(
    store: Database,
) -> None:
    session = rows.start(store)
    turn = in_background(store, session)
    assert known(store) == {"bg_1": False}
    steps.due_now(store, turn)
    steps.end(store, steps.take_one(store, turn), provider_ref="bg_1")
    with store.begin() as conn:
        row = conn.execute(select(kept_refs)).one()
        sessions.archive(conn, session)
    assert (row.running, row.stored) == (False, True)
    assert [(one.ref, one.running) for one in due(store)] == [("bg_1", False)]


def _cancel(store: Database, turn: TurnId) -> None:
    assert steps.cancel(store, turn) is TurnState.CANCELLED


def _delete(store: Database, turn: TurnId) -> None:
    with store.begin() as conn:
        sessions.remove(conn, turns.get(conn, turn).session_id)


def _cancel_a_check(store: Database, turn: TurnId) -> None:
    steps.due_now(store, turn)
    claim = steps.take_one(store, turn)
    steps.cancel(store, turn)
    steps.end(store, claim, TurnState.CANCELLED)


def _fail(store: Database, turn: TurnId) -> None:
    steps.due_now(store, turn)
    steps.end(store, steps.take_one(store, turn), TurnState.FAILED)


def _lose(store: Database, turn: TurnId) -> None:
    for _ in range(leases.LOSSES_TO_DEATH):
        steps.due_now(store, turn)
        steps.take_one(store, turn)
        steps.lose(store, turn)
    assert steps.turn(store, turn).state is TurnState.DEAD


@pytest.mark.parametrize("ends", [_cancel, _delete, _cancel_a_check, _fail, _lose])
def test_work_for_a_turn_that_ends_without_it_is_to_be_stopped(store: Database, ends: Any) -> None:
    ends(store, in_background(store, rows.start(store)))
    assert [(one.ref, one.running, one.stored) for one in due(store)] == [("bg_1", True, True)]


def test_work_of_a_cancelled_batch_is_to_be_stopped(store: Database) -> None:
    turn = in_background(store, rows.start(store))
    batch = BatchId(new_id())
    with store.begin() as conn:
        conn.execute(insert(batch_rows).values(id=batch, name="nightly", content_hash=b""))
        line = {"batch_id": batch, "batch_line": 1}
        conn.execute(update(turn_rows).where(turn_rows.c.id == turn).values(line))
        page = batch_moves.cancel_page(conn, batch)
    assert page is not None
    assert page.moved == 1
    assert [(one.ref, one.running) for one in due(store)] == [("bg_1", True)]


def test_what_comes_back_to_a_worker_that_lost_its_turn_is_given_up(store: Database) -> None:
    session = rows.start(store)
    zombie = steps.take_one(store, steps.send(store, session).turn_id)
    steps.lose(store, zombie.turn_id)
    steps.due_now(store, zombie.turn_id)
    steps.end(store, _again(store, zombie), TurnState.RETRYING)
    steps.end(store, _again(store, zombie), provider_ref="resp_2")
    late = steps.verdict(zombie, TurnState.SUCCEEDED, provider_ref="resp_1")
    assert isinstance(steps.end_all(store, late)[0], Fenced)
    known_already = steps.verdict(zombie, TurnState.SUCCEEDED, provider_ref="resp_2")
    with store.begin() as conn:
        kept.keep_late(conn, late)
        kept.keep_late(conn, late)
        kept.keep_late(conn, known_already)
    assert known(store) == {"resp_1": True, "resp_2": False}


def test_what_comes_back_after_the_session_is_gone_is_given_up(store: Database) -> None:
    session = rows.start(store)
    zombie = steps.take_one(store, steps.send(store, session).turn_id)
    steps.lose(store, zombie.turn_id)
    with store.begin() as conn:
        sessions.remove(conn, session)
        kept.keep_late(conn, steps.verdict(zombie, TurnState.SUCCEEDED, provider_ref="resp_1"))
    assert refs(due(store)) == {"resp_1"}


def _again(store: Database, before: Claim) -> Claim:
    return steps.take_one(store, before.turn_id)


def test_polls_are_counted_on_the_attempt_that_they_are_about(store: Database) -> None:
    session = rows.start(store)
    turn = in_background(store, session)
    for _ in range(50):
        steps.due_now(store, turn)
        steps.end(store, steps.take_one(store, turn), TurnState.WAITING, native_ref="bg_1")
    steps.due_now(store, turn)
    steps.end(store, steps.take_one(store, turn), provider_ref="bg_1")
    with store.begin() as conn:
        (attempt,) = turns.attempts_of(conn, turn)
    assert (attempt.kind, attempt.n, attempt.polls) == ("send", 1, 51)
    assert attempt.outcome == "succeeded"


def test_a_question_that_is_put_off_asks_nobody_and_is_not_counted(store: Database) -> None:
    turn = in_background(store, rows.start(store))
    for _ in range(3):
        steps.due_now(store, turn)
        waits = {"outcome": "not_now", "gives_attempt_back": True, "waits_for": "account"}
        asked = steps.take_one(store, turn)
        steps.end(store, asked, TurnState.WAITING, native_ref="bg_1", **waits)
    with store.begin() as conn:
        (attempt,) = turns.attempts_of(conn, turn)
    assert attempt.polls == 0
    steps.due_now(store, turn)
    steps.end(store, steps.take_one(store, turn), provider_ref="bg_1")
    with store.begin() as conn:
        (attempt,) = turns.attempts_of(conn, turn)
    assert (attempt.kind, attempt.polls, attempt.outcome) == ("send", 1, "succeeded")


def test_a_poll_whose_worker_was_lost_is_an_attempt_of_its_own(store: Database) -> None:
    turn = in_background(store, rows.start(store))
    steps.due_now(store, turn)
    steps.take_one(store, turn)
    steps.lose(store, turn)
    steps.due_now(store, turn)
    steps.end(store, steps.take_one(store, turn), TurnState.WAITING, native_ref="bg_1")
    with store.begin() as conn:
        found = [(one.kind, one.outcome, one.polls) for one in turns.attempts_of(conn, turn)]
    assert found == [("send", "lost", 1), ("resume", "waiting", 0)]


def test_a_question_knows_for_how_long_the_turn_has_waited(store: Database) -> None:
    expires = datetime.now(UTC) + DAY
    turn = steps.send(store, rows.start(store), expires=expires).turn_id
    first = steps.take_one(store, turn)
    assert (first.waited, first.expires_in) == (timedelta(0), None)
    steps.end(store, first, TurnState.WAITING, native_ref="bg_1")
    with store.begin() as conn:
        began = turns.attempts_of(conn, turn)[0].started_at - timedelta(hours=2)
        conn.execute(update(attempts).where(attempts.c.turn_id == turn).values(started_at=began))
    steps.due_now(store, turn)
    claim = steps.take_one(store, turn)
    assert timedelta(hours=2) < claim.waited < timedelta(hours=2, minutes=1)
    assert claim.expires_in is not None
    assert DAY - timedelta(minutes=1) < claim.expires_in < DAY
    steps.end(store, claim, TurnState.EXPIRED, error_code="expired")
    assert refs(due(store)) == {"bg_1"}


def test_an_id_that_nobody_wrote_down_breaks_a_promise(store: Database) -> None:
    session = rows.start(store)
    chain(store, session, "resp_1")
    with store.begin() as conn:
        conn.execute(update(kept_refs).values(ref="another"))
        found = [one.name for one in violations(conn)]
        conn.execute(update(kept_refs).values(ref="resp_1"))
    assert found == ["what_a_vendor_keeps_is_known"]

"""Every way to end has its event, numbered in its session, and is told to those who wait."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import delete, insert, select, update

from tests import rows, steps
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store import engine
from turnmill.store.database import Database
from turnmill.store.line import endings
from turnmill.store.line.due import purge_deleted
from turnmill.store.line.leases import LOSSES_TO_DEATH
from turnmill.store.nouns import batch_moves, sessions
from turnmill.store.nouns.batches import create
from turnmill.store.rules import endings as rules
from turnmill.store.schema.event_tables import event_log, events
from turnmill.store.schema.tables import turns
from turnmill.store.upkeep.invariants import violations
from turnmill.store.upkeep.retention import purge_archived
from turnmill.wire import SETTLED_CHANNEL

AGO = datetime.now(UTC) - timedelta(days=1)


def told(store: Database, session: SessionId) -> list[tuple[int, TurnId, str]]:
    """Return the events of a session in their order."""
    query = select(events.c.n, events.c.turn_id, events.c.kind).order_by(events.c.n)
    with store.begin() as conn:
        return [tuple(row) for row in conn.execute(query.where(events.c.session_id == session))]


def _answered(store: Database, session: SessionId) -> str:
    steps.answer(store, steps.send(store, session).turn_id)
    return "turn.succeeded"


def _failed(store: Database, session: SessionId) -> str:
    steps.end(store, steps.take_one(store, steps.send(store, session).turn_id), TurnState.FAILED)
    return "turn.failed"


def _cancelled(store: Database, session: SessionId) -> str:
    steps.cancel(store, steps.send(store, session).turn_id)
    return "turn.cancelled"


def _cancelled_in_flight(store: Database, session: SessionId) -> str:
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    steps.cancel(store, claim.turn_id)
    assert claim.turn_id not in {turn for _, turn, _ in told(store, session)}
    steps.end(store, claim)
    return "turn.cancelled"


def _expired(store: Database, session: SessionId) -> str:
    turn = steps.send(store, session).turn_id
    with store.begin() as conn:
        conn.execute(update(turns).where(turns.c.id == turn).values(expires_at=AGO))
    steps.expire(store)
    return "turn.expired"


def _lost_and_cancelled(store: Database, session: SessionId) -> str:
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    steps.cancel(store, claim.turn_id)
    steps.lose(store, claim.turn_id)
    return "turn.cancelled"


def _lost_too_often(store: Database, session: SessionId) -> str:
    turn = steps.send(store, session).turn_id
    for _ in range(LOSSES_TO_DEATH):
        steps.take_one(store, turn)
        steps.lose(store, turn)
    return "turn.dead"


def _cancelled_with_its_batch(store: Database, session: SessionId) -> str:
    batch = BatchId(new_id())
    with store.begin() as conn:
        create(conn, batch, name=str(batch), hashes=[b""], metadata={})
    turn = steps.send(store, session).turn_id
    with store.begin() as conn:
        in_batch = {"batch_id": batch, "batch_line": 1}
        conn.execute(update(turns).where(turns.c.id == turn).values(in_batch))
        assert batch_moves.cancel_page(conn, batch)
    return "turn.cancelled"


WAYS = [
    _answered,
    _failed,
    _cancelled,
    _cancelled_in_flight,
    _expired,
    _lost_and_cancelled,
    _lost_too_often,
    _cancelled_with_its_batch,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_an_ending_has_one_event_with_the_next_number(
    store: Database, sound: None, way: Callable[[Database, SessionId], str]
) -> None:
    session = rows.start(store)
    kinds = [way(store, session), way(store, session)]
    assert [(n, kind) for n, _, kind in told(store, session)] == list(enumerate(kinds, 1))


def test_what_is_no_ending_has_no_event(store: Database, sound: None) -> None:
    session = rows.start(store)
    turn = steps.send(store, session).turn_id
    steps.end(store, steps.take_one(store, turn), TurnState.RETRYING)
    steps.due_now(store, turn)
    steps.take_one(store, turn)
    steps.lose(store, turn)
    assert told(store, session) == []


def test_a_group_of_verdicts_numbers_each_session_by_itself(store: Database, sound: None) -> None:
    lines = [rows.start(store) for _ in range(3)]
    for n in (1, 2):
        claims = [steps.take_one(store, steps.send(store, one).turn_id) for one in lines]
        steps.end_all(store, *(steps.verdict(one, TurnState.SUCCEEDED) for one in claims))
        for one, claim in zip(lines, claims, strict=True):
            assert told(store, one)[-1] == (n, claim.turn_id, "turn.succeeded")


def test_a_verdict_that_comes_too_late_has_no_event(store: Database, sound: None) -> None:
    session = rows.start(store)
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    steps.lose(store, claim.turn_id)
    steps.end(store, claim)
    assert told(store, session) == []


def test_a_turn_that_runs_again_in_place_ends_again(store: Database, sound: None) -> None:
    session = rows.start(store)
    _failed(store, session)
    ((_, turn, _),) = told(store, session)
    steps.retry(store, turn)
    steps.answer(store, turn)
    kinds = ["turn.failed", "turn.retried", "turn.succeeded"]
    assert told(store, session) == [(n, turn, kind) for n, kind in enumerate(kinds, 1)]


def test_several_that_end_at_once_are_numbered_in_the_order_of_the_line(
    store: Database, sound: None
) -> None:
    session = rows.start(store)
    sent = [steps.send(store, session).turn_id for _ in range(4)]
    with store.begin() as conn:
        conn.execute(update(turns).values(expires_at=AGO))
    steps.expire(store)
    assert [turn for _, turn, _ in told(store, session)] == sent


def test_a_line_that_is_longer_than_a_statement_may_be_ends_at_once(
    store: Database, sound: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "_AT_ONCE", 2)
    session = rows.start(store)
    running, *queued = [steps.send(store, session).turn_id for _ in range(6)]
    claim = steps.take_one(store, running)
    with store.begin() as conn:
        sessions.remove(conn, session)
    steps.end(store, claim)
    assert [turn for _, turn, _ in told(store, session)] == [*queued, running]


def test_what_happened_outlives_its_session(store: Database) -> None:
    session = rows.start(store)
    _answered(store, session)
    waits = steps.send(store, session).turn_id
    with store.begin() as conn:
        sessions.remove(conn, session)
    found = told(store, session)
    assert [kind for _, _, kind in found] == ["turn.succeeded", "turn.deleted"]
    assert found[-1][1] == waits


def test_a_session_that_waits_for_its_running_turn_tells_of_that_too(store: Database) -> None:
    session = rows.start(store)
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    behind = steps.send(store, session).turn_id
    with store.begin() as conn:
        sessions.remove(conn, session)
    steps.end(store, claim)
    with store.begin() as conn:
        assert purge_deleted(conn) == 1
    assert told(store, session) == [
        (1, behind, "turn.cancelled"),
        (2, claim.turn_id, "turn.succeeded"),
    ]


def test_what_was_given_back_in_a_deleted_session_goes_with_it(store: Database) -> None:
    session = rows.start(store)
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    with store.begin() as conn:
        sessions.remove(conn, session)
    steps.end(store, claim, TurnState.RETRYING)
    with store.begin() as conn:
        assert purge_deleted(conn) == 1
    assert told(store, session) == [(1, claim.turn_id, "turn.deleted")]


def test_a_session_that_was_taken_up_again_is_not_purged(store: Database, sound: None) -> None:
    session = rows.start(store)
    _answered(store, session)
    with store.begin() as conn:
        assert purge_archived(conn, older_than=timedelta(0)) == 0
    assert len(told(store, session)) == 1


@pytest.mark.parametrize(
    "way", [*WAYS[2:3], *WAYS[4:], "remove"], ids=lambda way: getattr(way, "__name__", way)
)
def test_those_who_wait_are_told_of_every_ending(
    store: Database, monkeypatch: pytest.MonkeyPatch, way: Callable[..., str] | str
) -> None:
    heard: set[TurnId] = set()
    real = engine.engine_of

    class Told:
        def __init__(self, conn: object) -> None:
            self._engine = real(conn)  # type: ignore[arg-type]

        def __getattr__(self, name: str) -> object:
            return getattr(self._engine, name)

        def notify(self, conn: object, channel: str, notices: list[str]) -> None:
            if channel == SETTLED_CHANNEL:
                heard.update(TurnId(UUID(one)) for said in notices for one in said.split(","))

    monkeypatch.setattr(endings, "engine_of", Told)
    session = rows.start(store)
    if callable(way):
        way(store, session)
    else:
        steps.send(store, session)
        with store.begin() as conn:
            sessions.remove(conn, session)
    assert heard == {turn for _, turn, _ in told(store, session)}


def broken(store: Database) -> set[str]:
    with store.begin() as conn:
        return {one.name for one in violations(conn)}


def test_an_ending_without_its_event_breaks_a_promise(store: Database) -> None:
    session = rows.start(store)
    _answered(store, session)
    with store.begin() as conn:
        conn.execute(delete(events))
    assert broken(store) == {"ending_has_its_event"}


def test_two_events_for_an_ending_break_a_promise(store: Database) -> None:
    session = rows.start(store)
    _answered(store, session)
    ((n, turn, kind),) = told(store, session)
    again = {"session_id": session, "turn_id": turn, "kind": kind, "n": n + 1}
    with store.begin() as conn:
        conn.execute(insert(events).values(again))
    assert broken(store) == {"one_event_per_ending", "events_are_numbered"}


def test_an_event_of_another_kind_of_ending_breaks_a_promise(store: Database) -> None:
    _answered(store, rows.start(store))
    with store.begin() as conn:
        conn.execute(update(events).values(kind="turn.failed"))
    assert broken(store) == {"ending_has_its_event", "one_event_per_ending"}


def test_a_number_that_is_left_out_breaks_a_promise(store: Database) -> None:
    session = rows.start(store)
    for _ in range(3):
        _answered(store, session)
    with store.begin() as conn:
        conn.execute(delete(events).where(events.c.n == 2))
    assert "events_are_numbered" in broken(store)


def test_nothing_is_promised_of_what_ended_while_older_code_was_at_work(store: Database) -> None:
    _answered(store, rows.start(store))
    with store.begin() as conn:
        conn.execute(delete(events))
        conn.execute(delete(event_log))
        conn.execute(insert(event_log).values(id=1))
    assert broken(store) == set()
    with store.begin() as conn:
        conn.execute(update(event_log).values(complete_since=AGO))
    assert broken(store) == {"ending_has_its_event"}

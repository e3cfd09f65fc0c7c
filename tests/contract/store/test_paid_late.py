"""What was paid for and comes back to nobody is booked, once, whoever its turn was."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from sqlalchemy import func, select

from tests import rows, steps
from turnmill.domain.ids import SessionId
from turnmill.domain.states import TurnState
from turnmill.store.analytics.folding import fold
from turnmill.store.database import Database
from turnmill.store.line.head import lock_sessions
from turnmill.store.line.late import book_late, book_part, book_work, forget_calls, join_spent
from turnmill.store.line.removing import remove_sessions
from turnmill.store.nouns import event_log
from turnmill.store.nouns.spending import spent
from turnmill.store.records import Claim, Fenced, Settlement
from turnmill.store.schema.rollup_tables import calls_gone, rollups, spent_gone
from turnmill.store.schema.tables import attempts, turns
from turnmill_worker.process.closing import Closing
from turnmill_worker.providers.port import Done, Usage
from turnmill_worker.turn.paid_ledger import PaidLedger


@pytest.fixture
def session(store: Database) -> SessionId:
    return rows.start(store)


COST = Decimal("0.25")
_USED: dict[str, Any] = {
    "usage": '[{"input_tokens": 3}]',
    "cost_usd": COST,
    "service_tier": "flex",
    "model": "mock-2",
}


def used(claim: Claim, **options: Any) -> Settlement:
    return steps.verdict(claim, TurnState.SUCCEEDED, **_USED, **options)


def billed(store: Database) -> tuple[int, Decimal]:
    """Return how many calls there were, and what they have cost, as a bill is compared with."""
    today = datetime.now(UTC).date()
    with store.begin() as conn:
        found = spent(conn, provider="mock", first=today, last=today)
    return sum(one.calls for one in found), sum((one.cost_usd for one in found), Decimal(0))


def reported(store: Database) -> Decimal:
    with store.begin() as conn:
        event_log.give_places(conn)
        while fold(conn):
            pass
        return Decimal(conn.scalar(select(func.coalesce(func.sum(rollups.c.cost_usd), 0))) or 0)


def remove(store: Database, session: SessionId) -> None:
    with store.begin() as conn:
        remove_sessions(conn, sorted(lock_sessions(conn, [session])))


def book(store: Database, said: Settlement, by: Any = book_late) -> bool:
    with store.begin() as conn:
        done: bool = by(conn, said)
    return done


def lost_in(store: Database, session: SessionId, state: TurnState) -> Claim:
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    steps.lose(store, claim.turn_id)
    with store.begin() as conn:
        conn.execute(turns.update().where(turns.c.id == claim.turn_id).values(state=state))
    return claim


def test_the_answer_to_a_worker_that_was_lost_is_booked_with_its_attempt_once(
    store: Database, session: SessionId
) -> None:
    claim = lost_in(store, session, TurnState.QUEUED)
    assert [book(store, used(claim)), book(store, used(claim))] == [True, False]
    assert billed(store) == (1, COST)
    with store.begin() as conn:
        made = conn.execute(select(attempts)).one()
    assert (made.outcome, made.model, made.cost_usd) == ("lost", "mock-2", COST)
    remove(store, session)
    assert (billed(store), reported(store)) == ((1, COST), COST)
    steps.assert_sound(store)


#: How a call ends of whose cost nobody knows: none of its words is written, and each is looked at.
_UNPRICED: dict[str, Any] = _USED | {"cost_usd": None, "priced": False}


def unpriced(store: Database) -> tuple[int, int]:
    """Return how many calls a bill counts, and how many of them have no price."""
    today = datetime.now(UTC).date()
    with store.begin() as conn:
        found = spent(conn, provider="mock", first=today, last=today)
    return sum(one.calls for one in found), sum(one.unpriced for one in found)


@pytest.mark.parametrize("by", [book_late, book_part], ids=["its answer", "a summary"])
@pytest.mark.parametrize("goes", [False, True], ids=["its turn stands", "it is gone"])
def test_a_call_without_a_known_price_is_booked_as_one(
    store: Database, session: SessionId, by: Any, goes: bool
) -> None:
    claim = lost_in(store, session, TurnState.QUEUED)
    if goes:
        claim = steps.take_one(store, claim.turn_id)
        remove(store, session)
    said = steps.verdict(claim, TurnState.SUCCEEDED, **_UNPRICED)
    assert book(store, said, by)
    assert unpriced(store) == (1, 1)
    steps.assert_sound(store)


@pytest.mark.parametrize("goes", [False, True], ids=["its turn stands", "it is gone"])
def test_work_without_a_known_price_that_was_stopped_is_booked(
    store: Database, session: SessionId, goes: bool
) -> None:
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    steps.end(store, claim, TurnState.WAITING, native_ref="resp_1", input_tokens=0, output_tokens=0)
    steps.cancel(store, claim.turn_id)
    if goes:
        remove(store, session)
    assert book(store, steps.verdict(claim, TurnState.SUCCEEDED, **_UNPRICED), book_work)
    assert unpriced(store) == (1, 1)
    steps.assert_sound(store)


def test_what_somebody_asks_about_is_booked_by_what_he_finds(
    store: Database, session: SessionId
) -> None:
    claim = lost_in(store, session, TurnState.UNKNOWN)
    assert not book(store, used(claim))
    assert billed(store)[1] == 0


def test_the_answer_to_a_turn_whose_rows_are_gone_is_booked_once_and_names_nobody(
    store: Database, session: SessionId
) -> None:
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    remove(store, session)
    assert book(store, used(claim), book_part)  # a summary, say, and then the answer
    assert [book(store, used(claim)), book(store, used(claim))] == [True, False]
    assert (billed(store), reported(store)) == ((2, 2 * COST), 2 * COST)
    with store.begin() as conn:
        assert conn.scalar(select(func.count()).select_from(calls_gone)) == 0
        assert [row.model for row in conn.execute(select(spent_gone))] == ["mock-2", "mock-2"]


def test_what_a_turn_had_paid_for_that_never_ended_is_kept_as_it_goes(
    store: Database, session: SessionId
) -> None:
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    steps.end(store, claim, TurnState.RETRYING, **_USED)
    remove(store, session)
    assert (billed(store), reported(store)) == ((1, COST), COST)


@pytest.mark.parametrize("goes", [False, True], ids=["its turn stands", "it is gone"])
def test_work_that_was_stopped_is_booked_with_what_its_vendor_says_it_had_used(
    store: Database, session: SessionId, goes: bool
) -> None:
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    steps.end(store, claim, TurnState.WAITING, native_ref="resp_1", input_tokens=0, output_tokens=0)
    assert billed(store)[0] == 0
    steps.cancel(store, claim.turn_id)
    if goes:
        remove(store, session)
    said = used(claim)
    assert [book(store, said, book_work), book(store, said, book_work)] == [True, False]
    assert (billed(store), reported(store)) == ((1, COST), COST)
    steps.assert_sound(store)


def test_what_is_kept_of_days_is_joined_and_calls_nobody_hears_of_are_forgotten(
    store: Database, session: SessionId
) -> None:
    claims = []
    for _ in range(10):
        claims.append(steps.take_one(store, steps.send(store, session).turn_id))
        steps.end(store, claims[-1], **_USED)
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    remove(store, session)
    for _ in range(9):
        book(store, used(claim), book_part)
    before = billed(store)
    with store.begin() as conn:
        assert (join_spent(conn), join_spent(conn)) == (1, 0)
        assert conn.scalar(select(func.count()).select_from(spent_gone)) == 1
        assert forget_calls(conn, older_than=-timedelta(minutes=1)) == 1
    assert billed(store) == before == (19, 19 * COST)


@pytest.mark.anyio
async def test_a_worker_books_what_it_comes_back_with_for_nobody(
    store: Database, session: SessionId
) -> None:
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    remove(store, session)
    ledger = PaidLedger(store, owner="one", lease=steps.LEASE)
    try:
        assert isinstance(await ledger.settle(used(claim)), Fenced)
    finally:
        ledger.stop()
    assert (billed(store), reported(store)) == ((1, COST), COST)


class Stops:
    """A provider whose work can be stopped, and which says what it had used."""

    async def cancel(self, native_ref: str) -> Done:
        return Done(text="", usage=Usage(input_tokens=10, output_tokens=5), model="gpt-4.1-mini")

    async def close(self, thread_ref: str) -> None:
        """Delete nothing."""


@pytest.mark.anyio
async def test_whoever_stops_work_of_a_session_that_was_deleted_books_what_it_had_used(
    store: Database,
) -> None:
    session = rows.start(store, provider="openai", model="gpt-4.1-mini")
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    steps.end(store, claim, TurnState.WAITING, native_ref="resp_1", input_tokens=0, output_tokens=0)
    remove(store, session)
    closing = Closing(store, lambda _: cast(Any, Stops()))
    assert (await closing.run())["closed"] == 1
    today = datetime.now(UTC).date()
    with store.begin() as conn:
        (found,) = spent(conn, provider="openai", first=today, last=today)
    assert (found.calls, found.model, found.output_tokens) == (1, "gpt-4.1-mini", 5)
    assert found.cost_usd > 0

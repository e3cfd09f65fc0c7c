"""Usage per day: exact when counted twice, and when turns end late."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from sqlalchemy import update

from tests import rows
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.analytics import usage
from turnmill.store.analytics.usage import UsageRow
from turnmill.store.database import Database
from turnmill.store.nouns import turns
from turnmill.store.schema.tables import attempts

TODAY = datetime.now(UTC).date()
NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
PI_DAY = NOON.date()


def count(store: Database) -> None:
    with store.begin() as conn:
        usage.roll_up(conn)


def report(store: Database, first: date, last: date, *, by_day: bool = True) -> list[UsageRow]:
    with store.begin() as conn:
        return usage.report(conn, first=first, last=last, by_day=by_day)


def one(store: Database, day: date) -> UsageRow:
    found = report(store, day, day)
    assert len(found) == 1
    return found[0]


def test_turns_are_counted_by_state(store: Database) -> None:
    session = rows.start(store)
    for state in (TurnState.SUCCEEDED, TurnState.SUCCEEDED, TurnState.FAILED, TurnState.DEAD):
        rows.run(store, rows.send(store, session), state)
    open_turn = rows.send(store, session)
    with store.begin() as conn:
        turns.cancel(conn, open_turn)
    rows.send(store, session)
    count(store)
    line = one(store, TODAY)
    assert (line.turns, line.succeeded, line.failed, line.dead) == (5, 2, 1, 1)
    assert (line.cancelled, line.expired) == (1, 0)


def test_tokens_and_cost_of_every_attempt_are_counted(store: Database) -> None:
    turn = rows.send(store, rows.start(store))
    rows.run(store, turn, TurnState.RETRYING, tokens=(7, 0, 0), cost=Decimal("0.5"))
    rows.run(store, turn, tokens=(100, 50, 20), cost=Decimal("0.0000000001"))
    count(store)
    line = one(store, TODAY)
    assert (line.input_tokens, line.output_tokens, line.cached_tokens) == (107, 50, 20)
    assert line.cost_usd == Decimal("0.5000000001")
    assert (line.turns, line.attempts, line.retries) == (1, 2, 1)


def test_a_price_that_is_not_known_is_told_apart_from_nothing(store: Database) -> None:
    session = rows.start(store)
    rows.run(store, rows.send(store, session), cost=None)
    rows.run(store, rows.send(store, session), TurnState.FAILED, cost=None, tokens=(0, 0, 0))
    count(store)
    line = one(store, TODAY)
    assert (line.unpriced_attempts, line.cost_usd) == (1, Decimal(0))


def test_what_was_heard_or_spoken_has_a_price_to_be_known_without_a_token(store: Database) -> None:
    session = rows.start(store)
    for kind in ("transcribe", "speak"):
        turn = rows.send(store, session)
        rows.run(store, turn, cost=None, tokens=(0, 0, 0))
        with store.begin() as conn:
            conn.execute(update(attempts).where(attempts.c.turn_id == turn).values(kind=kind))
    rows.run(store, rows.send(store, session), cost=None, tokens=(0, 0, 0))
    count(store)
    assert one(store, TODAY).unpriced_attempts == 2


def test_tokens_that_are_unknown_add_nothing_and_their_price_is_not_known(store: Database) -> None:
    session = rows.start(store)
    rows.run(store, rows.send(store, session))
    rows.run(store, rows.send(store, session), cost=None, tokens=(None, None, None))
    count(store)
    line = one(store, TODAY)
    assert (line.input_tokens, line.output_tokens, line.cached_tokens) == (10, 5, 2)
    assert (line.succeeded, line.unpriced_attempts) == (2, 1)


def test_counting_twice_changes_nothing(store: Database) -> None:
    session = rows.start(store)
    for _ in range(3):
        rows.run(store, rows.send(store, session))
    count(store)
    first = report(store, TODAY, TODAY)
    count(store)
    assert report(store, TODAY, TODAY) == first


def test_a_turn_that_ended_late_is_counted_on_its_day(store: Database) -> None:
    session = rows.start(store)
    early, late = (rows.send(store, session) for _ in range(2))
    rows.run(store, early)
    rows.ended_at(store, early, NOON)
    count(store)
    rows.run(store, late)
    rows.ended_at(store, late, NOON + timedelta(hours=11, minutes=59))
    count(store)
    assert one(store, PI_DAY).turns == 2


def test_a_day_is_a_utc_day_from_its_first_to_its_last_instant(store: Database) -> None:
    session = rows.start(store)
    midnight = NOON.replace(hour=0)
    moments = (
        midnight - timedelta(microseconds=1),
        midnight,
        midnight + timedelta(days=1, microseconds=-1),
        midnight + timedelta(days=1),
    )
    for moment in moments:
        turn = rows.send(store, session)
        rows.run(store, turn)
        rows.ended_at(store, turn, moment)
    days = [PI_DAY + timedelta(days=offset) for offset in (-1, 0, 1)]
    count(store)
    assert [one(store, day).turns for day in days] == [1, 2, 1]


def test_a_failed_turn_that_succeeds_later_moves_to_its_new_day(store: Database) -> None:
    turn = rows.send(store, rows.start(store))
    rows.run(store, turn, TurnState.FAILED)
    count(store)
    with store.begin() as conn:
        turns.retry(conn, turn, new_id=TurnId(new_id()))
    count(store)
    assert report(store, TODAY, TODAY) == []
    rows.run(store, turn)
    count(store)
    line = one(store, TODAY)
    assert (line.turns, line.succeeded, line.failed, line.attempts) == (1, 1, 0, 2)


def test_each_provider_and_model_has_a_line_dearest_first(store: Database) -> None:
    for provider, model, cost in (("a", "small", "1"), ("a", "large", "5"), ("b", "small", "3")):
        session = rows.start(store, provider=provider, model=model)
        rows.run(store, rows.send(store, session), cost=Decimal(cost))
    count(store)
    lines = report(store, TODAY, TODAY)
    assert [(line.provider, line.model) for line in lines] == [
        ("a", "large"),
        ("b", "small"),
        ("a", "small"),
    ]


def test_days_add_up(store: Database) -> None:
    session = rows.start(store)
    for offset in range(3):
        turn = rows.send(store, session)
        rows.run(store, turn)
        rows.ended_at(store, turn, NOON + timedelta(days=offset))
    days = [PI_DAY + timedelta(days=offset) for offset in range(3)]
    count(store)
    by_day = report(store, days[0], days[-1])
    assert [line.day for line in by_day] == list(reversed(days))
    total = report(store, days[0], days[-1], by_day=False)
    assert [(line.day, line.turns, line.cost_usd) for line in total] == [(None, 3, Decimal("0.75"))]


def test_a_report_says_how_fresh_it_is(store: Database) -> None:
    rows.run(store, rows.send(store, rows.start(store)))
    with store.begin() as conn:
        assert usage.rolled_up_at(conn) is None
        before = datetime.now(UTC) - timedelta(seconds=1)
        usage.roll_up(conn)
        found = usage.rolled_up_at(conn)
    assert found is not None
    assert before < found < datetime.now(UTC) + timedelta(seconds=1)


def test_an_absurd_row_does_not_stop_the_figures_of_its_day(store: Database) -> None:
    session = rows.start(store)
    turns = [rows.send(store, session) for _ in range(2)]
    for turn in turns:
        rows.run(store, turn)
    tokens = 2**62 if store.is_postgres else 5  # SQLite cannot add such numbers at all
    with store.begin() as conn:
        conn.execute(update(attempts).values(input_tokens=tokens, cost_usd=9_000_000_000))
    count(store)
    assert one(store, TODAY).cost_usd == 9_999_999_999

"""A session, and a user, in figures: the same on every store, and as plain Python counts them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from math import ceil
from random import Random
from typing import Any, NamedTuple

import pytest
from sqlalchemy import update

from tests import rows, steps
from tests.keyed import at_hand, encrypted
from turnmill.domain.analytics.satisfaction import Basis
from turnmill.domain.errors import InvalidInput, SessionNotFound
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.analytics.exchanges import estimate_of
from turnmill.store.analytics.spans import Spread
from turnmill.store.database import Database
from turnmill.store.nouns.forks import fork
from turnmill.store.schema.tables import attempts, messages, turns
from turnmill.store.vaults import attach
from turnmill.verbs import feedback, intake
from turnmill.verbs.analytics.conversations import (
    SessionMetrics,
    UserInsights,
    of_one_session,
    of_one_user,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday


class Told(NamedTuple):
    """A turn as a test has made it."""

    turn: TurnId
    begun: datetime
    started: datetime
    ended: datetime
    state: TurnState
    provider_ms: int


def turn_at(
    store: Database,
    session: SessionId,
    begun: datetime,
    *,
    took: float = 2.0,
    state: TurnState = TurnState.SUCCEEDED,
    text: str = "hello",
    **verdict: Any,
) -> Told:
    """Have a turn that was accepted and ended at these moments."""
    turn = rows.send(store, session, text)
    rows.run(store, turn, state, **verdict)
    started = begun + timedelta(seconds=took / 4)
    ended = begun + timedelta(seconds=took)
    moments = {"created_at": begun, "started_at": started, "finished_at": ended}
    ms = round(took * 500)
    with store.begin() as conn:
        conn.execute(update(turns).where(turns.c.id == turn).values(moments))
        at_provider = {"provider_ms": ms, "first_token_ms": ms // 2}
        conn.execute(update(attempts).where(attempts.c.turn_id == turn).values(at_provider))
    return Told(turn, begun, started, ended, state, ms)


def metrics(store: Database, session: SessionId) -> SessionMetrics:
    return store.run(lambda conn: of_one_session(session).on(conn).result)


def insights(store: Database, user_id: str, **options: Any) -> UserInsights:
    given = {"since": NOON - timedelta(days=1), "until": NOON + timedelta(days=9), "zone": "UTC"}
    verb = of_one_user(user_id, **{**given, **options})
    return store.run(lambda conn: verb.on(conn).result)


def spread_of(values: Sequence[float]) -> Spread | None:
    """Return what SQL is to find, found by sorting."""
    if not values:
        return None
    ordered = sorted(values)

    def at(percent: int) -> float:
        return float(ordered[ceil(len(ordered) * percent / 100) - 1])

    return Spread(
        count=len(ordered),
        mean=sum(ordered) / len(ordered),
        median=at(50),
        p90=at(90),
        p95=at(95),
        p99=at(99),
        highest=float(ordered[-1]),
    )


def ms(begun: datetime, ended: datetime) -> int:
    return round((ended - begun) / timedelta(milliseconds=1))


def test_a_session_without_a_turn_has_nothing_and_no_opinion(store: Database) -> None:
    found = metrics(store, rows.start(store))
    assert (found.messages, found.counts.turns, found.counts.first_at) == (0, 0, None)
    assert found.spent.cost_usd == Decimal(0)
    assert (found.latencies.total, found.duration, found.active) == (None, None, None)
    assert (found.estimate, found.satisfaction.score) == (None, None)
    assert not found.satisfaction.is_estimate


def test_a_session_that_is_not_there_is_not_found(store: Database) -> None:
    with pytest.raises(SessionNotFound):
        metrics(store, SessionId(new_id()))


class Rambling(NamedTuple):
    """A session of thirty turns, some of which failed, with silences; and one that is open."""

    session: SessionId
    told: list[Told]

    @property
    def answered(self) -> list[Told]:
        return [one for one in self.told if one.state is TurnState.SUCCEEDED]


@pytest.fixture
def rambling(store: Database) -> Rambling:
    session, dice = rows.start(store), Random(1)
    turn_at(store, rows.start(store), NOON)
    told: list[Told] = []
    begun = NOON
    for n in range(30):
        state = TurnState.FAILED if n % 7 == 3 else TurnState.SUCCEEDED
        told.append(turn_at(store, session, begun, took=dice.uniform(0.5, 9), state=state))
        begun = told[-1].ended + timedelta(seconds=dice.choice([3, 40, 599, 601, 4000]))
    still_open = rows.send(store, session, "still open")
    with store.begin() as conn:
        mine = turns.c.id == still_open
        conn.execute(update(turns).where(mine).values(created_at=told[-1].ended))
    return Rambling(session, told)


def test_counts_and_costs_of_a_session_are_those_of_its_rows(
    store: Database, rambling: Rambling
) -> None:
    found, answers = metrics(store, rambling.session), len(rambling.answered)
    assert (found.counts.turns, found.counts.succeeded) == (31, answers)
    assert (found.counts.failed, found.counts.unfinished) == (30 - answers, 1)
    assert (found.counts.asked, found.counts.replies) == (31, answers)
    assert found.messages == 31 + answers
    moments = (found.counts.first_at, found.counts.last_at)
    assert moments == (rambling.told[0].begun, rambling.told[-1].ended)
    assert found.spent.cost_usd == Decimal("0.25") * 30
    assert (found.spent.input_tokens, found.spent.output_tokens) == (300, 150)
    assert (found.spent.attempts, found.spent.retries) == (30, 0)
    assert [(one.provider, one.model, one.turns) for one in found.models] == [("mock", "mock", 30)]


def test_times_of_a_session_are_those_of_its_rows(store: Database, rambling: Rambling) -> None:
    found, told, answered = metrics(store, rambling.session), rambling.told, rambling.answered
    took = found.latencies
    assert took.total == spread_of([ms(one.begun, one.ended) for one in answered])
    assert took.queued == spread_of([ms(one.begun, one.started) for one in answered])
    assert took.provider == spread_of([one.provider_ms for one in answered])
    assert took.first_token == spread_of([one.provider_ms // 2 for one in answered])
    whole = ms(told[0].begun, told[-1].ended)
    silences = [ms(before.ended, one.begun) for before, one in pairwise(told)]
    assert found.duration == timedelta(milliseconds=whole)
    active = whole - sum(one for one in silences if one > 600_000)
    assert found.active == timedelta(milliseconds=active)


def test_feedback_wins_over_the_estimate_which_is_told_all_the_same(store: Database) -> None:
    session = rows.start(store)
    one = turn_at(store, session, NOON)
    before = metrics(store, session).satisfaction
    assert before.is_estimate
    assert before.score == before.estimate
    with store.begin() as conn:
        feedback.give(one.turn, -0.75, None, by=None).on(conn)
    after = metrics(store, session).satisfaction
    assert (after.score, after.is_estimate, after.given.count) == (-0.75, False, 1)
    assert after.estimate == before.estimate
    assert after.quality is not None


def test_the_patterns_of_a_user_are_by_local_hours_and_days(store: Database) -> None:
    session = rows.start(store, user_id="ada")
    turn_at(store, session, NOON + timedelta(hours=6, minutes=20))  # Monday, 18:20 UTC
    turn_at(store, session, NOON + timedelta(hours=6, minutes=40))
    utc = insights(store, "ada")
    assert (utc.hours[18], utc.weekdays[0]) == (2, 2)
    # +05:45: 00:05 and 00:25 of Tuesday
    nepal = insights(store, "ada", zone="Asia/Kathmandu")
    assert (nepal.hours[0], nepal.weekdays[1], sum(nepal.hours)) == (2, 2, 2)
    # +05:30: 23:50 of Monday, and 00:10 of Tuesday
    india = insights(store, "ada", zone="Asia/Kolkata")
    assert (india.hours[23], india.hours[0]) == (1, 1)
    assert india.weekdays[:2] == [1, 1]
    with pytest.raises(InvalidInput):
        insights(store, "ada", zone="Mars/Olympus")


def test_insights_are_of_the_users_own_turns_in_the_window_alone(store: Database) -> None:
    first, second = (rows.start(store, user_id="ada") for _ in range(2))
    for n in range(3):
        turn_at(store, first, NOON + timedelta(minutes=n))
    turn_at(store, second, NOON + timedelta(days=2))
    turn_at(store, second, NOON - timedelta(days=40))
    turn_at(store, rows.start(store, user_id="bob"), NOON)
    found = insights(store, "ada")
    assert (found.counts.turns, found.lengths.sessions) == (4, 2)
    assert found.lengths.turns == spread_of([3, 1])
    assert found.lengths.duration_ms == spread_of([122_000, 2_000])
    assert found.spent.cost_usd == Decimal("1.00")
    assert found.satisfaction.coverage == 1.0
    nobody = insights(store, "nobody")
    assert (nobody.counts.turns, nobody.lengths.sessions, sum(nobody.hours)) == (0, 0, 0)
    assert nobody.satisfaction.score is None
    wide = insights(store, "ada", since=NOON - timedelta(days=60))
    assert wide.counts.turns == 5


def test_what_a_fork_begins_with_its_user_has_said_once(store: Database) -> None:
    first = rows.start(store, user_id="ada")
    for n in range(3):
        turn_at(store, first, NOON + timedelta(minutes=n))
    new = intake.new_session(
        user_id="ada", provider="mock", model="mock", key=None, max_text_bytes=100
    )
    with store.begin() as conn:
        fork(conn, new, first, at=None)
    turn_at(store, new.id, NOON + timedelta(minutes=9))
    found = insights(store, "ada")
    assert (found.counts.turns, found.counts.asked, sum(found.hours)) == (4, 4, 4)
    assert metrics(store, new.id).counts.turns == 4, "all of that is in the fork"


def test_a_users_feedback_is_what_he_said_wherever(store: Database) -> None:
    own, other = rows.start(store, user_id="ada"), rows.start(store, user_id="bob")
    first, second = turn_at(store, own, NOON), turn_at(store, other, NOON)
    with store.begin() as conn:
        feedback.give(first.turn, 1, None, by=None).on(conn)
        feedback.give(first.turn, -1, None, by="bob").on(conn)
        feedback.give(second.turn, 0, None, by="ada").on(conn)
    assert insights(store, "ada").satisfaction.score == 0.5
    assert insights(store, "bob").satisfaction.score == -1
    assert metrics(store, own).satisfaction.given.count == 2


def test_an_estimate_says_what_it_was_made_of(store: Database) -> None:
    session = rows.start(store)
    for n in range(3):
        turn_at(store, session, NOON + timedelta(minutes=n))
    whole = store.run(lambda conn: estimate_of(conn, session))
    assert whole is not None
    assert (whole.basis, whole.coverage, whole.turns) == (Basis.WORDS, 1.0, 3)
    with store.begin() as conn:
        first = conn.scalar(turns.select().with_only_columns(turns.c.id).limit(1))
        conn.execute(update(messages).where(messages.c.turn_id == first).values(content=[]))
    part = store.run(lambda conn: estimate_of(conn, session))
    assert part is not None
    assert (part.basis, part.coverage) == (Basis.TIMES, 2 / 3)
    assert part.quality.auc < whole.quality.auc
    assert -1 < part.score < 1


def test_where_no_key_is_an_estimate_goes_by_times(store: Database) -> None:
    session = rows.start(store)
    with encrypted(store, at_hand()):
        turn_at(store, session, NOON)
        assert basis_of(store, session) is Basis.WORDS
    attach(store.engine.dialect, None)
    assert basis_of(store, session) is Basis.TIMES


def basis_of(store: Database, session: SessionId) -> Basis | None:
    found = store.run(lambda conn: estimate_of(conn, session))
    return None if found is None else found.basis


def test_one_turn_open_is_a_session_without_an_estimate(store: Database) -> None:
    session = rows.start(store)
    steps.send(store, session)
    found = metrics(store, session)
    assert (found.counts.unfinished, found.estimate) == (1, None)
    assert found.duration == timedelta(0)

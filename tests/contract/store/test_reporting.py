"""A report from rows: figures, comparison, groups, reasons, sessions that stand out, budgets."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import update

from tests import rows
from tests.folded import fold_all
from turnmill.domain.analytics.alert_bounds import AlertBounds, Rule
from turnmill.domain.analytics.alerting import Judged, RuleVerdict
from turnmill.domain.analytics.report_data import Metric, ReportData
from turnmill.domain.analytics.windows import Grain, Window
from turnmill.domain.budgets import OnExceeded, Period, Scope
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, SessionStatus, TurnState
from turnmill.new_ids import new_id
from turnmill.show.report.document import document
from turnmill.show.report.page import report_page
from turnmill.store.analytics import alerts, made_reports, reporting
from turnmill.store.analytics.figures import Dimension, Totals
from turnmill.store.analytics.folding import fold
from turnmill.store.analytics.watching import judged
from turnmill.store.budget_records import Holder, NewBudget
from turnmill.store.database import Database
from turnmill.store.nouns import budgets, sessions
from turnmill.store.schema.tables import attempts
from turnmill.store.schema.tables import turns as turn_rows

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WEEK = Window(NOW - 7 * DAY, NOW)


def ended(
    store: Database,
    session: SessionId,
    ago: timedelta,
    state: TurnState = TurnState.SUCCEEDED,
    *,
    took: timedelta = timedelta(seconds=2),
    lane: str = "interactive",
    **verdict: Any,
) -> TurnId:
    """Have a turn end so long ago, after so long."""
    turn = rows.send(store, session, lane=lane)
    rows.run(store, turn, state, **verdict)
    at = NOW - ago
    with store.begin() as conn:
        conn.execute(
            update(turn_rows)
            .where(turn_rows.c.id == turn)
            .values(created_at=at - took, started_at=at - took / 2, finished_at=at)
        )
        conn.execute(
            update(attempts)
            .where(attempts.c.turn_id == turn)
            .values(started_at=at - took / 2, ended_at=at, provider_ms=int(took / HOUR * 1.8e6))
        )
    return turn


def read(store: Database, window: Window = WEEK, **options: Any) -> ReportData:
    fold_all(store)
    return store.run_single(reporting.read, window, **{"zone": "UTC", **options})


@pytest.fixture(scope="module")
def weeks() -> dict[str, ReportData]:
    """What was read of the same week, by the kind of its store."""
    return {}


@pytest.fixture
def week(
    store: Database, weeks: dict[str, ReportData], request: pytest.FixtureRequest
) -> ReportData:
    kind = request.node.callspec.params["store"]
    if kind not in weeks:
        weeks[kind] = a_week(store)
    return weeks[kind]


def a_week(store: Database) -> ReportData:
    """Write a small week, and a smaller one before it."""
    chat, bulk = rows.start(store, model="large"), rows.start(store, model="small")
    for ago in (1, 1, 2, 3, 4):
        ended(store, chat, ago * DAY, cost=Decimal(2), tokens=(100, 10, 60))
    ended(store, bulk, 2 * DAY, lane="bulk", cost=Decimal("0.5"), tokens=(50, 10, 0))
    ended(store, bulk, 2 * DAY, TurnState.DEAD, cost=None, error_code="timeout")
    ended(store, chat, 3 * DAY, took=timedelta(seconds=40), cost=Decimal(1))
    ended(store, chat, 9 * DAY, cost=Decimal(3))
    ended(store, bulk, 10 * DAY, TurnState.FAILED, cost=None, error_code="refused")
    return read(store)


def test_figures_are_those_of_the_window_beside_those_before_it(week: ReportData) -> None:
    assert (week.now.turns, week.now.succeeded, week.now.dead) == (8, 7, 1)
    assert week.now.cost_usd == Decimal("11.5")
    assert week.now.unpriced_attempts == 1
    assert week.before is not None
    assert (week.before.turns, week.before.cost_usd) == (2, Decimal(3))
    assert week.now.failure_rate == pytest.approx(1 / 8)
    assert week.whole_until is not None and week.made_at >= week.whole_until


def test_tags_are_told_by_the_key_that_figures_are_kept_by(store: Database) -> None:
    for team in ("red", "blue"):
        ended(store, rows.start(store, metadata={"team": team}), DAY)
    assert read(store).tag == ""
    store.run(fold, tag="team")
    found = read(store)
    assert found.tag == "team"
    assert {one.name for one in found.tags} == {"red", "blue"}


def test_points_add_up_to_the_whole(week: ReportData) -> None:
    assert week.grain is Grain.DAY
    assert sum(one.now.turns for one in week.points) == week.now.turns
    assert sum((one.now.cost_usd for one in week.points), Decimal(0)) == week.now.cost_usd
    before = [one.before for one in week.points]
    assert sum(one.turns for one in before if one) == 2
    assert week.points[0].at == WEEK.since and week.points[-1].until == WEEK.until


def test_models_are_told_apart_the_dearest_first(week: ReportData) -> None:
    assert [(one.of, one.name) for one in week.models] == [("mock", "large"), ("mock", "small")]
    large, small = week.models
    assert (large.now.cost_usd, small.now.cost_usd) == (Decimal(11), Decimal("0.5"))
    assert large.before is not None and large.before.turns == 1
    for one in week.models:
        assert len(one.costs_usd) == len(week.points)
        assert sum(one.costs_usd, Decimal(0)) == one.now.cost_usd
    assert {one.name for one in week.lanes} == {"interactive", "bulk"}
    assert sum(one.now.turns for one in week.tags) == week.now.turns


def test_times_are_those_of_interactive_turns(week: ReportData) -> None:
    total = next(one for one in week.durations if one.of == "total")
    assert total.now is not None
    assert total.now.count == 7  # and one of bulk, for whom nobody waits
    assert total.now.p50_ms == pytest.approx(2000, rel=0.011)
    assert total.now.p99_ms == pytest.approx(40_000, rel=0.011)
    assert total.before is not None
    assert len(total.points) == len(week.points)
    assert [(d.model, d.now.count) for d in week.durations if d.model and d.now] == [("large", 6)]


def test_reasons_are_counted_beside_those_before(week: ReportData) -> None:
    [one] = week.reasons
    assert (one.code, one.turns, one.dead, one.sessions, one.before) == ("timeout", 1, 1, 1, 0)


def test_sessions_stand_out_by_what_they_cost_here_and_by_their_longest_turn(
    store: Database,
) -> None:
    old = rows.start(store, model="old")
    ended(store, old, 20 * DAY, cost=Decimal(900))
    ended(store, old, DAY, cost=Decimal("0.1"))
    dear, slow = rows.start(store, model="dear"), rows.start(store, model="slow")
    ended(store, dear, DAY, cost=Decimal(5))
    ended(store, slow, 2 * DAY, cost=Decimal(1), took=timedelta(minutes=9))
    gone = rows.start(store)
    ended(store, gone, DAY, cost=Decimal(50), took=timedelta(hours=1))
    rows.set_session(store, gone, status=SessionStatus.DELETED)
    for session in (old, dear, slow):
        rows.set_session(store, session, created_at=NOW - 21 * DAY)
    ended(store, rows.start(store), DAY, cost=Decimal(700))  # made when the window was over
    data = read(store)
    assert [one.session_id for one in data.dearest] == [dear, slow, old]
    assert data.dearest[-1].cost_usd == Decimal("0.1")
    assert data.slowest[0].session_id == slow
    assert data.slowest[0].longest_ms == pytest.approx(540_000)
    assert gone not in {one.session_id for one in data.slowest}


def test_hours_of_the_week_are_those_of_the_zone(store: Database) -> None:
    monday = datetime(2026, 11, 2, 20, 5, tzinfo=UTC)
    session = rows.start(store)
    for week in range(2):
        ended(store, session, NOW - (monday + week * 7 * DAY))
    window = Window(monday - DAY, monday + 13 * DAY)
    utc = read(store, window)
    kolkata = read(store, window, zone="Asia/Kolkata")
    assert utc.week[0][20] == 1.0 and sum(map(sum, utc.week)) == pytest.approx(1.0)
    assert kolkata.week[1][1] == 1.0


def test_hours_that_are_yet_to_come_are_no_hours_without_turns(store: Database) -> None:
    session = rows.start(store)
    for ago in range(7):
        ended(store, session, ago * DAY + HOUR / 2)
    data = read(store, Window(NOW - 7 * DAY, NOW + 21 * DAY))
    assert sum(map(sum, data.week)) == pytest.approx(7.0)
    parts = read(store, Window(NOW - 7 * DAY - HOUR / 4, NOW - HOUR / 4))
    assert sum(map(sum, parts.week)) == pytest.approx(7.0)


def test_a_window_of_a_day_is_cut_into_hours_and_one_of_a_year_into_weeks(store: Database) -> None:
    ended(store, rows.start(store), HOUR)
    hours = read(store, Window(NOW - DAY, NOW))
    assert (hours.grain, len(hours.points)) == (Grain.HOUR, 24)
    year = read(store, Window(NOW - 365 * DAY, NOW))
    assert year.grain is Grain.WEEK and len(year.points) in (53, 54)


def test_an_hour_that_stands_out_is_found(store: Database) -> None:
    session = rows.start(store)
    for week in range(1, 5):
        ended(store, session, 2 * DAY + week * 7 * DAY + HOUR / 2, cost=Decimal(2))
    ended(store, session, 2 * DAY + HOUR / 2, cost=Decimal(40))
    ended(store, session, 40 * DAY)
    data = read(store)
    [one] = [one for one in data.anomalies if one.metric is Metric.COST]
    assert (one.value, one.is_above) == (40.0, True)
    assert one.at <= NOW - 2 * DAY - HOUR / 2 < one.until


def test_an_hour_that_is_not_in_yet_does_not_stand_out(store: Database) -> None:
    at = datetime.now(UTC)
    last = at.replace(minute=0, second=0, microsecond=0) + HOUR
    slots = {
        last - week * 7 * DAY + n * HOUR: _line(slot, 400)
        for week in range(1, 5)
        for n in range(-8, 8)
        for slot in [last - week * 7 * DAY + n * HOUR]
    }
    slots |= {last - n * HOUR: _line(last - n * HOUR, 400) for n in range(2, 9)}
    window = Window(last - 2 * HOUR, last + 5 * HOUR)
    assert reporting._anomalies(slots, window, at) == []
    late = reporting._anomalies(slots, window, last + 5 * HOUR)
    assert {one.metric for one in late} == {Metric.TURNS}


def _line(slot: datetime, turns: int) -> Totals:
    noughts = dict.fromkeys(Totals.__dataclass_fields__.keys() - {"by"}, 0)
    return Totals(by={Dimension.SLOT: slot}, **noughts | {"turns": turns})  # type: ignore[arg-type]


@pytest.mark.parametrize("monday", [date(2026, 10, 26), date(2026, 3, 30)])
def test_days_are_compared_with_those_a_week_before_also_where_clocks_were_moved(
    store: Database, monday: date
) -> None:
    """The week before has an hour more, or less: its days are no whole days before these."""
    berlin = ZoneInfo("Europe/Berlin")
    begins = datetime.combine(monday, time(0), berlin)
    session = rows.start(store)
    for day in range(-7, 7):
        for _ in range(1 + day % 7):
            noon = datetime.combine(monday + day * DAY, time(12), berlin)
            ended(store, session, NOW - noon.astimezone(UTC))
    until = datetime.combine(monday + 7 * DAY, time(0), berlin)
    data = read(store, Window(begins, until), zone="Europe/Berlin")
    assert [one.now.turns for one in data.points] == [1, 2, 3, 4, 5, 6, 7]
    assert [one.before.turns for one in data.points if one.before] == [1, 2, 3, 4, 5, 6, 7]


def test_a_session_is_shown_with_all_its_turns_and_with_no_price_where_none_is_known(
    store: Database,
) -> None:
    free, unpriced, young = (rows.start(store) for _ in range(3))
    for _ in range(3):
        ended(store, free, DAY, cost=Decimal(0), took=timedelta(minutes=3))
    ended(store, unpriced, 2 * DAY, cost=None, took=timedelta(minutes=4))
    ended(store, unpriced, 2 * DAY, cost=Decimal(0))
    ended(store, young, DAY, cost=Decimal(99))
    found = {one.session_id: one for one in read(store, Window(NOW - 7 * DAY, NOW - HOUR)).slowest}
    assert (found[free].turns, found[free].unpriced_turns) == (3, 0)
    assert found[free].cost_usd == 0
    assert (found[unpriced].turns, found[unpriced].unpriced_turns) == (2, 1)


def test_figures_that_begin_in_the_period_before_are_said_to(store: Database) -> None:
    session = rows.start(store)
    ended(store, session, 9 * DAY)
    ended(store, session, DAY)
    data = read(store)
    assert data.known_since is not None and data.known_since <= NOW - 9 * DAY
    assert "the period before is not whole" in report_page(data)
    ended(store, session, 14 * DAY)
    assert "the period before is not whole" not in report_page(read(store))


def test_a_store_without_turns_has_a_report_of_nothing(store: Database) -> None:
    data = read(store)
    assert data.now.turns == 0 and data.before is None and data.models == []
    assert "No turn ended in this time." in report_page(data)
    assert document(data)["version"] == 1


def test_budgets_say_where_they_are_heading_and_name_no_user(store: Database) -> None:
    with store.begin() as conn:
        for scope, name, value in (
            (Scope.ALL, "", ""),
            (Scope.USER, "ada@example.com", ""),
            (Scope.TAG, "team", "red"),
        ):
            new = NewBudget(
                holder=Holder(scope, name, value),
                period=Period.MONTH,
                timezone="UTC",
                limit_usd=Decimal(100),
                on_exceeded=OnExceeded.FAIL,
                warn_at=(),
            )
            budgets.set_budget(conn, new, budget_id=new_id())
    data = read(store)
    names = {one.name for one in data.budgets}
    assert {"", "team=red"} < names and not any("ada" in name for name in names)
    assert "ada@example.com" not in report_page(data)


def test_alerts_of_the_window_are_in_it(store: Database) -> None:
    one = Judged(
        rule=Rule.COST, subject="", verdict=RuleVerdict.BAD, value=9.0, usual=1.0, bound=3.0
    )
    with store.begin() as conn:
        alerts.look(conn, [one])
    found = read(store, Window(NOW - DAY, datetime.now(UTC) + HOUR)).alerts
    assert [line.what for line in found] == ["an hour cost $9.00; $1.00 is usual"]


def test_what_is_watched_is_judged_from_rows(store: Database) -> None:
    session = rows.start(store, model="large")
    at = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for _ in range(30):
        ended(store, session, NOW - at + timedelta(minutes=1), TurnState.DEAD, error_code="timeout")
    for n in range(60):
        ended(store, session, NOW - at + DAY + timedelta(minutes=n))
    fold_all(store)
    with store.begin() as conn:
        found = {(one.rule, one.subject): one for one in judged(conn, AlertBounds()).judged}
    assert found[Rule.FAILURES, "mock/large"].verdict is RuleVerdict.BAD
    assert found[Rule.QUEUE, Lane.INTERACTIVE.value].verdict is RuleVerdict.CALM
    off = AlertBounds(off=frozenset(Rule) - {Rule.QUEUE})
    with store.begin() as conn:
        assert {one.rule for one in judged(conn, off).judged} == {Rule.QUEUE}


@pytest.mark.long
def test_cost_caches_and_queues_are_judged_from_rows(store: Database) -> None:
    usual, odd = rows.start(store, model="usual"), rows.start(store, model="odd")
    recent = NOW - datetime.now(UTC) + timedelta(minutes=16)  # its quarter of an hour is over
    for week in range(5):
        for hour in range(-12 if week else 1, 13):
            at = 7 * week * DAY + hour * HOUR + HOUR / 2
            ended(store, usual, at, cost=Decimal(1), tokens=(0, 0, 0))
    for hour in range(7, 70, 3):
        ended(store, odd, hour * HOUR, cost=Decimal(0), tokens=(100_000, 10, 70_000))
    for n in range(6):
        at = recent + n * timedelta(minutes=50)
        ended(store, odd, at, cost=Decimal(0 if n else 30), tokens=(100_000, 10, 1_000))
    late, paused = rows.start(store), rows.start(store)
    for session, lane in ((late, "interactive"), (paused, "bulk")):
        rows.send(store, session, lane=lane)
        rows.set_session(store, session, head_due_at=datetime.now(UTC) - DAY)
    store.run(sessions.pause, paused)
    fold_all(store)
    with store.begin() as conn:
        found = {(one.rule, one.subject): one for one in judged(conn, AlertBounds()).judged}
    bad = {key for key, one in found.items() if one.verdict is RuleVerdict.BAD}
    assert bad == {
        (Rule.COST, ""),
        (Rule.CACHE, "mock/odd"),
        (Rule.QUEUE, Lane.INTERACTIVE.value),
    }


def test_a_report_is_noted_once_for_its_window(store: Database) -> None:
    ended(store, rows.start(store), DAY)
    data = read(store)
    with store.begin() as conn:
        assert not made_reports.is_made(conn, WEEK, "UTC")
        assert made_reports.note(conn, data, file="/r/turnmill-2026-W47.html") is not None
        assert made_reports.note(conn, data, file=None) is None
        assert made_reports.is_made(conn, WEEK, "UTC")
        assert not made_reports.is_made(conn, WEEK, "Asia/Kolkata")
        assert made_reports.purge(conn, older_than=timedelta(days=1)) == 0


def test_what_things_are_called_is_harmless_all_the_way(store: Database) -> None:
    name = "<script>alert(1)</script>" + "m" * 150
    ended(store, rows.start(store, model=name), DAY, error_code="<b>")
    data = read(store)
    assert data.models[0].name == name
    page = report_page(data)
    assert "<script" not in page and "m" * 60 not in page

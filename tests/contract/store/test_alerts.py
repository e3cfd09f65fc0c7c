"""Alerts in rows: opened once, told of once, closed once, on every store."""

from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from tests.folded import fold_all
from turnmill.domain.analytics.alert_bounds import AlertBounds, Rule
from turnmill.domain.analytics.alerting import Judged, RuleVerdict
from turnmill.domain.states import EventKind
from turnmill.store.analytics import alerts as stored
from turnmill.store.analytics import watching
from turnmill.store.analytics.alerts import Alert
from turnmill.store.analytics.telling import words_of
from turnmill.store.database import Database
from turnmill.store.nouns import events
from turnmill.store.schema.alert_tables import alerts
from turnmill.store.schema.rollup_tables import rollup_state
from turnmill.store.types import db_after

BOUNDS = AlertBounds()


def judged(
    verdict: RuleVerdict = RuleVerdict.BAD,
    *,
    rule: Rule = Rule.QUEUE,
    subject: str = "bulk",
    **values: Any,
) -> Judged:
    said = {"value": 90.0, "usual": None, "bound": 60.0, **values}
    return Judged(rule=rule, subject=subject, verdict=verdict, **said)


def look(store: Database, *found: Judged) -> tuple[int, int]:
    with store.begin() as conn:
        return stored.look(conn, found)


def listed(store: Database, **options: Any) -> list[Alert]:
    with store.begin() as conn:
        return stored.find(conn, limit=100, **options)


def told(store: Database) -> list[tuple[str, int]]:
    with store.begin() as conn:
        return [(one.kind, one.n) for one in events.page(conn, None, limit=100).events]


def time_passes(store: Database, span: timedelta) -> None:
    """Let everything have happened that much earlier."""
    with store.begin() as conn:
        for row in conn.execute(select(alerts)).all():
            moved = {
                name: None if row._mapping[name] is None else row._mapping[name] - span
                for name in ("opened_at", "seen_at", "calm_since", "closed_at")
            }
            conn.execute(update(alerts).where(alerts.c.id == row.id).values(moved))


def test_an_alert_opens_once_and_is_told_of_once(store: Database) -> None:
    assert look(store, judged()) == (1, 0)
    assert look(store, judged(value=300.0)) == (0, 0)
    assert look(store, judged(value=70.0)) == (0, 0)
    [one] = listed(store)
    assert (one.rule, one.subject, one.value, one.worst) == (Rule.QUEUE, "bulk", 70.0, 300.0)
    assert one.closed_at is None and one.usual is None and one.bound == 60.0
    assert told(store) == [(EventKind.ALERT_OPENED, 1)]


def test_it_closes_after_half_an_hour_of_calm_and_tells_that_once(store: Database) -> None:
    look(store, judged())
    assert look(store, judged(RuleVerdict.CALM, value=0.0)) == (0, 0)
    time_passes(store, timedelta(minutes=31))
    assert look(store, judged(RuleVerdict.CALM, value=0.0)) == (0, 1)
    assert look(store, judged(RuleVerdict.CALM, value=0.0)) == (0, 0)
    assert listed(store) == []
    assert told(store) == [(EventKind.ALERT_OPENED, 1), (EventKind.ALERT_CLOSED, 2)]


def test_an_alert_that_a_fast_clock_has_opened_closes_when_that_is_set_right(
    store: Database,
) -> None:
    look(store, judged())
    time_passes(store, -timedelta(days=365))
    assert look(store) == (0, 0)
    with store.begin() as conn:
        conn.execute(update(alerts).values(calm_since=db_after(-1860)))
    assert look(store) == (0, 1)
    assert look(store, judged()) == (1, 0)


def test_what_figures_are_too_old_to_judge_closes_no_alert(store: Database) -> None:
    fold_all(store)
    look(store, judged(rule=Rule.FAILURES, subject="p/m"), judged())
    with store.begin() as conn:
        assert watching.judged(conn, BOUNDS).blind == frozenset()
        conn.execute(update(rollup_state).values(folded_until=db_after(-3 * 3600)))
        found = watching.judged(conn, BOUNDS)
        assert {one.rule for one in found.judged} == {Rule.QUEUE}
        for _ in range(2):
            conn.execute(update(alerts).values(calm_since=db_after(-3600)))
            stored.look(conn, found.judged, blind=found.blind)
    assert [one.rule for one in listed(store)] == [Rule.FAILURES]


def test_what_is_neither_calm_nor_bad_leaves_it_open(store: Database) -> None:
    look(store, judged())
    look(store, judged(RuleVerdict.CALM))
    time_passes(store, timedelta(minutes=31))
    assert look(store, judged(RuleVerdict.BETWEEN)) == (0, 0)
    assert look(store, judged(RuleVerdict.CALM)) == (0, 0)  # it begins to be calm anew
    assert len(listed(store)) == 1


def test_the_same_opens_again_only_after_a_rest_and_as_another_one(store: Database) -> None:
    look(store, judged())
    look(store)
    time_passes(store, timedelta(minutes=31))
    assert look(store) == (0, 1)
    assert look(store, judged()) == (0, 0)
    time_passes(store, timedelta(minutes=31))
    assert look(store, judged()) == (1, 0)
    assert len({one.id for one in listed(store, since=None)}) == 1
    with store.begin() as conn:
        assert len(conn.execute(select(alerts)).all()) == 2


def test_alerts_of_other_rules_and_subjects_stand_beside_each_other(store: Database) -> None:
    found = (
        judged(),
        judged(subject="interactive"),
        judged(rule=Rule.COST, subject=""),
        judged(rule=Rule.FAILURES, subject="p/<script>\u202e" + "m" * 3000),
    )
    assert look(store, *found) == (4, 0)
    assert look(store, *found) == (0, 0)
    assert {(one.rule, one.subject) for one in listed(store)} == {
        (one.rule, one.subject) for one in found
    }


def test_those_that_are_open_come_first_and_the_closed_ones_where_asked_for(
    store: Database,
) -> None:
    look(store, judged(subject="a"))
    look(store)
    time_passes(store, timedelta(hours=1))
    look(store)
    look(store, judged(subject="b"))
    assert [one.subject for one in listed(store)] == ["b"]
    with store.begin() as conn:
        since = conn.scalars(select(db_after(-3600.0))).one()
    assert [one.subject for one in listed(store, since=since)] == ["b", "a"]
    assert [one.subject for one in listed(store, since=since, until=since)] == ["a"]


def test_words_are_those_of_the_alert_and_gone_with_it(store: Database) -> None:
    look(store, judged(rule=Rule.COST, subject="", value=31.2, usual=9.8, bound=20.0))
    [one] = listed(store)
    with store.begin() as conn:
        said = words_of(conn, EventKind.ALERT_OPENED, one.id)
        assert said is not None
        assert said["text"] == "an hour cost $31.20; $9.80 is usual"
        assert (said["rule"], said["bound"]) == ("cost", 20.0)
        assert words_of(conn, EventKind.REPORT_MADE, one.id) is None


def test_alerts_that_have_been_closed_for_long_are_forgotten(store: Database) -> None:
    look(store, judged(subject="open"), judged(subject="closed"))
    look(store, judged(subject="open"))
    time_passes(store, timedelta(hours=1))
    look(store, judged(subject="open"))
    time_passes(store, timedelta(days=10))
    with store.begin() as conn:
        assert stored.purge(conn, older_than=timedelta(days=20)) == 0
        assert stored.purge(conn, older_than=timedelta(days=5)) == 1
    assert [one.subject for one in listed(store)] == ["open"]

"""Alerts stay open while nobody sees, and whatever a clock has said."""

from datetime import UTC, datetime, timedelta

from tests.alert_watch import Watch
from turnmill.domain.analytics.alert_bounds import Rule
from turnmill.domain.analytics.alert_moves import CALM_FOR, MOST_OPEN
from turnmill.domain.analytics.alerting import Judged, RuleVerdict

START = datetime(2026, 11, 2, tzinfo=UTC)
FIVE = timedelta(minutes=5)
FAILING = Judged(rule=Rule.FAILURES, subject="p/m", verdict=RuleVerdict.BAD, value=0.3, bound=0.05)


def test_what_nobody_could_judge_stays_open_and_is_calm_from_the_next_look_on() -> None:
    watch = Watch()
    watch.look([FAILING], START)
    watch.look([], START + FIVE)
    for n in range(2, 20):
        watch.look([], START + n * FIVE, blind={Rule.FAILURES})
    watch.look([], START + 20 * FIVE)
    assert watch.ended == []
    watch.look([], START + 20 * FIVE + CALM_FOR)
    assert len(watch.ended) == 1


def test_a_clock_that_is_set_back_neither_keeps_an_alert_open_nor_silent() -> None:
    watch = Watch()
    watch.look([FAILING], START)
    watch.look([], START + FIVE)
    back = START - timedelta(days=365)
    watch.look([], back)
    watch.look([], back + CALM_FOR)
    assert len(watch.ended) == 1
    watch.closed = dict.fromkeys(watch.closed, START)  # as the other clock has said
    watch.look([FAILING], back + CALM_FOR + FIVE)
    assert len(watch.opened) == 2


def test_alerts_of_many_budgets_hide_no_queue() -> None:
    def bad(rule: Rule, subject: str) -> Judged:
        return Judged(rule=rule, subject=subject, verdict=RuleVerdict.BAD, value=9.0, bound=1.0)

    watch = Watch()
    users = [bad(Rule.BUDGET, str(n)) for n in range(3 * MOST_OPEN)]
    for n in range(3):
        watch.look(users, START + n * FIVE)
    assert len(watch.opened) == MOST_OPEN
    watch.look([*users, bad(Rule.QUEUE, "interactive"), FAILING], START + 3 * FIVE)
    assert [key for key, _ in watch.opened[MOST_OPEN:]] == [
        (Rule.QUEUE, "interactive"),
        (Rule.FAILURES, "p/m"),
    ]

"""A report, whole: read on one connection, from figures that are kept and rows by index."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from turnmill.domain.analytics.alert_words import sentence
from turnmill.domain.analytics.alerting import Budgeted, forecast
from turnmill.domain.analytics.anomalies import LONGEST_LOOK, anomalies
from turnmill.domain.analytics.report_data import (
    AlertLine,
    Anomaly,
    BudgetLine,
    Metric,
    ReportData,
)
from turnmill.domain.analytics.usual import HOUR, WEEK, WEEKS, Series
from turnmill.domain.analytics.windows import Window, slot_of
from turnmill.domain.budgets import Scope
from turnmill.domain.dollars import rounded
from turnmill.store.analytics import alerts, report_comparisons, report_rows, report_sections
from turnmill.store.analytics.figures import Totals, folded_until, known_since, slots_of
from turnmill.store.analytics.report_figures import (
    ByModel,
    Cut,
    durations,
    figures_of,
    hours,
    other_groups,
)
from turnmill.store.analytics.watching import periodic_budgets, profile_of
from turnmill.store.rules.figures import kept_tag
from turnmill.store.schema.budget_tables import budgets
from turnmill.store.types import db_now

_MOST_ALERTS = 50
_MOST_BUDGETS = 20
#: What is looked at before the window, to say what its hours usually come to.
_BEFORE = WEEKS * WEEK + 12 * HOUR


def read(conn: Connection, window: Window, *, zone: str, thorough: bool = False) -> ReportData:
    """Read it. Nothing is written, and nobody waits for it.

    What looks at turns one by one looks at a sample of very many, unless it is to be `thorough`.
    """
    now: datetime = conn.scalars(select(db_now())).one()
    cut = Cut.of(window, zone)
    whole_until = folded_until(conn)
    by_model = ByModel.read(conn, cut)
    slots = _slots(conn, window)
    why, are_all = report_rows.reasons(conn, window)
    totals = figures_of(by_model.now)
    found = report_sections.read(conn, window, slots=slots, thorough=thorough)
    return ReportData(
        since=window.since,
        until=window.until,
        zone=zone,
        made_at=now,
        whole_until=whole_until,
        tag=kept_tag(conn),
        grain=cut.grain,
        now=totals,
        before=figures_of(by_model.before) if by_model.before else None,
        known_since=known_since(conn),
        points=by_model.points(),
        models=by_model.models(),
        **other_groups(conn, window),
        week=hours(slots, window, zone, whole_until=whole_until),
        durations=list(durations(conn, cut)),
        reasons=why,
        anomalies=_anomalies(slots, window, whole_until),
        dearest=report_rows.dearest(conn, window),
        slowest=report_rows.slowest(conn, window),
        alerts=_alerts(conn, window),
        budgets=_budgets(conn, slots, now),
        feedback=found.feedback,
        topics=found.topics,
        behaviours=found.behaviours,
        suggestions=found.suggestions,
        saves_usd=found.saves_usd,
        trials=report_comparisons.trials_in(conn, window),
        experiments=report_comparisons.experiments_in(conn, window),
        missing=found.missing,
        notes=found.notes if are_all else (_CUT, *found.notes),
    )


_CUT = (
    f"Why turns came to nothing is told of the newest {report_rows.MOST_FAILED:,} that did, of all"
    " times."
)


def _slots(conn: Connection, window: Window) -> Mapping[datetime, Totals]:
    """Return the figures of each slot of the window, and of so much before it as hours are held to.

    Of longer windows no hours are looked at.
    """
    before = timedelta(0) if window.length > LONGEST_LOOK else _BEFORE
    return slots_of(conn, Window(window.since - before, window.until))


def _anomalies(
    slots: Mapping[datetime, Totals], window: Window, whole_until: datetime | None
) -> list[Anomaly]:
    """Return the hours that stand out, of each metric; none of a window that is very long.

    Of hours that are over, and whose turns are in: of others nobody knows what they come to.
    """
    if window.length > LONGEST_LOOK or not slots or whole_until is None:
        return []
    first, until = min(slots), min(window.until, slot_of(whole_until))

    def series(values: Mapping[datetime, float]) -> Series:
        return Series.of(values, since=first, until=until)

    of = {
        Metric.COST: {at: float(one.cost_usd) for at, one in slots.items()},
        Metric.TURNS: {at: float(one.turns) for at, one in slots.items()},
        Metric.FAILURES: {at: float(one.failed + one.dead) for at, one in slots.items()},
    }
    return [
        one
        for metric, values in of.items()
        for one in anomalies(metric, series(values), window.since, until)
    ]


def _alerts(conn: Connection, window: Window) -> list[AlertLine]:
    found = alerts.find(conn, since=window.since, until=window.until, limit=_MOST_ALERTS)
    return [
        AlertLine(
            rule=one.rule.value,
            subject=one.subject,
            opened_at=one.opened_at,
            closed_at=one.closed_at,
            what=sentence(one.rule, one.subject, value=one.worst, usual=one.usual),
        )
        for one in found
    ]


def _budgets(conn: Connection, slots: Mapping[datetime, Totals], now: datetime) -> list[BudgetLine]:
    """Return the budgets that are used up the most, in the periods that are now."""
    found = periodic_budgets(conn, now)[:_MOST_BUDGETS]
    if not found:
        return []
    until = max(slots, default=now)
    costs = {at: float(one.cost_usd) for at, one in slots.items()}
    profile = profile_of(Series.of(costs, since=min(slots, default=now), until=until), until)
    names = _names(conn, [UUID(one.id) for one in found])
    return [_budget(one, names[one.id], now, profile) for one in found]


def _budget(
    one: Budgeted, named: tuple[str, str], now: datetime, profile: Sequence[float]
) -> BudgetLine:
    heading = forecast(one, at=now, profile=profile)
    return BudgetLine(
        name=named[0],
        period=named[1],
        limit_usd=one.limit_usd,
        spent_usd=one.spent_usd,
        forecast_usd=None if heading is None else rounded(heading, digits=4),
        ends_at=one.ends_at,
    )


def _names(conn: Connection, ids: Sequence[UUID]) -> dict[str, tuple[str, str]]:
    """Return what budgets bound, and their periods; of users and sessions, some digits alone."""
    rows = conn.execute(
        select(budgets.c.id, budgets.c.scope, budgets.c.name, budgets.c.value, budgets.c.period)
        .where(budgets.c.id.in_(ids))
        .order_by(budgets.c.id)
    )
    return {str(row.id): (_named(row), row.period) for row in rows}


def _named(row: Any) -> str:
    if row.scope == Scope.TAG.value:
        return f"{row.name}={row.value}"
    return "" if row.scope == Scope.ALL.value else f"{row.scope} {str(row.id)[:18]}"

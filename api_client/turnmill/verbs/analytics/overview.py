"""What a window came to, whole, and its lines one by one; and alerts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from turnmill.domain.analytics.report_data import ReportData
from turnmill.domain.analytics.windows import Window, window
from turnmill.domain.arguments import page_size, yes_or_no
from turnmill.domain.budgets import time_zone
from turnmill.store.analytics import alerts as stored
from turnmill.store.analytics import reporting
from turnmill.store.analytics.alerts import Alert
from turnmill.store.analytics.figures import Dimension, Totals, totals
from turnmill.store.analytics.report_figures import grain_of
from turnmill.verbs.verb import Connection, Effect, Verb, single

#: What lines of a window are told apart by, beside its spans of time.
APART = (Dimension.PROVIDER, Dimension.MODEL, Dimension.TIER, Dimension.LANE, Dimension.TAG)


def overview(
    *,
    since: str | datetime | timedelta,
    until: str | datetime | None,
    zone: str,
    thorough: bool,
) -> Verb[ReportData]:
    """Read a report."""
    wholly = yes_or_no(thorough, name="thorough")
    named = time_zone(zone, name="zone")
    asked = window(since, until, now=datetime.now(UTC), zone=named)

    def on(conn: Connection) -> Effect[ReportData]:
        return Effect(reporting.read(conn, asked, zone=named, thorough=wholly))

    return single(on)


def lines(
    *, since: str | datetime | timedelta, until: str | datetime | None, zone: str
) -> Verb[Sequence[Totals]]:
    """Read what a report is added up from: each span of time, by all that lines are told apart."""
    named = time_zone(zone, name="zone")
    asked = window(since, until, now=datetime.now(UTC), zone=named)

    def on(conn: Connection) -> Effect[Sequence[Totals]]:
        return Effect(totals(conn, asked, by=(_grain(asked), *APART), zone=named))

    return single(on)


def _grain(asked: Window) -> Dimension:
    return Dimension(grain_of(asked).value)


def alerts(*, since: str | datetime | timedelta | None, limit: int) -> Verb[Sequence[Alert]]:
    """Read the alerts that are open, and with `since` those that were."""
    number = page_size(limit)
    now = datetime.now(UTC)
    begun = None if since is None else window(since, now=now).since

    def on(conn: Connection) -> Effect[Sequence[Alert]]:
        return Effect(stored.find(conn, since=begun, limit=number))

    return single(on)

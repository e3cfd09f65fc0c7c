"""Looking for alerts: what is watched is read, judged, and opened or closed."""

from turnmill.domain.analytics.alert_bounds import AlertBounds
from turnmill.store.analytics import alerts
from turnmill.store.analytics.watching import judged
from turnmill.store.database import Database
from turnmill_worker.process.closing import Counts


def look(database: Database, bounds: AlertBounds) -> Counts:
    """Look once. Figures are read first, and no row is locked meanwhile."""
    with database.single() as conn:
        found = judged(conn, bounds)
    with database.begin() as conn:
        opened, closed = alerts.look(conn, found.judged, blind=found.blind)
    return {"judged": len(found.judged), "opened": opened, "closed": closed}

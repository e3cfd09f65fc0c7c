"""The tables of alerts, and of reports that were made."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    Index,
    Table,
    Text,
    Uuid,
    text,
)

from turnmill.domain.analytics.alert_bounds import Rule
from turnmill.store.schema.bounds import one_of
from turnmill.store.schema.rollup_tables import metadata as metadata  # whole with these only
from turnmill.store.types import Json, Timestamp, db_now

# One row for each time that an alert was open. It numbers its own events: 1 says that it opened, 2
# that it closed.
alerts = Table(
    "alerts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("subject", Text, nullable=False),  # provider(/model), a lane, a budget's id; "": all
    Column("value", Float, nullable=False),  # as it was at the last look
    Column("worst", Float, nullable=False),
    Column("usual", Float),  # when it opened; NULL: not known, or there is no such thing
    Column("bound", Float, nullable=False),  # that it was beyond
    Column("opened_at", Timestamp, nullable=False, server_default=db_now()),
    Column("seen_at", Timestamp, nullable=False, server_default=db_now()),  # the last look
    Column("calm_since", Timestamp),  # NULL: it was not calm at the last look
    Column("closed_at", Timestamp),  # NULL: it is open
    one_of("rule", Rule),
    CheckConstraint("closed_at IS NULL OR closed_at >= opened_at", name="closes_after_it_opens"),
)
_OPEN = text("closed_at IS NULL")
Index(
    "uq_alerts_open",
    alerts.c.rule,
    alerts.c.subject,
    unique=True,
    postgresql_where=_OPEN,
    sqlite_where=_OPEN,
)
Index("ix_alerts_closed_at", alerts.c.closed_at)

# One row for each report that beat has made: of when it is, and its first figures.
reports = Table(
    "reports",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("since", Timestamp, nullable=False),
    Column("until", Timestamp, nullable=False),
    Column("zone", Text, nullable=False),
    Column("file", Text),  # where it was written, in the worker's own folder; NULL: nowhere
    Column("summary", Json, nullable=False),  # turns, costs and shares: figures alone
    Column("made_at", Timestamp, nullable=False, server_default=db_now()),
    CheckConstraint("since < until", name="a_window"),
)
Index("uq_reports_window", reports.c.since, reports.c.until, reports.c.zone, unique=True)

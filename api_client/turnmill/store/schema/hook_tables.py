"""The tables of who wants to hear of what: subscriptions, observers of sessions, webhooks."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    text,
)

from turnmill.store.schema.event_tables import metadata as metadata  # whole with these only
from turnmill.store.sealed_types import SealedText
from turnmill.store.types import Json, Timestamp, Word, db_now

# Of a kind that nobody wants no event is written, but for endings.
subscriptions = Table(
    "subscriptions",
    metadata,
    Column("subscriber", Text, nullable=False),  # observer:… or webhook:…
    Column("kind", Text, nullable=False),
    PrimaryKeyConstraint("subscriber", "kind"),
)

# Whom sessions and batches name by themselves. No foreign key: their last event is told, too.
observed = Table(
    "observed",
    metadata,
    Column("session_id", Uuid, nullable=False),
    Column("observer", Text, nullable=False),
    PrimaryKeyConstraint("session_id", "observer"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("url", Text, nullable=False),
    Column("kinds", Json, nullable=False),
    Column("secret", SealedText("webhooks", "secret", row=("id",)), nullable=False),
    Column("old_secret", SealedText("webhooks", "secret", row=("id",))),  # signs, too, until then
    Column("old_until", Timestamp),
    Column("include_content", Boolean, nullable=False, server_default=false()),
    Column("parked_at", Timestamp),  # nothing is sent from then on
    Column("parked_because", Text),
    Column("missed", BigInteger, nullable=False, server_default="0"),  # no room was left for them
    Column("events", BigInteger, nullable=False, server_default="0"),  # of its own
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
)

# One row for each event and webhook, which is the log of what was sent, too. No bodies: they are
# made anew for each try.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("webhook_id", Uuid, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("session_id", Uuid, nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("turn_id", Uuid),
    Column("kind", Text, nullable=False),
    Column("type", Text, nullable=False),  # the kind as it was asked for
    Column("at", Timestamp, nullable=False),
    Column("budget_id", Uuid),
    Column("share", Text),
    Column("state", Word, nullable=False, server_default="due"),
    Column("due_at", Timestamp, server_default=db_now()),  # NULL: never
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("first_at", Timestamp),  # the first try
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("status", Integer),  # of HTTP, as it came last
    Column("error_code", Text),
    Column("took_ms", Integer),
    Column("ended_at", Timestamp),
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    UniqueConstraint("webhook_id", "session_id", "n"),
    CheckConstraint("state IN ('due', 'delivered', 'parked')", name="state_known"),
)
Index(
    "ix_deliveries_due",
    deliveries.c.webhook_id,
    deliveries.c.due_at,
    postgresql_where=text("due_at IS NOT NULL"),
    sqlite_where=text("due_at IS NOT NULL"),
)

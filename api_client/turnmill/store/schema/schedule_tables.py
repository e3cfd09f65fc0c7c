"""The table of schedules: what is to be said in a session again and again, or later."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    text,
)

from turnmill.domain.crons import Missed
from turnmill.domain.states import Lane
from turnmill.store.dollars import Dollars
from turnmill.store.schema.bounds import one_of
from turnmill.store.schema.template_tables import metadata as metadata  # whole with these only
from turnmill.store.sealed_types import SealedJson, SealedObject
from turnmill.store.types import Timestamp, db_now

# Whoever makes a run of one locks its session first, then the row; the run and the row are written
# in one commit.
schedules = Table(
    "schedules",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("key", Text),
    Column(  # parts, as of a message
        "content",
        SealedJson("schedules", "content", row=("session_id", "id"), user="session_id"),
        nullable=False,
    ),
    Column("cron", Text),  # NULL: once, at `at`
    Column("at", Timestamp),
    Column("timezone", Text, nullable=False),
    Column("until", Timestamp),
    Column("missed", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column(
        "metadata",
        SealedObject("schedules", "metadata", row=("session_id", "id")),
        nullable=False,
        server_default=text("'{}'"),
    ),
    Column("max_attempts", Integer),
    Column("max_cost_usd", Dollars()),
    Column("paused", Boolean, nullable=False, server_default=false()),
    Column("next_at", Timestamp),  # NULL: paused, or over
    Column("last_at", Timestamp),  # for which a run was made last
    Column("last_turn_id", Uuid),
    Column("runs", BigInteger, nullable=False, server_default="0"),
    Column("skipped", BigInteger, nullable=False, server_default="0"),
    Column("error_code", Text),  # why the last one came to no turn; NULL: it did
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    Column("updated_at", Timestamp, nullable=False, server_default=db_now()),
    UniqueConstraint("session_id", "key"),
    one_of("missed", Missed),
    one_of("lane", Lane),
    CheckConstraint("(cron IS NULL) <> (at IS NULL)", name="cron_or_at"),
    CheckConstraint("NOT paused OR next_at IS NULL", name="paused_is_not_due"),
)
Index(
    "ix_schedules_next_at",
    schedules.c.next_at,
    postgresql_where=text("next_at IS NOT NULL"),
    sqlite_where=text("next_at IS NOT NULL"),
)

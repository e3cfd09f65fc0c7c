"""The tables of events, and of those who read them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    false,
    text,
)

from turnmill.store.schema.kept_tables import metadata as metadata  # whole with these only
from turnmill.store.types import Timestamp, db_now

# What happened, by ids. No foreign keys: it outlives its rows, until readers have passed.
events = Table(
    "events",
    metadata,
    Column("session_id", Uuid, nullable=False),
    Column("n", BigInteger, nullable=False),  # without holes: whoever gives it holds the session
    Column("turn_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", Timestamp, nullable=False, server_default=db_now()),
    Column("place", BigInteger),  # in the order in which readers see them; NULL: nobody looked yet
    Column("budget_id", Uuid),  # that it tells of; NULL: of none
    Column("share", Float),  # of the budget's limit, that was spent
    PrimaryKeyConstraint("session_id", "n"),
)


# Places are given by whoever holds the one row of this table.
event_log = Table(
    "event_log",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("last_place", BigInteger, nullable=False, server_default="0"),
    Column("pruned_place", BigInteger, nullable=False, server_default="0"),  # and all before it
    Column("pruned_until", Timestamp),  # no event that was pruned is younger
    Column("complete_since", Timestamp),  # NULL: code may be at work that ends turns without events
    CheckConstraint("id = 1", name="one_row"),
)


event_readers = Table(
    "event_readers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("place", BigInteger, nullable=False),  # everything up to it was read
    Column("parked", Boolean, nullable=False, server_default=false()),
    Column("parked_because", Text),  # what it did with the event after its place; NULL: by hand
    Column("missed", BigInteger, nullable=False, server_default="0"),  # pruned before it read them
    Column("missed_at", Timestamp),
    Column("owner", Text),  # who reads for it now; NULL: nobody
    Column("fence", BigInteger, nullable=False, server_default="0"),  # of the last who began to
    Column("free_at", Timestamp),  # another one may begin from then on; NULL: at once
    Column("tries", Integer, nullable=False, server_default="0"),  # at what comes after its place
    Column("skipped", BigInteger, nullable=False, server_default="0"),  # given up after many tries
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
)

Index(
    "ix_events_unplaced",
    events.c.session_id,
    events.c.n,
    postgresql_where=text("place IS NULL"),
    sqlite_where=text("place IS NULL"),
)
Index(
    "uq_events_place",
    events.c.place,
    unique=True,
    postgresql_where=text("place IS NOT NULL"),
    sqlite_where=text("place IS NOT NULL"),
)

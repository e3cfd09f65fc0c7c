"""The tables of what the house notes for itself: jobs that ran, wishes, heads that were told."""

from sqlalchemy import DDL, CheckConstraint, Column, PrimaryKeyConstraint, Table, Text, Uuid, event

from turnmill.store.schema.life_tables import metadata as metadata  # whole with these only
from turnmill.store.types import Json, Timestamp, db_now

job_runs = Table(
    "job_runs",
    metadata,
    Column("name", Text, nullable=False),
    Column("slot", Timestamp, nullable=False),
    Column("started_at", Timestamp, nullable=False, server_default=db_now()),
    Column("finished_at", Timestamp),
    Column("result", Json),
    PrimaryKeyConstraint("name", "slot"),
)

# What those who may only look have asked for; gone once it was done.
wishes = Table(
    "wishes",
    metadata,
    Column("turn_id", Uuid, primary_key=True),
    Column("verb", Text, nullable=False),
    Column("at", Timestamp, nullable=False, server_default=db_now()),
    Column("asked_by", Text),  # as Flower knows him; NULL: nobody said
    CheckConstraint("verb IN ('cancel', 'retry')", name="verb_known"),
)

# When a head was last announced. Lost with a crash of the server, at the cost of a doubled hint.
announcements = Table(
    "announcements",
    metadata,
    Column("session_id", Uuid, primary_key=True),
    Column("at", Timestamp, nullable=False),
)
event.listen(
    announcements,
    "after_create",
    DDL("ALTER TABLE %(fullname)s SET UNLOGGED").execute_if(  # type: ignore[no-untyped-call]
        dialect="postgresql"
    ),
)

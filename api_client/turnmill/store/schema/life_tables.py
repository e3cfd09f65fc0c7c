"""The tables of what is left when sessions go: that they were, and for how long content is kept."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Table, Text, Uuid, text

from turnmill.store.schema.audit_tables import metadata as metadata  # whole with these only
from turnmill.store.schema.tables import sessions
from turnmill.store.types import Json, Timestamp, db_now

# A session that was deleted or purged: ids and figures. It says what became of its rows, and is
# forgotten when nothing of the session is left anywhere.
tombstones = Table(
    "tombstones",
    metadata,
    Column("session_id", Uuid, primary_key=True),
    Column("how", Text, nullable=False),
    Column("at", Timestamp, nullable=False, server_default=db_now()),
    Column("removed_at", Timestamp),  # NULL: a turn runs yet, and the rows go after it
    Column("rows", Json, nullable=False, server_default=text("'{}'")),  # by table, that went
    Column("left_behind", Json, nullable=False, server_default=text("'[]'")),  # cannot be deleted
    Column("batches", Json),  # ids of those of which vendors had lines then; NULL: of none
    Column("user_hash", Text),  # whose it was, where nothing names him; NULL: of before
    CheckConstraint("how IN ('deleted', 'purged')", name="how_known"),
)
Index("ix_tombstones_at", tombstones.c.at)

# Sessions that say themselves for how long: mostly none.
Index(
    "ix_sessions_content_seconds",
    sessions.c.content_seconds,
    postgresql_where=text("content_seconds IS NOT NULL"),
    sqlite_where=text("content_seconds IS NOT NULL"),
)

# For how long content of a user's sessions is kept, where it is not as everybody's.
user_retention = Table(
    "user_retention",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("content_seconds", BigInteger, nullable=False),
    Column("set_at", Timestamp, nullable=False, server_default=db_now()),
    CheckConstraint("content_seconds > 0", name="content_is_kept"),
)

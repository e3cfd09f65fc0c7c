"""The table of what vendors keep, by their own ids."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    false,
    text,
)

from turnmill.store.schema.tables import metadata as metadata  # whole with these only
from turnmill.store.types import Timestamp, db_now

# What vendors keep of a session, by their own ids. No foreign key: a row stays until the vendor has
# deleted what it names, also when session and turn are long gone. Ids only, no content.
kept_refs = Table(
    "kept_refs",
    metadata,
    Column("session_id", Uuid, nullable=False),
    Column("ref", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("turn_id", Uuid),  # NULL: known from the session only
    Column("stored", Boolean, nullable=False),  # to be closed when nobody needs it any more
    Column("running", Boolean, nullable=False),  # the vendor may be at work: to be cancelled first
    # It changes with what is said in it; a session stands on one of them at the most.
    Column("is_thread", Boolean, nullable=False, server_default=false()),
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    Column("unwanted_at", Timestamp),  # NULL: its session goes on
    Column("due_at", Timestamp),  # when the vendor is asked, for the first time or again
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("error_code", Text),  # of the last try
    Column("attachment_id", Text),  # whose copy it is; NULL: it is a thread, or an answer
    Column("fence", BigInteger),  # of the attempt that has uploaded it
    Column("expires_at", Timestamp),  # when the vendor deletes a copy by itself
    PrimaryKeyConstraint("session_id", "ref"),
    CheckConstraint("(due_at IS NULL) = (unwanted_at IS NULL)", name="unwanted_is_due"),
)
_COPIES = text("attachment_id IS NOT NULL")
Index(
    "ix_kept_refs_copies", kept_refs.c.attachment_id, postgresql_where=_COPIES, sqlite_where=_COPIES
)
Index(
    "ix_kept_refs_due_at",
    kept_refs.c.due_at,
    postgresql_where=text("due_at IS NOT NULL"),
    sqlite_where=text("due_at IS NOT NULL"),
)

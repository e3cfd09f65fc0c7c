"""The tables of what users gave beside their words: attachments, where they are used, quotas."""

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

from turnmill.store.schema.budget_tables import metadata as metadata  # whole with these only
from turnmill.store.sealed_types import SealedText
from turnmill.store.types import Timestamp, db_now

NAME = SealedText("attachments", "name", row=("id",), user="user_id")

# What a user gave, each content once. The row stands before the first of its bytes is written, and
# until the last one is gone: bytes without a row are nobody's.
attachments = Table(
    "attachments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Text, nullable=False),
    # Keyed by the user's, where content is encrypted: nobody else knows a file by it.
    Column("sha256", Text),  # in hex; NULL until it is ready, and as soon as it is to go
    Column("size", BigInteger, nullable=False),  # until it is ready, what is reserved for it
    Column("media_type", Text, nullable=False, server_default=""),
    Column("name", NAME, nullable=False, server_default=""),  # as its giver called it
    Column("width", Integer),
    Column("height", Integer),
    Column("duration_ms", BigInteger),
    Column("ready", Boolean, nullable=False, server_default=false()),  # all its bytes are there
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    Column("due_at", Timestamp),  # it goes then, unless it is used; NULL: it is used
    Column("gone_at", Timestamp),  # since when its bytes may be deleted: nobody can use it again
    UniqueConstraint("user_id", "sha256"),
    CheckConstraint("size >= 0", name="size_is_counted"),
    CheckConstraint(
        "sha256 IS NULL OR (ready AND gone_at IS NULL)", name="content_is_there_to_be_found"
    ),
)
Index("ix_attachments_user", attachments.c.user_id, attachments.c.id)
Index(
    "ix_attachments_due",
    attachments.c.due_at,
    postgresql_where=text("due_at IS NOT NULL"),
    sqlite_where=text("due_at IS NOT NULL"),
)
Index(
    "ix_attachments_gone",
    attachments.c.gone_at,
    postgresql_where=text("gone_at IS NOT NULL"),
    sqlite_where=text("gone_at IS NOT NULL"),
)

# Which turns of which sessions hold an attachment. It goes with the session.
attachment_uses = Table(
    "attachment_uses",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("turn_id", Uuid, nullable=False),
    Column("attachment_id", Uuid, ForeignKey("attachments.id", ondelete="CASCADE"), nullable=False),
    PrimaryKeyConstraint("turn_id", "attachment_id"),
)
Index("ix_attachment_uses_session", attachment_uses.c.session_id)
Index("ix_attachment_uses_attachment", attachment_uses.c.attachment_id)

# How many bytes a user's attachments have, with those that are reserved. Its row is the lock of
# them all, behind which the sum is exact.
file_usage = Table(
    "file_usage",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    CheckConstraint("bytes >= 0", name="bytes_are_counted"),
)

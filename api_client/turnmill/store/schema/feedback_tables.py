"""The table of what people say of replies."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from turnmill.store.schema.key_tables import metadata as metadata  # whole with these only
from turnmill.store.sealed_types import SealedText
from turnmill.store.types import Timestamp, db_now

# The last word of each who has said something of a turn.
feedback = Table(
    "feedback",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("turn_id", Uuid, ForeignKey("turns.id", ondelete="CASCADE"), nullable=False),
    Column("session_id", Uuid, nullable=False),  # goes with its turn
    Column("name", Text),  # whose word it is; NULL: nobody by name
    Column("score", Float(53)),  # NULL: it was taken back
    Column("comment", SealedText("feedback", "comment", row=("id",), user="session_id")),
    Column("changes", Integer, nullable=False, server_default="0"),  # of it, since the first word
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    Column("updated_at", Timestamp, nullable=False, server_default=db_now()),
    UniqueConstraint("turn_id", "name"),
    CheckConstraint("score BETWEEN -1 AND 1", name="score_known"),
)
Index("ix_feedback_session_id", feedback.c.session_id)
Index("ix_feedback_updated_at", feedback.c.updated_at)
_NAMED, _UNNAMED = text("name IS NOT NULL"), text("name IS NULL")
Index("ix_feedback_name", feedback.c.name, postgresql_where=_NAMED, sqlite_where=_NAMED)
Index(
    "uq_feedback_unnamed",
    feedback.c.turn_id,
    unique=True,
    postgresql_where=_UNNAMED,
    sqlite_where=_UNNAMED,
)

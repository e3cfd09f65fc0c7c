"""The tables of sessions that several people take part in."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from turnmill.domain.states import ParticipantRole
from turnmill.store.schema.bounds import one_of
from turnmill.store.schema.schedule_tables import metadata as metadata  # whole with these only
from turnmill.store.sealed_types import SealedJson
from turnmill.store.types import Timestamp, db_now


def _session() -> Column[object]:
    return Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False)


# A row for each session that somebody else takes part in, or follows. Whoever numbers what happened
# in it holds the row: never while he waits for the session.
shared_sessions = Table(
    "shared_sessions",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("last_n", BigInteger, nullable=False, server_default="0"),  # of the log
    Column("last_seq", BigInteger, nullable=False),  # of the turns that are in it, or were before
)

participants = Table(
    "participants",
    metadata,
    _session(),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("read_n", BigInteger, nullable=False, server_default="0"),  # everything up to it
    Column("joined_at", Timestamp, nullable=False, server_default=db_now()),
    PrimaryKeyConstraint("session_id", "name"),
    one_of("role", ParticipantRole),
)
Index("ix_participants_name", participants.c.name)

# What happened, in the one order in which everybody is told. Of turns it is put down by whoever
# looks first: nobody who accepts or ends one knows of it.
shared_log = Table(
    "shared_log",
    metadata,
    _session(),
    Column("n", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("turn_id", Uuid),  # NULL: it is of none
    Column("name", Text),  # who said it, joined or left; NULL: nobody by name
    # Of a turn that was accepted, or is to run again: 2 while nothing else of it is in the log, 1
    # since it has started, 0 since it has ended.
    Column("open", SmallInteger, nullable=False, server_default="0"),
    Column("at", Timestamp, nullable=False, server_default=db_now()),
    PrimaryKeyConstraint("session_id", "n"),
    CheckConstraint("open BETWEEN 0 AND 2", name="open_known"),
)
Index(
    "ix_shared_log_open",
    shared_log.c.session_id,
    postgresql_where=text("open > 0"),
    sqlite_where=text("open > 0"),
)

# What is said to people alone. It stands in no line, and is sent to nobody else.
notes = Table(
    "notes",
    metadata,
    _session(),
    Column("n", BigInteger, nullable=False),  # of the log
    Column("after_seq", BigInteger, nullable=False),  # behind which turn it stands in the history
    Column("sender", Text),
    Column(  # parts, as of a message
        "content",
        SealedJson("notes", "content", row=("session_id", "n"), user="session_id"),
        nullable=False,
    ),
    Column("idempotency_key", Text),
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    PrimaryKeyConstraint("session_id", "n"),
)
Index(
    "uq_notes_keyed",
    notes.c.session_id,
    notes.c.idempotency_key,
    unique=True,
    postgresql_where=text("idempotency_key IS NOT NULL"),
    sqlite_where=text("idempotency_key IS NOT NULL"),
)
Index("ix_notes_after_seq", notes.c.session_id, notes.c.after_seq, notes.c.n)
Index("ix_notes_sender", notes.c.sender)

# Who has said what a turn answers, where somebody was named. It stands in the message, too, which
# is content: this is found by the name.
turn_senders = Table(
    "turn_senders",
    metadata,
    Column("turn_id", Uuid, ForeignKey("turns.id", ondelete="CASCADE"), primary_key=True),
    _session(),
    Column("name", Text, nullable=False),
)
Index("ix_turn_senders_name", turn_senders.c.name)
Index("ix_turn_senders_session_id", turn_senders.c.session_id)

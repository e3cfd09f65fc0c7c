"""The table of what is left out of long conversations when a model is asked."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
)

from turnmill.domain.states import CompactionKind
from turnmill.store.dollars import Dollars
from turnmill.store.schema.bounds import one_of
from turnmill.store.schema.step_tables import metadata as metadata  # whole with these only
from turnmill.store.sealed_types import SealedJson
from turnmill.store.types import Timestamp, db_now

# Beside the messages, never instead: these stay as they are. The last one of a session counts.
compactions = Table(
    "compactions",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("n", Integer, nullable=False),  # 1, 2, … of the session
    Column("turn_id", Uuid, nullable=False),  # that was too long without it
    Column("kind", Text, nullable=False),
    Column("up_to_seq", BigInteger, nullable=False),  # the last turn that is left out
    Column("turns", BigInteger, nullable=False),  # so many are, those of before included
    Column(  # what stands for them: parts, as of a message; NULL: nothing does
        "summary",
        SealedJson("compactions", "summary", row=("session_id", "n"), user="session_id"),
    ),
    Column("input_tokens", BigInteger),  # that the summary took; in its attempt's sum, too
    Column("output_tokens", BigInteger),
    Column("cost_usd", Dollars()),
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    PrimaryKeyConstraint("session_id", "n"),
    one_of("kind", CompactionKind),
)

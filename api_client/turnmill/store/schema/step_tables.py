"""The table of what models wanted to be done: the receipts of tool calls."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    false,
    text,
)

from turnmill.domain.states import WAITING_CALLS, Effects, ToolCallState
from turnmill.store.schema.bounds import one_of
from turnmill.store.schema.hook_tables import metadata as metadata  # whole with these only
from turnmill.store.schema.metadata import sql_list
from turnmill.store.sealed_types import SealedJson
from turnmill.store.types import Timestamp, Word, db_now

WAITING_CALL_SQL = f"state IN {sql_list(frozenset(WAITING_CALLS))}"

# One row for each call of a tool that a model has made in a turn. What it was called with stands in
# the turn's messages, and what came of it in the message at `position`; here is what became of it.
tool_calls = Table(
    "tool_calls",
    metadata,
    Column("turn_id", Uuid, ForeignKey("turns.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),  # of the message that its output is or will be
    Column("session_id", Uuid, nullable=False),
    Column("step", Integer, nullable=False),  # whose reply made the call
    Column("call_id", Text, nullable=False),  # the vendor's name of it
    Column("tool", Text, nullable=False),
    Column("effects", Text, nullable=False),
    Column("state", Word, nullable=False),
    Column("approval", Boolean, nullable=False, server_default=false()),  # somebody has to agree
    Column("runs", Integer, nullable=False, server_default="0"),
    Column("fence", BigInteger),  # under which it was last run
    Column("error_code", Text),
    Column(  # who refused it, in his words
        "decision",
        SealedJson("tool_calls", "decision", row=("turn_id", "position"), user="session_id"),
    ),
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    Column("started_at", Timestamp),  # before the last run began: from here on it may have happened
    Column("ended_at", Timestamp),
    Column("expires_at", Timestamp),  # nobody waits for its output, or its approval, any longer
    Column("made_in", Uuid),  # another turn, which was retried as this one; NULL: in this one
    PrimaryKeyConstraint("turn_id", "position"),
    one_of("state", ToolCallState),
    one_of("effects", Effects),
)
Index(
    "ix_tool_calls_waiting",
    tool_calls.c.session_id,
    tool_calls.c.turn_id,
    postgresql_where=text(WAITING_CALL_SQL),
    sqlite_where=text(WAITING_CALL_SQL),
)

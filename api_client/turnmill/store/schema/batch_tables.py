"""The tables of what a batch is made of: its lines, how far they are, and a vendor's shards."""

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    and_,
    literal_column,
    text,
)

from turnmill.domain.states import FOR_BATCH
from turnmill.store.dollars import Dollars
from turnmill.store.schema.house_tables import metadata as metadata  # whole with these only
from turnmill.store.schema.tables import UNFINISHED_SQL, batches, turns
from turnmill.store.sealed_types import SealedJson
from turnmill.store.types import Json, Timestamp, Word, db_now

#: Of lines: whoever wrote them, it is their users'.
CONTENT = SealedJson("batch_lines", "content", row=("batch_id", "line"), user="user_id")


def _of_batch() -> Column[object]:
    return Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE"), nullable=False)


# A line of the file, until the batch is purged. Turns are made of lines in their order, after the
# batch was sealed; whoever does holds the batch's row.
batch_lines = Table(
    "batch_lines",
    metadata,
    _of_batch(),
    Column("line", BigInteger, nullable=False),  # its number in the file, from 1
    Column("custom_id", Text),
    Column("user_id", Text),  # whose it is
    Column("session", Text),  # id of the one that it goes on with; NULL: it has one of its own
    Column("content", CONTENT),  # all that it says, checked; NULL as soon as it was fed
    Column("metadata", Json),  # of its turns, for budgets to go by; NULL: none, or it was fed
    Column("key", LargeBinary),  # what an equal line has too; NULL: nobody asked for reuse
    Column("state", SmallInteger, nullable=False, server_default="0"),
    Column("wave", SmallInteger, nullable=False, server_default="0"),  # user turns that are done
    Column("turn_id", Uuid),  # whose ending is the line's; NULL: not fed yet
    Column("reused_from", Uuid),  # the turn whose answer it has
    Column("error_code", Text),  # why it came to no turn
    Column("weight", Integer, nullable=False, server_default="0"),  # tokens that go in, estimated
    Column("bound_usd", Dollars()),  # what it may cost at the most; NULL: nobody knows
    PrimaryKeyConstraint("batch_id", "line"),
)
_FED = text("turn_id IS NOT NULL")
Index("ix_batch_lines_turn_id", batch_lines.c.turn_id, postgresql_where=_FED, sqlite_where=_FED)
_REUSED = text("reused_from IS NOT NULL")
Index(
    "ix_batch_lines_reused_from",
    batch_lines.c.reused_from,
    postgresql_where=_REUSED,
    sqlite_where=_REUSED,
)
_WAITING = text("session IS NOT NULL AND turn_id IS NULL")
Index(
    "ix_batch_lines_session",
    batch_lines.c.session,
    postgresql_where=_WAITING,
    sqlite_where=_WAITING,
)
_KEYED = text("key IS NOT NULL")
Index("ix_batch_lines_key", batch_lines.c.key, postgresql_where=_KEYED, sqlite_where=_KEYED)

# Counts, and sums of what ended. In parts, so that workers do not wait for each other: one of them
# may be below 0, their sums are not.
batch_tallies = Table(
    "batch_tallies",
    metadata,
    _of_batch(),
    Column("part", SmallInteger, nullable=False),
    Column("state", Word, nullable=False),
    Column("error_code", Text, nullable=False, server_default=""),  # "": it ended without one
    Column("n", BigInteger, nullable=False, server_default="0"),
    Column("cost_usd", Dollars(), nullable=False, server_default="0"),
    Column("unpriced", BigInteger, nullable=False, server_default="0"),  # whose cost is not known
    Column("input_tokens", BigInteger, nullable=False, server_default="0"),
    Column("output_tokens", BigInteger, nullable=False, server_default="0"),
    Column("last_at", Timestamp, nullable=False, server_default=db_now()),  # it was counted up
    PrimaryKeyConstraint("batch_id", "part", "state", "error_code"),
    # Rows are changed all the time: they are to stay on their pages.
    postgresql_with={"fillfactor": "50"},
)

_IN_BATCH = text(f"waits_for = '{FOR_BATCH}'")
Index(
    "ix_turns_in_batch",
    turns.c.batch_id,
    turns.c.native_ref,
    turns.c.id,
    postgresql_where=_IN_BATCH,
    sqlite_where=_IN_BATCH,
)
_OPEN = text(f"batch_id IS NOT NULL AND {UNFINISHED_SQL}")
# With the line, of which each is counted once: rows need not be read for it, and of those that wait
# at a vendor there are as many as he takes.
Index(
    "ix_turns_batch_lines",
    turns.c.batch_id,
    turns.c.state,
    turns.c.batch_line,
    postgresql_where=_OPEN,
    sqlite_where=_OPEN,
)
_BEGUN = text("ended_at IS NULL AND state <> 'submitting'")
Index("ix_batches_begun", batches.c.id, postgresql_where=_BEGUN, sqlite_where=_BEGUN)


# Where somebody wants to hear of ends, these are few; where nobody does, nobody looks for them.
_UNTOLD = text("told_at IS NULL AND ended_at IS NOT NULL")
Index("ix_batches_untold", batches.c.id, postgresql_where=_UNTOLD, sqlite_where=_UNTOLD)


def to_be_tended() -> ColumnElement[bool]:
    """Return which batches have begun, and have not ended yet: they have an index of their own."""
    begun: ColumnElement[str] = literal_column("'submitting'")
    return and_(batches.c.ended_at.is_(None), batches.c.state != begun)


# Turns of lines that have several, but for their last ones.
_EARLIER = text("batch_id IS NOT NULL AND batch_line IS NULL")
Index("ix_turns_batch_earlier", turns.c.batch_id, postgresql_where=_EARLIER, sqlite_where=_EARLIER)
_FAILED = text("batch_id IS NOT NULL AND state IN ('dead', 'failed')")
Index(
    "ix_turns_batch_failed",
    turns.c.batch_id,
    turns.c.finished_at,
    postgresql_where=_FAILED,
    sqlite_where=_FAILED,
)

# What equal lines of an owner are found by is hashed with this: nobody else can tell by it.
reuse_keys = Table(
    "reuse_keys",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("key", LargeBinary, nullable=False),
)

# One batch of a vendor's: lines of one model, within all that the vendor allows of them.
batch_shards = Table(
    "batch_shards",
    metadata,
    Column("id", Uuid, primary_key=True),
    _of_batch(),
    Column("n", Integer, nullable=False),  # 1, 2, …
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("state", Word, nullable=False),
    Column("lines", BigInteger, nullable=False, server_default="0"),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("tokens", BigInteger, nullable=False, server_default="0"),
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    Column("bound_usd", Dollars()),  # what it may cost at the most; NULL: nobody asked
    Column("endpoint", Text, nullable=False, server_default=""),  # what each line is made of
    Column("due_at", Timestamp),  # when somebody is to see to it; NULL: nothing is left to do
    Column("fence", BigInteger, nullable=False, server_default="0"),  # of whoever sees to it
    Column("tries", Integer, nullable=False, server_default="0"),  # in a row that came to nothing
    Column("stored", Text, nullable=False, server_default=""),  # the vendor's name of its input
    Column("ref", Text, nullable=False, server_default=""),  # the vendor's own name of it
    Column("status", Text, nullable=False, server_default=""),  # in the vendor's word
    Column("outputs", Json, nullable=False, server_default=text("'[]'")),  # the vendor's files
    Column("error_code", Text),
    Column("asked_at", Timestamp),  # since when the vendor may know of it
    Column("begun_at", Timestamp),  # since when it does
    Column("ended_at", Timestamp),
    UniqueConstraint("batch_id", "n"),
)
_OPEN = text("due_at IS NOT NULL")
Index(
    "ix_batch_shards_due_at",
    batch_shards.c.due_at,
    postgresql_where=_OPEN,
    sqlite_where=_OPEN,
)

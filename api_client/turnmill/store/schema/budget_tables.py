"""The tables of budgets, and of what is reserved from them and charged to them."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from turnmill.domain.budgets import OnExceeded, Period, Scope
from turnmill.store.dollars import Dollars
from turnmill.store.schema.bounds import one_of
from turnmill.store.schema.limit_tables import metadata as metadata  # whole with these only
from turnmill.store.types import Json, Timestamp, db_now

# The sums are of the period that the row stands at. Whoever changes them locks the row last, after
# sessions and turns, and several of them in the order of their ids.
budgets = Table(
    "budgets",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("name", Text, nullable=False, server_default=""),  # of the user, session or tag
    Column("value", Text, nullable=False, server_default=""),  # of the tag
    Column("period", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("limit_usd", Dollars(), nullable=False),
    Column("on_exceeded", Text, nullable=False),
    Column("warn_at", Json, nullable=False),  # shares of the limit, rising
    Column("n", BigInteger, nullable=False, server_default="1"),  # of the period: 1, 2, …
    Column("starts_at", Timestamp, nullable=False, server_default=db_now()),
    Column("ends_at", Timestamp),  # NULL: never
    Column("spent_usd", Dollars(), nullable=False, server_default="0"),
    Column("reserved_usd", Dollars(), nullable=False, server_default="0"),
    Column("estimated_usd", Dollars(), nullable=False, server_default="0"),  # of the spent
    Column("forgotten_usd", Dollars(), nullable=False, server_default="0"),  # without rows
    Column("told", Float, nullable=False, server_default="0"),  # the last share that was told of
    Column("tell_usd", Dollars()),  # spent from which on there is something to tell; NULL: no
    # Till then, who waits for it is to look again; and as long as there is something to tell of it.
    Column("wake_until", Timestamp),
    Column("last_turn_id", Uuid),  # that was charged
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    Column("updated_at", Timestamp, nullable=False, server_default=db_now()),
    UniqueConstraint("scope", "name", "value", "period"),
    one_of("scope", Scope),
    one_of("period", Period),
    one_of("on_exceeded", OnExceeded),
    CheckConstraint("limit_usd >= 0", name="limit_is_money"),
    # A row is changed with every group of calls: it is to stay on its page.
    postgresql_with={"fillfactor": "50"},
)

# Those that somebody has to look at: of all others a look each second reads nothing.
_CHANGED = text("wake_until IS NOT NULL")
Index("ix_budgets_changed", budgets.c.id, postgresql_where=_CHANGED, sqlite_where=_CHANGED)

# What a claim of a turn has taken from a budget; its own limit is a budget under the turn's id. No
# foreign keys: it outlives the rows of the turn, until upkeep adds it to `forgotten_usd`. What a
# line holds that stands in a vendor's batch is under no claim yet: its fence is below 0.
charges = Table(
    "charges",
    metadata,
    Column("turn_id", Uuid, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("budget_id", Uuid, nullable=False),
    Column("period", BigInteger, nullable=False),  # `n` of the budget
    Column("reserved_usd", Dollars(), nullable=False),  # 0 as soon as the call has ended
    Column("charged_usd", Dollars(), nullable=False, server_default="0"),
    Column("estimated_usd", Dollars(), nullable=False, server_default="0"),  # of the charged
    Column("at", Timestamp, nullable=False, server_default=db_now()),
    Column("shard_id", Uuid),  # in which the turn is a line, as long as this is held for it
    PrimaryKeyConstraint("turn_id", "fence", "budget_id"),
    CheckConstraint("reserved_usd >= 0 AND charged_usd >= 0", name="money_is_positive"),
    postgresql_with={"fillfactor": "80"},
)
Index("ix_charges_at", charges.c.at, postgresql_using="brin")
# Its condition names no column that changes with a call: rows stay on their pages.
_HELD = text("shard_id IS NOT NULL")
Index("ix_charges_shard_id", charges.c.shard_id, postgresql_where=_HELD, sqlite_where=_HELD)

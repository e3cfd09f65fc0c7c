"""The tables of limits, of the permits that workers hold, and of accounts that are closed."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    text,
)

from turnmill.store.schema.compaction_tables import metadata as metadata  # whole with these only
from turnmill.store.types import Json, Timestamp, db_now

# What a provider may be asked. Workers move the times on, about once a second each.
limits = Table(
    "limits",
    metadata,
    Column("provider", Text, nullable=False),
    Column("account", Text, nullable=False),  # '': set by somebody; else learned, of this account
    Column("model", Text, nullable=False),  # '': all of them together
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", BigInteger),
    Column("concurrent", Integer),
    # Up to when requests and tokens are given away, in seconds since 1970 by the database's clock.
    Column("requests_until", Double, nullable=False, server_default="0"),
    Column("tokens_until", Double, nullable=False, server_default="0"),
    Column("places", Json, nullable=False, server_default=text("'{}'")),  # of those who wait
    Column("at", Timestamp, nullable=False, server_default=db_now()),
    PrimaryKeyConstraint("provider", "account", "model"),
    CheckConstraint("requests_per_minute > 0", name="requests_positive"),
    CheckConstraint("tokens_per_minute > 0", name="tokens_positive"),
    CheckConstraint("concurrent > 0", name="concurrent_positive"),
)

# How many calls at once each worker may have in flight; given back, or run out.
permits = Table(
    "permits",
    metadata,
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("held", Integer, nullable=False),
    Column("until", Timestamp, nullable=False),
    PrimaryKeyConstraint("provider", "model", "owner"),
    CheckConstraint("held > 0", name="held_positive"),
)

# Which models workers have prices of their own for: one row for each list of names, without what
# they cost. It is told of anew for as long as a worker has it.
price_lists = Table(
    "price_lists",
    metadata,
    Column("digest", Text, primary_key=True),  # of the names
    Column("models", Json, nullable=False),  # provider/model, in which * stands for anything
    Column("seen_at", Timestamp, nullable=False, server_default=db_now()),
)

# What nobody is to call for a while: the account of a key, or a model behind its breaker. A row
# stays when it is opened: it knows how often it was closed lately, and numbers its events.
accounts = Table(
    "accounts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("account", Text, nullable=False),  # of a hash of the key, never the key
    Column("model", Text, nullable=False),  # '': all of them
    Column("code", Text, nullable=False),  # why
    Column("permanent", Boolean, nullable=False, server_default=false()),
    Column("n", BigInteger, nullable=False, server_default="0"),  # of the closing; a fence
    Column("times", Integer, nullable=False, server_default="0"),  # in a row, for longer and longer
    Column("closed_at", Timestamp),  # NULL: it is open
    Column("closed_until", Timestamp),  # one call may try it from then on
    Column("probe_owner", Text),
    Column("probe_until", Timestamp),  # nobody else may try it
    Column("opened_at", Timestamp),
    Column("turn_id", Uuid),  # that was refused
    Column("events", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("kind", "provider", "account", "model"),
    CheckConstraint("kind IN ('account', 'breaker')", name="kind_known"),
    CheckConstraint("closed_at IS NULL OR closed_until IS NOT NULL", name="closed_has_end"),
    CheckConstraint("(probe_owner IS NULL) = (probe_until IS NULL)", name="probe_is_leased"),
)

"""The tables of wrapped data keys: here, or better in a database of their own."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from turnmill.store.schema.batch_tables import metadata as metadata  # whole with these only
from turnmill.store.types import Json, Timestamp, db_now

# A row that is gone makes all that its key has sealed unreadable. Never updated but to be wrapped
# by another master key.
data_keys = Table(
    "data_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),  # empty: the house's own
    Column("scope", Text, nullable=False),  # the caller's own key; empty: a master key wraps it
    Column("version", Integer, nullable=False),
    Column("wrapped_by", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    UniqueConstraint("user_id", "scope", "version"),
)
Index("ix_data_keys_wrapped_by", data_keys.c.wrapped_by)

# What was erased, told to a backup that is restored and knows nothing of it.
erasure_notes = Table(
    "erasure_notes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("at", Timestamp, nullable=False, server_default=db_now()),
)

# How far content has been sealed that was plain, or was sealed by a key of before.
resealing = Table(
    "resealing",
    metadata,
    Column("name", Text, primary_key=True),  # of the column, as table.column
    Column("after", Json),  # the primary key of the last row that was looked at
    Column("looked_at", BigInteger, nullable=False, server_default="0"),
    Column("sealed", BigInteger, nullable=False, server_default="0"),
    Column("since", Timestamp, nullable=False, server_default=db_now()),
    Column("done_at", Timestamp),  # NULL: not all of them were looked at
)

"""The table of what was used, day by day."""

from sqlalchemy import BigInteger, Column, Date, Numeric, PrimaryKeyConstraint, Table, Text

from turnmill.store.schema.event_tables import metadata as metadata  # whole with these only
from turnmill.store.types import Timestamp, db_now

usage_daily = Table(
    "usage_daily",
    metadata,
    Column("day", Date, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("turns", BigInteger, nullable=False),
    Column("succeeded", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("dead", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
    Column("expired", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("retries", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cost_usd", Numeric(20, 10), nullable=False),
    Column("unpriced_attempts", BigInteger, nullable=False),
    Column("rolled_up_at", Timestamp, nullable=False, server_default=db_now()),
    PrimaryKeyConstraint("day", "provider", "model"),
)

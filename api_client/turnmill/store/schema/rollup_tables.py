"""The tables of figures: what turns came to, quarter of an hour by quarter of an hour."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY

from turnmill.store.dollars import Dollars
from turnmill.store.schema.erasure_tables import metadata as metadata  # whole with these only
from turnmill.store.types import Json, Timestamp, db_now

#: What figures are told apart by, beside the slot in which their turns ended.
DIMENSIONS = ("provider", "model", "tier", "lane", "tag")
#: What adds up.
COUNTS = (
    *("turns", "succeeded", "failed", "dead", "cancelled", "expired"),
    *("attempts", "retries", "steps"),
    *("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens"),
    "unpriced_attempts",
)
DOLLARS = ("cost_usd", "waste_usd")
FIGURES = (*COUNTS, *DOLLARS)
#: Times that are kept as sketches: numbers of buckets, and how many are in each.
LATENCIES = ("queued", "first_token", "provider", "total")

_OF_DAYS = (
    *("turns", "succeeded", "failed", "dead", "cancelled", "expired", "attempts", "retries"),
    *("input_tokens", "output_tokens", "cached_tokens"),
)

_NUMBERS = JSON().with_variant(ARRAY(SmallInteger), "postgresql")
_MANY = JSON().with_variant(ARRAY(Integer), "postgresql")


def buckets_of(latency: str) -> tuple[str, str]:
    """Return the columns of a sketch: which buckets have any, and how many these have."""
    return f"{latency}_buckets", f"{latency}_counts"


SKETCHES = tuple(name for latency in LATENCIES for name in buckets_of(latency))
#: All that a line says of its slot and dimensions.
SAID = (*FIGURES, *SKETCHES)


def _line() -> Iterator[Column[Any]]:
    yield Column("slot", Timestamp, nullable=False)
    for name in DIMENSIONS:
        yield Column(name, Text, nullable=False)
    for name in COUNTS:
        yield Column(name, BigInteger, nullable=False)
    for name in DOLLARS:
        yield Column(name, Dollars(), nullable=False)
    for latency in LATENCIES:
        buckets, counts = buckets_of(latency)
        yield Column(buckets, _NUMBERS, nullable=False)
        yield Column(counts, _MANY, nullable=False)


# What turns came to that ended in a slot: those whose rows there are, and those that are gone.
rollups = Table("rollups", metadata, *_line(), PrimaryKeyConstraint("slot", *DIMENSIONS))

# The same of UTC days that are over; made of their slots, and again when one of these changes.
rollup_days = Table("rollup_days", metadata, *_line(), PrimaryKeyConstraint("slot", *DIMENSIONS))

# What of it rows came to that are gone: written as they go, so that a slot can be added up again.
rollups_gone = Table("rollups_gone", metadata, Column("id", Uuid, primary_key=True), *_line())
Index("ix_rollups_gone_slot", rollups_gone.c.slot)

# What calls have used and cost, as vendors put it on a bill, of turns whose rows are gone: written
# as these go, or as what they have asked for comes back. In it nobody is named.
spent_gone = Table(
    "spent_gone",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("day", Date, nullable=False),  # in UTC, on which the calls ended
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),  # that answered
    Column("tier", Text, nullable=False),
    *(
        Column(name, BigInteger, nullable=False)
        for name in ("calls", "input_tokens", "cached_tokens", "output_tokens")
    ),
    Column("cost_usd", Dollars(), nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    Column("estimated", BigInteger, nullable=False),
)
Index("ix_spent_gone_day", spent_gone.c.day)

# Calls that were under way when the rows of their turns went, and lines that a vendor has begun
# once more: what comes back of one is paid for, and is booked by what stands here, once. No foreign
# keys, no content, nobody's name.
calls_gone = Table(
    "calls_gone",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),  # a call, work in the background, a line of a shard
    Column("turn_id", Uuid, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("shard_id", Uuid),  # of a line
    Column("batch_id", Uuid),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),  # that was asked for
    Column("lane", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("budget_ids", Json, nullable=False),  # of a line, for which nothing is reserved
    Column("gone_at", Timestamp, nullable=False, server_default=db_now()),
)
Index("ix_calls_gone_turn_id", calls_gone.c.turn_id)
Index("ix_calls_gone_shard_id", calls_gone.c.shard_id)
Index("ix_calls_gone_gone_at", calls_gone.c.gone_at)

# Slots that are to be added up again: what had ended there has changed.
rollup_marks = Table(
    "rollup_marks",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("slot", Timestamp, nullable=False),
)

# How far events are folded in. Whoever folds holds this row until that is committed.
rollup_state = Table(
    "rollup_state",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("place", BigInteger, nullable=False),  # of the last event that is in the figures
    Column("first_slot", Timestamp),  # earlier ones are sums of days; NULL: there are none
    Column("days_until", Timestamp),  # days before it stand in `rollup_days`; NULL: none do yet
    Column("tag", Text, nullable=False),  # the key of sessions' metadata; "": no tags
    Column("folded_at", Timestamp, nullable=False, server_default=db_now()),
    Column("folded_until", Timestamp),  # all that ended by then is in; NULL: not so far yet
    CheckConstraint("id = 1", name="one_row"),
)

# Figures of days, that code of before writes on while it is at work beside this one. Nobody reads
# them any more. To drop them is a `post` migration, the last one of its version: any
# `pre` after it would have it run while that code is still there, and fail to remove sessions.
usage_daily, usage_gone = (
    Table(
        name,
        metadata,
        Column("day", Date, nullable=False),
        Column("provider", Text, nullable=False),
        Column("model", Text, nullable=False),
        *(Column(figure, BigInteger, nullable=False) for figure in _OF_DAYS),
        Column("cost_usd", Dollars(), nullable=False),
        Column("unpriced_attempts", BigInteger, nullable=False),
        *rolled_up,
        PrimaryKeyConstraint("day", "provider", "model"),
    )
    for name, rolled_up in (
        (
            "usage_daily",
            [Column("rolled_up_at", Timestamp, nullable=False, server_default=db_now())],
        ),
        ("usage_gone", []),
    )
)

"""Figures are kept by quarters of an hour, and folded in with events."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from turnmill.store.types import Timestamp, db_now

revision = "0036"
down_revision = "0035"
phase = "pre"
serves = "0007"

_DIMENSIONS = ("provider", "model", "tier", "lane", "tag")
_COUNTS = (
    *("turns", "succeeded", "failed", "dead", "cancelled", "expired", "attempts", "retries"),
    *("steps", "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens"),
    "unpriced_attempts",
)
_DOLLARS = ("cost_usd", "waste_usd")
_LATENCIES = ("queued", "first_token", "provider", "total")
_NUMBERS = sa.JSON().with_variant(postgresql.ARRAY(sa.SmallInteger()), "postgresql")
_MANY = sa.JSON().with_variant(postgresql.ARRAY(sa.Integer()), "postgresql")

#: What figures of days said, and what they did not say.
_KNOWN = (
    *("turns", "succeeded", "failed", "dead", "cancelled", "expired", "attempts", "retries"),
    *("input_tokens", "output_tokens", "cached_tokens", "cost_usd", "unpriced_attempts"),
)
_UNKNOWN = ("steps", "cache_write_tokens", "waste_usd")
_TIMES = tuple(f"{name}_{what}" for name in _LATENCIES for what in ("buckets", "counts"))


def upgrade() -> None:
    """Apply; code of before writes its figures of days on, which nobody reads any more.

    Days before yesterday become the figures of their first quarter of an hour. What came after is
    added up from rows, and from what was kept of those that are gone. What code of before deletes
    takes its figures along.
    """
    op.create_table("rollups", *_line(), sa.PrimaryKeyConstraint("slot", *_DIMENSIONS))
    op.create_table("rollup_days", *_line(), sa.PrimaryKeyConstraint("slot", *_DIMENSIONS))
    op.create_table(
        "rollups_gone",
        sa.Column("id", sa.Uuid(), nullable=False),
        *_line(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_rollups_gone_slot", "rollups_gone", ["slot"])
    op.create_table(
        "rollup_marks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("slot", Timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "rollup_state",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("first_slot", Timestamp(), nullable=True),
        sa.Column("days_until", Timestamp(), nullable=True),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("folded_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("folded_until", Timestamp(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("id = 1", name=op.f("ck_rollup_state_one_row")),
    )
    _bring_days()


def downgrade() -> None:
    """Undo; figures of before stand as they stood."""
    for table in ("rollup_state", "rollup_marks", "rollups_gone", "rollup_days", "rollups"):
        op.drop_table(table)


def _line() -> list[sa.Column[Any]]:
    return [
        sa.Column("slot", Timestamp(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in _DIMENSIONS),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        *(sa.Column(name, sa.Numeric(20, 10), nullable=False) for name in _DOLLARS),
        *(
            sa.Column(f"{name}_{what}", kind, nullable=False)
            for name in _LATENCIES
            for what, kind in (("buckets", _NUMBERS), ("counts", _MANY))
        ),
    ]


def _bring_days() -> None:
    on_postgres = op.get_bind().dialect.name == "postgresql"
    if on_postgres:
        yesterday, slot = (
            "((now() AT TIME ZONE 'UTC')::date - 1)",
            "{}::timestamp AT TIME ZONE 'UTC'",
        )
        nothing, new_id = "'{}'", "gen_random_uuid()"
    else:
        yesterday, slot = "date('now', '-1 day')", "{} || ' 00:00:00.000000'"
        nothing, new_id = "'[]'", "lower(hex(randomblob(16)))"
    columns = ", ".join(("slot", *_DIMENSIONS, *_KNOWN, *_UNKNOWN, *_TIMES))
    said = (slot.format("day"), "provider", "model", "''", "''", "''", *_KNOWN)
    values = ", ".join((*said, *("0",) * len(_UNKNOWN), *(nothing,) * len(_TIMES)))
    op.execute(
        f"INSERT INTO rollups ({columns}) SELECT {values} FROM usage_daily WHERE day < {yesterday}"
    )
    op.execute(
        f"INSERT INTO rollups_gone (id, {columns}) SELECT {new_id}, {values} FROM usage_gone"
        f" WHERE day >= {yesterday}"
    )
    # Where there were figures of days, what is before yesterday is not added up again.
    op.execute(
        "INSERT INTO rollup_state (id, place, first_slot, tag)"
        f" SELECT 1, -1, {slot.format(yesterday)}, ''"
        " WHERE EXISTS (SELECT 1 FROM usage_daily) OR EXISTS (SELECT 1 FROM usage_gone)"
    )

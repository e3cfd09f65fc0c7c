"""Views of figures, for people with a dashboard of their own."""

from alembic import op

revision = "0044"
down_revision = "0043"
phase = "pre"
serves = "0007"

_KEYS = "provider, model, tier, lane, tag"
_COUNTS = (
    *("turns", "succeeded", "failed", "dead", "cancelled", "expired", "attempts", "retries"),
    *("steps", "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens"),
    "unpriced_attempts",
)
_DOLLARS = ("cost_usd", "waste_usd")
_FIGURES = ", ".join((*_COUNTS, *_DOLLARS))
_SUMS = ", ".join(
    (
        *(f"sum({name})::bigint AS {name}" for name in _COUNTS),
        *(f"sum({name})::numeric(20, 10) AS {name}" for name in _DOLLARS),
    )
)
_LATENCIES = ("queued", "first_token", "provider", "total")
#: The time that a bucket stands for: each is two percent wider than the last.
_MS = (
    "2 * exp(each.bucket * 0.020000666706669435::double precision)"
    " / (1.02020202020202::double precision + 1)"
)
#: Days before it stand in a table of their own. Asked for by itself it is read once.
_MADE = "(SELECT coalesce(max(days_until), '-infinity') FROM rollup_state)"


def _spread(table: str, *, time: str, where: str = "true") -> str:
    """Return a SELECT of a row for each bucket of each latency of a table's lines."""
    return " UNION ALL ".join(
        f"SELECT {time}, {_KEYS}, '{name}'::text AS latency, {_MS} AS ms, each.n::bigint AS n"
        f" FROM {table}, unnest({name}_buckets, {name}_counts) AS each (bucket, n) WHERE {where}"
        for name in _LATENCIES
    )


_OF_DAY = "date_trunc('day', slot, 'UTC') AS day"
_VIEWS = {
    "v_usage": f"SELECT slot, {_KEYS}, {_FIGURES} FROM rollups",
    "v_usage_days": (
        f"SELECT slot AS day, {_KEYS}, {_FIGURES} FROM rollup_days WHERE slot < {_MADE}"
        f" UNION ALL SELECT {_OF_DAY}, {_KEYS}, {_SUMS} FROM rollups WHERE slot >= {_MADE}"
        f" GROUP BY 1, {_KEYS}"
    ),
    "v_latency": _spread("rollups", time="slot"),
    "v_latency_days": (
        f"{_spread('rollup_days', time='slot AS day', where=f'slot < {_MADE}')}"
        f" UNION ALL {_spread('rollups', time=_OF_DAY, where=f'slot >= {_MADE}')}"
    ),
    "v_alerts": (
        "SELECT id, rule, subject, value, worst, usual, bound, opened_at, seen_at, closed_at"
        " FROM alerts"
    ),
    "v_folded": "SELECT folded_until, folded_at, days_until, tag AS tag_key FROM rollup_state",
}


def upgrade() -> None:
    """Apply; code of before knows nothing of them, and SQLite has none.

    Whoever changes the type of a column that they show drops them before, and makes them again.
    """
    if op.get_bind().dialect.name == "postgresql":
        for name, said in _VIEWS.items():
            op.execute(f"CREATE VIEW {name} AS {said}")


def downgrade() -> None:
    """Undo; the figures themselves stay."""
    if op.get_bind().dialect.name == "postgresql":
        for name in _VIEWS:
            op.execute(f"DROP VIEW {name}")

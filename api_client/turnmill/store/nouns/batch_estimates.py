"""What is known here of models before a batch is submitted: how long replies are, and limits."""

from datetime import UTC, datetime, time, timedelta

from sqlalchemy import Connection, func, select

from turnmill.store.nouns.limits import SET
from turnmill.store.schema.limit_tables import limits
from turnmill.store.schema.rollup_tables import rollups

_LOOKED_BACK = timedelta(days=30)
#: Of fewer replies nobody can tell how long they are.
_FEWEST = 20


def typical_replies(conn: Connection) -> dict[tuple[str, str], int]:
    """Return, by provider and model, how many tokens a reply of the last month has had."""
    first = datetime.now(UTC).date() - _LOOKED_BACK
    since = datetime.combine(first, time.min, tzinfo=UTC)
    rows = conn.execute(
        select(
            rollups.c.provider,
            rollups.c.model,
            func.sum(rollups.c.output_tokens),
            func.sum(rollups.c.succeeded),
        )
        .where(rollups.c.slot >= since)
        .group_by(rollups.c.provider, rollups.c.model)
    )
    return {
        (provider, model): round(said / count)
        for provider, model, said, count in rows
        if count >= _FEWEST
    }


def rates(conn: Connection) -> dict[tuple[str, str], tuple[int | None, int | None]]:
    """Return requests and tokens a minute, by provider and model; "" stands for all models.

    What was set goes before what a vendor has said of an account.
    """
    rows = conn.execute(
        select(
            limits.c.provider,
            limits.c.model,
            limits.c.account,
            limits.c.requests_per_minute,
            limits.c.tokens_per_minute,
        )
    ).all()
    ordered = sorted(rows, key=lambda row: row.account == SET)
    return {
        (row.provider, row.model): (row.requests_per_minute, row.tokens_per_minute)
        for row in ordered
    }

"""Estimates of what a cut call has used: withdrawn where what it came to is known after all."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from turnmill.domain.states import TurnState
from turnmill.store.line.head import lock_sessions
from turnmill.store.records import Settlement
from turnmill.store.schema.named_turns import still_in
from turnmill.store.schema.tables import attempts, sessions, turns

_TOKENS = ("input_tokens", "output_tokens", "cached_tokens")
_NOTHING: dict[str, Any] = {
    **dict.fromkeys((*_TOKENS, "cache_write_tokens", "cache_write_1h_tokens"), 0),
    **dict.fromkeys(("usage", "service_tier", "priced_by", "cost_usd")),
    "estimated": False,
}


def withdraw_estimates(conn: Connection, settlements: Sequence[Settlement]) -> None:
    """Take back what was booked for the calls that these verdicts tell the truth about.

    In the transaction that writes the verdicts. A second time changes nothing, and neither does
    one who no longer holds the turn.
    """
    lock_sessions(conn, [one.session_id for one in settlements])
    for one in settlements:
        _withdraw(conn, one)


def _withdraw(conn: Connection, settlement: Settlement) -> None:
    mine = (
        turns.c.id == settlement.turn_id,
        still_in(TurnState.RUNNING),
        turns.c.lease_fence == settlement.fence,
    )
    tried = conn.execute(
        select(attempts)
        .join(turns, turns.c.id == attempts.c.turn_id)
        .where(*mine)
        .order_by(attempts.c.fence)
    ).all()
    cut = next((one for one in reversed(tried) if one.kind == "send"), None)
    if cut is None or not cut.estimated:
        return
    conn.execute(
        update(attempts)
        .where(attempts.c.turn_id == cut.turn_id, attempts.c.fence == cut.fence)
        .values(**_NOTHING)
    )
    others = [one for one in tried if one is not cut]
    conn.execute(update(turns).where(*mine).values(_sums(others)))
    conn.execute(update(sessions).where(sessions.c.id == settlement.session_id).values(_less(cut)))


def _sums(tried: Sequence[Any]) -> dict[str, Any]:
    """Return what attempts have used, of which an unknown part makes an unknown sum; and cost."""
    sums: dict[str, Any] = {}
    for name in _TOKENS:
        counts = [getattr(one, name) for one in tried]
        sums[name] = None if None in counts else sum(counts)
    costs = [one.cost_usd for one in tried if one.cost_usd is not None]
    return {**sums, "cost_usd": sum(costs) if costs else None}


def _less(cut: Any) -> dict[str, Any]:
    """Return the session's sums without this call, as they were added to."""
    less: dict[str, Any] = {
        name: sessions.c[name] - (getattr(cut, name) or 0)
        for name in ("input_tokens", "output_tokens")
    }
    if cut.cost_usd is None:
        return {**less, "unpriced_attempts": sessions.c.unpriced_attempts - 1}
    return {**less, "cost_usd": sessions.c.cost_usd - cut.cost_usd}

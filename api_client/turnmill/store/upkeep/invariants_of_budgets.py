"""What is promised of budgets: what is reserved comes back, and sums are those of their charges."""

from turnmill.domain.budgets import Period
from turnmill.store.upkeep.invariant import Invariant

# Amounts have ten digits after the point; SQLite's arithmetic has an end behind them.
_LEAST = "0.0000000001"

OF_BUDGETS = (
    Invariant(
        name="reservation_has_its_claim",
        promise="Money is reserved only for a turn that runs, under its claim, or is in a shard.",
        broken="""
            SELECT t.session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            JOIN turnmill.charges c ON c.turn_id = t.id
            WHERE {sessions} AND c.reserved_usd > 0
                AND (c.shard_id IS NOT NULL OR t.state <> 'running' OR t.lease_fence <> c.fence)
                AND NOT EXISTS (
                    SELECT 1 FROM turnmill.batch_shards b
                    WHERE b.id = c.shard_id AND b.state NOT IN ('taken', 'done'))
        """,
    ),
    Invariant(
        name="budget_is_the_sum_of_its_charges",
        promise="What a budget has spent and reserved in its period is the sum of its charges.",
        broken=f"""
            SELECT s.id AS session_id, t.id AS turn_id
            FROM turnmill.budgets b JOIN turnmill.turns t ON t.id = b.last_turn_id
            JOIN turnmill.sessions s ON s.id = t.session_id
            LEFT JOIN (
                SELECT c.budget_id, c.period, sum(c.charged_usd) AS charged,
                    sum(c.reserved_usd) AS reserved, sum(c.estimated_usd) AS estimated
                FROM turnmill.charges c GROUP BY c.budget_id, c.period
            ) AS x ON x.budget_id = b.id AND x.period = b.n
            WHERE {{sessions}} AND b.period <> '{Period.TURN}' AND (
                abs(b.spent_usd - b.forgotten_usd - COALESCE(x.charged, 0)) > {_LEAST}
                OR abs(b.reserved_usd - COALESCE(x.reserved, 0)) > {_LEAST}
                OR abs(b.estimated_usd - COALESCE(x.estimated, 0)) > {_LEAST})
        """,
    ),
    Invariant(
        name="estimates_are_charged",
        promise="What is marked as an estimate is a part of what was charged.",
        broken=f"""
            SELECT t.session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            JOIN turnmill.charges c ON c.turn_id = t.id
            WHERE {{sessions}} AND (
                c.estimated_usd < 0 OR c.estimated_usd - c.charged_usd > {_LEAST})
        """,
    ),
)

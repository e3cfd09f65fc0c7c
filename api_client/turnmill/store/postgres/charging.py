"""Money on Postgres: a group of reservations in one statement, and what a verdict makes of them."""

from collections.abc import Sequence

from sqlalchemy import Connection, column, table

from turnmill.domain.budgets import OnExceeded, Period
from turnmill.store.budget_records import Ask, Bound, Found, Reserved, judged
from turnmill.store.postgres.rendering import sets
from turnmill.store.rules.charging import OF_CHARGE
from turnmill.store.rules.settling import FIELDS
from turnmill.store.schema.budget_tables import charges
from turnmill.store.schema.tables import STILL_RUNNING
from turnmill.store.schema_name import execute

# Whose claim it is says the turn's row, in its newest version, which is kept until the commit: who
# takes the turn from us later finds what was reserved. Budgets are locked after it, in the order of
# their ids, and read as they are then; what a trial asks is on no budget of its user. In a group,
# the calls that fit by themselves are lined up in each of their budgets; of those that do not fit
# in there any more, the next group tells. Its plan is made on a young store and kept: what it looks
# up by an index then (OFFSET 0, ANY) it does not read whole later, when there are many.
_RESERVE = f"""
WITH asked AS (
    SELECT * FROM unnest(%(turn_ids)s::uuid[], %(fences)s::bigint[], %(amounts)s::numeric[])
        WITH ORDINALITY AS asked (turn_id, fence, amount, n)
), held AS (
    SELECT asked.n, asked.amount, t.id AS turn_id, t.lease_fence AS fence, t.session_id, t.put_off,
        t.max_cost_usd, t.metadata, t.batch_id
    FROM asked JOIN turnmill.turns t ON t.id = asked.turn_id AND t.lease_fence = asked.fence
        AND {STILL_RUNNING}
    ORDER BY t.id FOR NO KEY UPDATE OF t
), matched AS (
    SELECT h.n, h.turn_id, h.fence, h.put_off, h.amount, b.id
    FROM held h JOIN turnmill.sessions s ON s.id = h.session_id CROSS JOIN LATERAL (
        VALUES ('all', '', ''), ('session', s.id::text, ''), ('user', CASE WHEN
            h.batch_id IS NULL OR NOT EXISTS (SELECT FROM turnmill.trials x
            WHERE x.batch_id = h.batch_id OR x.judge_batch_id = h.batch_id) THEN s.user_id END, ''),
            ('batch', h.batch_id::text, '')
        UNION ALL
        SELECT 'tag', tag, COALESCE(h.metadata->>tag, s.metadata->>tag)
        FROM unnest(%(tags)s::text[]) AS tag
    ) AS k (scope, name, value) CROSS JOIN LATERAL (
        SELECT b.id FROM turnmill.budgets b
        WHERE b.scope = k.scope AND b.name = k.name AND b.value = k.value OFFSET 0
    ) AS b
), budget AS (
    SELECT b.id, b.n, b.limit_usd, b.spent_usd, b.reserved_usd, b.on_exceeded, b.ends_at,
        b.period = '{Period.TURN}' AS of_turn
    FROM turnmill.budgets b WHERE b.id = ANY (ARRAY(SELECT id FROM matched))
    ORDER BY b.id FOR NO KEY UPDATE
), wanted AS (
    SELECT m.n, m.turn_id, m.fence, m.put_off, m.amount, b.id AS budget_id, b.n AS period,
        b.of_turn, b.ends_at, b.on_exceeded = '{OnExceeded.FAIL}' AS fails,
        CASE WHEN c.period = b.n THEN c.reserved_usd ELSE 0 END AS was,
        b.limit_usd - CASE WHEN b.of_turn THEN ({{spent}}) ELSE b.spent_usd END AS unspent,
        CASE WHEN b.of_turn THEN COALESCE(c.reserved_usd, 0) ELSE b.reserved_usd END AS reserved
    FROM matched m JOIN budget b ON b.id = m.id LEFT JOIN LATERAL ({{charge}}) c ON true
    UNION ALL
    SELECT h.n, h.turn_id, h.fence, h.put_off, h.amount, h.turn_id, 0, true, NULL, true,
        COALESCE(c.reserved_usd, 0), h.max_cost_usd - ({{own}}), COALESCE(c.reserved_usd, 0)
    FROM held h LEFT JOIN LATERAL ({{own_charge}}) c ON true
    WHERE h.max_cost_usd IS NOT NULL
), bound AS (
    SELECT *, amount - was AS more, GREATEST(unspent - reserved, 0) AS room,
        COALESCE(ends_at <= clock_timestamp(), false) AS over
    FROM wanted
), alone AS (
    SELECT *, bool_and(COALESCE(more <= room, false) AND NOT over) OVER (PARTITION BY n) AS fits
    FROM bound
), lined AS (
    SELECT *, fits AND (of_turn OR room >= sum(more) FILTER (WHERE fits) OVER (
        PARTITION BY budget_id ORDER BY n)) AS fits_behind
    FROM alone
), told AS (
    SELECT *, bool_and(fits_behind) OVER (PARTITION BY n) AS granted FROM lined
), noted AS (
    INSERT INTO turnmill.charges AS c (turn_id, fence, budget_id, period, reserved_usd)
    SELECT turn_id, fence, budget_id, period, amount FROM told WHERE granted
    ON CONFLICT (turn_id, fence, budget_id) DO UPDATE SET reserved_usd = excluded.reserved_usd,
        charged_usd = CASE WHEN c.period = excluded.period THEN c.charged_usd ELSE 0 END,
        estimated_usd = CASE WHEN c.period = excluded.period THEN c.estimated_usd ELSE 0 END,
        period = excluded.period
), taken AS (
    UPDATE turnmill.budgets b SET reserved_usd = b.reserved_usd + x.more
    FROM (
        SELECT budget_id, sum(more) AS more FROM told
        WHERE granted AND NOT of_turn GROUP BY budget_id
    ) AS x WHERE b.id = x.budget_id AND b.id = ANY (ARRAY(SELECT id FROM matched))
)
SELECT n, granted, budget_id, over, more > room, amount > unspent, fails,
    ends_at - clock_timestamp(), put_off
FROM told
UNION ALL
SELECT n, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM held
WHERE n NOT IN (SELECT n FROM told)
"""
_SPENT = """SELECT COALESCE(sum(o.charged_usd), 0) FROM turnmill.charges o
            WHERE o.turn_id = {0}.turn_id AND o.budget_id = {1}"""
_CHARGE = """SELECT o.reserved_usd, o.period FROM turnmill.charges o WHERE o.turn_id = {0}.turn_id
    AND o.fence = {0}.fence AND o.budget_id = {1} OFFSET 0"""
# In one line: the driver keeps how it reads a statement of up to 4,096 characters.
_RESERVE = " ".join(
    _RESERVE.format(
        spent=_SPENT.format("m", "b.id"),
        own=_SPENT.format("h", "h.turn_id"),
        charge=_CHARGE.format("m", "b.id"),
        own_charge=_CHARGE.format("h", "h.turn_id"),
    ).split()
)


def reserve(conn: Connection, asks: Sequence[Ask], *, tags: Sequence[str]) -> list[Reserved]:
    """Reserve what these calls may cost at the most, at most one of each turn."""
    parameters = {
        "turn_ids": [one.turn_id for one in asks],
        "fences": [one.fence for one in asks],
        "amounts": [one.amount_usd for one in asks],
        "tags": list(tags),
    }
    bounds: dict[int, list[Bound]] = {}
    granted: set[int] = set()
    for n, is_granted, *bound in execute(conn, _RESERVE, parameters):
        of_ask = bounds.setdefault(n, [])
        if bound[0] is not None:
            of_ask.append(Bound(*bound))
        if is_granted:
            granted.add(n)
    return [
        judged(ask.amount_usd, bounds[n], granted=n in granted)
        if n in bounds
        else Reserved(Found.FENCED)
        for n, ask in enumerate(asks, 1)
    ]


_O = charges.alias("o").c
_V = table("v", *(column(field.name, field.type) for field in FIELDS)).c


def part(*, verdicts: str) -> str:
    """Return the parts of a statement that settles what was reserved for calls.

    `turn` stands for the turns that it has moved, `verdicts` for what is said of them. Budgets are
    locked last, in the order of their ids; those that stand at another period by now are done with
    the one that was charged.
    """
    return f"""charge AS (
    UPDATE turnmill.charges c SET {sets(OF_CHARGE, _O, _V)}
    FROM turn JOIN {verdicts} v ON v.turn_id = turn.id JOIN turnmill.charges o
        ON o.turn_id = turn.id
    WHERE c.turn_id = o.turn_id AND c.fence = o.fence AND c.budget_id = o.budget_id AND (
        o.fence = v.fence AND o.reserved_usd > 0
        OR v.reconciles AND o.estimated_usd > 0 AND o.fence = (
            SELECT max(l.fence) FROM turnmill.charges l
            WHERE l.turn_id = o.turn_id AND l.budget_id = o.budget_id AND l.estimated_usd > 0))
    RETURNING c.turn_id, c.budget_id, c.period, o.reserved_usd AS reserved,
        c.charged_usd - o.charged_usd AS spent, c.estimated_usd - o.estimated_usd AS estimated
), money AS (
    SELECT b.id FROM turnmill.budgets b WHERE b.id IN (SELECT budget_id FROM charge)
    ORDER BY b.id FOR NO KEY UPDATE
), paid AS (
    UPDATE turnmill.budgets b SET reserved_usd = b.reserved_usd - x.reserved,
        spent_usd = b.spent_usd + x.spent, estimated_usd = b.estimated_usd + x.estimated,
        last_turn_id = x.turn_id
    FROM money JOIN (
        SELECT budget_id, period, sum(reserved) AS reserved, sum(spent) AS spent,
            sum(estimated) AS estimated, (array_agg(turn_id))[1] AS turn_id
        FROM charge GROUP BY budget_id, period
    ) AS x ON x.budget_id = money.id
    WHERE b.id = money.id AND b.n = x.period AND b.period <> '{Period.TURN}'
), """

"""Money on Postgres: a group of reservations in one statement, and what a verdict makes of them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, column, table

from turnmill.domain.budgets import OnExceeded, Period
from turnmill.domain.states import FOR_BATCH
from turnmill.store.budget_records import Ask, Bound, Found, Reserved, judged
from turnmill.store.postgres.rendering import sets
from turnmill.store.records import Claim
from turnmill.store.rules.charging import OF_CHARGE
from turnmill.store.rules.settling import FIELDS
from turnmill.store.schema.budget_tables import charges
from turnmill.store.schema.tables import STILL_RUNNING
from turnmill.store.schema_name import execute

# What bounds the turns that are `held`: budgets, and what each of them may cost itself. What a
# trial asks is on no budget of its user.
_MATCHED = """matched AS (
    SELECT h.n, h.turn_id, h.fence, h.put_off, h.amount, b.id, NULL::numeric AS own_usd
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
    UNION ALL
    SELECT n, turn_id, fence, put_off, amount, turn_id, max_cost_usd
    FROM held WHERE max_cost_usd IS NOT NULL
)"""
# Whose claim it is says the turn's row, in its newest version, which is kept until the commit: who
# takes the turn from us later finds what was reserved. Budgets are locked after it, in the order of
# their ids, and read as they are then. In a group, the calls that fit by themselves are lined up in
# each of their budgets; of those that do not fit in there any more, the next group tells. Its plan
# is made on a young store and kept: what it looks up by an index then (OFFSET 0, ANY) it does not
# read whole later, when there are many.
_RESERVE = f"""
WITH asked AS (
    SELECT * FROM unnest(%(turn_ids)s::uuid[], %(fences)s::bigint[], %(amounts)s::numeric[])
        WITH ORDINALITY AS a (turn_id, fence, amount, n)
), held AS (
    SELECT a.n, a.amount, t.id AS turn_id, a.fence, t.session_id, t.put_off,
        t.max_cost_usd, t.metadata, t.batch_id
    FROM asked a JOIN turnmill.turns t ON t.id = a.turn_id AND {{asks}}
    ORDER BY t.id FOR NO KEY UPDATE OF t
), {_MATCHED}, budget AS (
    SELECT * FROM turnmill.budgets_lock(ARRAY(SELECT id FROM matched WHERE own_usd IS NULL))
), wanted AS (
    SELECT m.n, m.turn_id, m.fence, m.put_off, m.amount, m.id AS budget_id, k.period, k.of_turn,
        b.ends_at, b.on_exceeded IS DISTINCT FROM '{OnExceeded.WAIT}' AS fails,
        c.period IS NULL AS is_new,
        CASE WHEN c.period = k.period THEN c.reserved_usd ELSE 0 END AS was,
        COALESCE(m.own_usd, b.limit_usd) - CASE WHEN k.of_turn THEN (
            SELECT COALESCE(sum(o.charged_usd), 0) FROM turnmill.charges o
            WHERE o.turn_id = m.turn_id AND o.budget_id = m.id
        ) ELSE b.spent_usd END AS unspent,
        CASE WHEN k.of_turn THEN COALESCE(c.reserved_usd, 0) ELSE b.reserved_usd END AS reserved
    FROM matched m LEFT JOIN budget b ON b.id = m.id CROSS JOIN LATERAL (SELECT
        COALESCE(b.n, 0) AS period, COALESCE(b.period = '{Period.TURN}', true) AS of_turn
    ) AS k LEFT JOIN LATERAL (
        SELECT o.reserved_usd, o.period FROM turnmill.charges o
        WHERE o.turn_id = m.turn_id AND o.fence = m.fence AND o.budget_id = m.id OFFSET 0
    ) AS c ON true
    WHERE COALESCE(b.id, m.turn_id) = m.id
), bound AS (
    SELECT *, amount - was AS more, GREATEST(unspent - reserved, 0) AS room,
        COALESCE(ends_at <= clock_timestamp(), false) AS over
    FROM wanted
), alone AS (
    SELECT *, bool_and(COALESCE(more <= room, false) AND NOT over) OVER (PARTITION BY n) AS fits
    FROM bound
), lined AS (
    SELECT *, fits AND (of_turn OR room >= sum(more) FILTER (WHERE fits) OVER (
        PARTITION BY budget_id ORDER BY n)) AS fits_in
    FROM alone
), told AS (
    SELECT *, bool_and(fits_in) OVER (PARTITION BY n) AS granted FROM lined
), noted AS (
    INSERT INTO turnmill.charges (turn_id, fence, budget_id, period, reserved_usd{{column}})
    SELECT turn_id, fence, budget_id, period, amount{{shard}} FROM told WHERE granted AND is_new
), renewed AS (
    UPDATE turnmill.charges c SET reserved_usd = x.amount, period = x.period{{again}},
        charged_usd = CASE WHEN c.period = x.period THEN c.charged_usd ELSE 0 END,
        estimated_usd = CASE WHEN c.period = x.period THEN c.estimated_usd ELSE 0 END
    FROM told x WHERE x.granted AND NOT x.is_new
        AND c.turn_id = x.turn_id AND c.fence = x.fence AND c.budget_id = x.budget_id
), taken AS (
    SELECT turnmill.budgets_reserve(array_agg(budget_id), array_agg(more)) FROM (
        SELECT budget_id, sum(more) AS more FROM told
        WHERE granted AND NOT of_turn GROUP BY budget_id
    ) AS x HAVING count(*) > 0
)
SELECT array_agg(n) FILTER (WHERE granted),
    json_agg(json_build_array(n, budget_id, over, more > room, amount > unspent, fails,
        extract(epoch FROM ends_at - clock_timestamp()), put_off)) FILTER (WHERE NOT granted),
    (SELECT array_agg(n) FROM held WHERE n NOT IN (SELECT n FROM told)),
    (SELECT count(budgets_reserve) FROM taken)
FROM told
"""
# In one line: the driver keeps how it reads a statement of up to 4,096 characters.
_RESERVE = " ".join(_RESERVE.split())


def _asking(who: str, **more: str) -> str:
    said = _RESERVE.replace("{asks}", who)
    for name in ("column", "shard", "again"):
        said = said.replace(f"{{{name}}}", more.get(name, ""))
    return said


# Who holds a budget's row for long holds up who asks, and not all that is claimed on the same
# thread: so many milliseconds are waited for it, and asked again.
_OF_CLAIMS = _asking(
    f"t.lease_fence = a.fence AND {STILL_RUNNING}"
    " AND (SELECT set_config('lock_timeout', '250', true)) <> ''"
)
_OF_LINES = _asking(
    f"t.state = 'waiting' AND t.waits_for = '{FOR_BATCH}' AND t.native_ref = %(shard)s::text",
    column=", shard_id",
    shard=", %(shard)s::uuid",
    again=", shard_id = %(shard)s::uuid",
)


# Of calls that were made already: what bounds them knows of them, whether or not it has room. All
# budgets that are charged with their verdicts are locked here, in the order of their ids.
_NOTE = f"""
WITH asked AS (
    SELECT * FROM unnest(%(turn_ids)s::uuid[], %(fences)s::bigint[]) WITH ORDINALITY
        AS asked (turn_id, fence, n)
), held AS (
    SELECT asked.n, 0.0000000001 AS amount, t.id AS turn_id, asked.fence, t.session_id, t.put_off,
        t.max_cost_usd, t.metadata, t.batch_id
    FROM asked JOIN turnmill.turns t ON t.id = asked.turn_id
), {_MATCHED}, budget AS (
    SELECT id, n, period FROM turnmill.budgets_lock(ARRAY(
        SELECT id FROM matched WHERE own_usd IS NULL
        UNION SELECT c.budget_id FROM asked JOIN turnmill.charges c USING (turn_id, fence)
    ))
), noted AS (
    INSERT INTO turnmill.charges (turn_id, fence, budget_id, period, reserved_usd)
    SELECT m.turn_id, m.fence, m.id, COALESCE(b.n, 0), m.amount
    FROM matched m LEFT JOIN budget b ON b.id = m.id WHERE COALESCE(b.id, m.turn_id) = m.id
    ON CONFLICT DO NOTHING RETURNING budget_id, reserved_usd
)
SELECT turnmill.budgets_reserve(array_agg(id), array_agg(more)) FROM (
    SELECT b.id, sum(noted.reserved_usd) AS more
    FROM noted JOIN budget b ON b.id = noted.budget_id AND b.period <> '{Period.TURN}'
    GROUP BY b.id
) AS x HAVING count(*) > 0
"""
# By the keys of its turns alone: whoever has counted before a shard was made takes it for small,
# and would read all that it holds for each group of its results.
_BRING = """
WITH held AS (
    SELECT c.turn_id, c.fence, c.budget_id, x.fence AS of_claim
    FROM unnest(%(turn_ids)s::uuid[], %(fences)s::bigint[]) AS x (turn_id, fence)
    JOIN turnmill.charges c ON c.turn_id = x.turn_id
        AND c.fence < 0 AND COALESCE(c.shard_id, c.turn_id) = %(shard)s
    ORDER BY c.turn_id, c.fence, c.budget_id FOR UPDATE OF c
)
UPDATE turnmill.charges c SET fence = held.of_claim, shard_id = NULL FROM held
WHERE c.turn_id = held.turn_id AND c.fence = held.fence AND c.budget_id = held.budget_id
"""
_GIVE_BACK = f"""
WITH held AS (
    SELECT budget_id, period, reserved_usd FROM turnmill.charges
    WHERE shard_id = %(shard)s ORDER BY turn_id, fence, budget_id FOR NO KEY UPDATE
), given AS (
    UPDATE turnmill.charges SET reserved_usd = 0, shard_id = NULL WHERE shard_id = %(shard)s
), budget AS (
    SELECT id, n, period FROM turnmill.budgets_lock(ARRAY(SELECT DISTINCT budget_id FROM held))
)
SELECT turnmill.budgets_reserve(array_agg(id), array_agg(more)) FROM (
    SELECT b.id, -sum(held.reserved_usd) AS more
    FROM held JOIN budget b ON b.id = held.budget_id AND b.n = held.period
        AND b.period <> '{Period.TURN}'
    GROUP BY b.id
) AS x HAVING count(*) > 0
"""


def reserve(conn: Connection, asks: Sequence[Ask], *, tags: Sequence[str]) -> list[Reserved]:
    """Reserve what these calls may cost at the most, at most one of each turn."""
    return _reserved(conn, _OF_CLAIMS, asks, {"tags": list(tags)})


def reserve_lines(
    conn: Connection, asks: Sequence[Ask], *, shard: UUID, tags: Sequence[str]
) -> list[Reserved]:
    """Reserve what turns may cost that stand in this shard, each under a fence below 0."""
    return _reserved(conn, _OF_LINES, asks, {"tags": list(tags), "shard": str(shard)})


def bring(
    conn: Connection, claims: Sequence[Claim], *, shard: UUID | None, tags: Sequence[str]
) -> None:
    """Let what is held for lines of a shard stand under the claims that settle them now.

    Budgets that hold nothing for one, as those that were set since, are charged all the same.
    """
    parameters = {
        "turn_ids": _array(one.turn_id.hex for one in claims),
        "fences": _array(one.fence for one in claims),
    }
    if shard is not None:
        execute(conn, _BRING, {**parameters, "shard": shard})
    execute(conn, _NOTE, {**parameters, "tags": list(tags)}).close()


def give_back(conn: Connection, shard: UUID) -> None:
    """Give back what is still held for lines of a shard."""
    execute(conn, _GIVE_BACK, {"shard": shard}).close()


def _reserved(
    conn: Connection, statement: str, asks: Sequence[Ask], more: Mapping[str, Any]
) -> list[Reserved]:
    parameters = {
        "turn_ids": _array(one.turn_id.hex for one in asks),
        "fences": _array(one.fence for one in asks),
        "amounts": _array("NULL" if (most := one.amount_usd) is None else most for one in asks),
        **more,
    }
    found = execute(conn, statement, parameters).one()
    granted, refused, free = (one or () for one in found[:3])
    bounds: dict[int, list[Bound]] = {n: [] for n in free}
    for n, *bound in refused:
        bounds.setdefault(n, []).append(_bound(*bound))
    reserved = dict.fromkeys(granted, Reserved(Found.RESERVED))
    return [reserved.get(n) or _refused(ask, bounds.get(n)) for n, ask in enumerate(asks, 1)]


def _refused(ask: Ask, bounds: Sequence[Bound] | None) -> Reserved:
    if bounds is None:
        return Reserved(Found.FENCED)
    return judged(ask.amount_usd, bounds, granted=False)


def _bound(budget_id: str, *told: Any) -> Bound:
    over, short, hard, fails, ends_in, put_off = told
    ends = None if ends_in is None else timedelta(seconds=ends_in)
    return Bound(UUID(budget_id), over, short, hard, fails, ends, put_off)


def _array(values: Iterable[object]) -> str:
    """Return ids or numbers as Postgres writes an array: the driver looks at each for quotes."""
    return f"{{{','.join(map(str, values))}}}"


_O = charges.alias("o").c
_V = table("v", *(column(field.name, field.type) for field in FIELDS)).c


#: Joined to what a statement with `part` returns: or nobody would have it done.
PAID_TOO = " LEFT JOIN paid ON budgets_charge IS NOT NULL"


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
), paid AS (
    SELECT turnmill.budgets_charge(array_agg(budget_id), array_agg(period), array_agg(reserved),
        array_agg(spent), array_agg(estimated), array_agg(turn_id))
    FROM (
        SELECT budget_id, period, sum(reserved) AS reserved, sum(spent) AS spent,
            sum(estimated) AS estimated, (array_agg(turn_id))[1] AS turn_id
        FROM charge GROUP BY budget_id, period
    ) AS x HAVING count(*) > 0
), """

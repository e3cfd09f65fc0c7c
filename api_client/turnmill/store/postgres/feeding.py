"""What dispatchers ask of a server that they share: which heads are due, announced, or in doubt."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, Row

from turnmill.domain.states import Lane
from turnmill.store.postgres.looking import NAMED_IS_DUE
from turnmill.store.records import Waits
from turnmill.store.schema.tables import RUNNING_SQL
from turnmill.store.schema_name import execute

# Every head that was announced and is still due stands for one hint on its way. Looked for among
# the oldest: those that dispatchers announce first.
_UNANSWERED = """
SELECT count(*) FROM (
    SELECT FROM (
        SELECT DISTINCT provider FROM unnest(%(providers)s::text[]) AS p (provider)
    ) AS open CROSS JOIN LATERAL (
        SELECT s.id, s.head_due_at FROM turnmill.sessions s
        WHERE s.head_lane = %(lane)s AND s.provider = open.provider AND s.status = 'active'
            AND s.head_due_at <= statement_timestamp()
        ORDER BY s.head_due_at LIMIT %(among)s
    ) AS head JOIN turnmill.announcements a ON a.session_id = head.id
    WHERE a.at >= head.head_due_at
        AND a.at < statement_timestamp() - %(drained_quiet)s::interval
    LIMIT %(hints)s + 1
) AS unanswered
"""

# The hints of a broker that was emptied are lost: it fills up again, but not with them.
_ANNOUNCE = f"""
WITH queue AS MATERIALIZED (
    SELECT CASE WHEN %(hints)s = 0 THEN true ELSE ({_UNANSWERED}) > %(hints)s END AS drained
), wait AS MATERIALIZED (
    SELECT CASE WHEN drained THEN %(drained_grace)s::interval ELSE %(grace)s::interval END AS grace,
        CASE WHEN drained THEN %(drained_quiet)s::interval ELSE %(quiet)s::interval END AS quiet
    FROM queue
), due AS (
    SELECT head.id, head.head_turn_id FROM (
        SELECT DISTINCT provider FROM unnest(%(providers)s::text[]) AS p (provider)
    ) AS open CROSS JOIN LATERAL (
        SELECT s.id, s.head_turn_id, s.head_due_at
        FROM turnmill.sessions s LEFT JOIN turnmill.announcements a ON a.session_id = s.id
        WHERE s.head_lane = %(lane)s AND s.provider = open.provider AND s.status = 'active'
            AND s.head_due_at <= statement_timestamp() - (SELECT grace FROM wait)
            AND (a.at IS NULL OR a.at < s.head_due_at
                OR a.at < statement_timestamp() - (SELECT quiet FROM wait))
        ORDER BY s.head_due_at LIMIT %(limit)s
    ) AS head ORDER BY head.head_due_at LIMIT %(limit)s
), noted AS (
    INSERT INTO turnmill.announcements (session_id, at)
    SELECT id, clock_timestamp() FROM due ORDER BY id
    ON CONFLICT (session_id) DO UPDATE SET at = excluded.at
)
SELECT id, head_turn_id FROM due
"""

_COUNT = """
SELECT count(*) FROM (
    SELECT 1 FROM turnmill.sessions WHERE head_lane = %(lane)s AND provider = ANY(%(providers)s)
        AND status = 'active' AND head_due_at <= statement_timestamp() LIMIT %(limit)s
) AS due
"""

# Every dispatcher hears of it; the one whose note is written publishes.
_NOTE = f"""
INSERT INTO turnmill.announcements (session_id, at)
SELECT s.id, clock_timestamp()
FROM turnmill.turns t JOIN turnmill.sessions s ON s.id = t.session_id AND s.head_turn_id = t.id
WHERE t.id = ANY(%(ids)s::uuid[]) AND s.status = 'active' AND {NAMED_IS_DUE}
ORDER BY s.id
ON CONFLICT (session_id) DO UPDATE SET at = excluded.at
WHERE announcements.at < excluded.at - interval '1 second'
RETURNING session_id
"""

# The note stands under no session's id; whoever writes it is the one who prepares.
_IN_DOUBT = f"""
WITH doubtful AS (
    SELECT FROM turnmill.turns WHERE {RUNNING_SQL}
        AND lease_until < clock_timestamp() + %(lease)s::interval / 2
        AND lease_until > clock_timestamp() - %(lease)s::interval
    LIMIT 1
)
INSERT INTO turnmill.announcements (session_id, at) SELECT %(nobody)s, clock_timestamp()
FROM doubtful
ON CONFLICT (session_id) DO UPDATE SET at = excluded.at
WHERE announcements.at < excluded.at - %(lease)s::interval
RETURNING at
"""


def announce_due(
    conn: Connection,
    lane: Lane,
    *,
    providers: Collection[str],
    limit: int,
    hints: int,
    waits: Waits,
    drained: Waits,
    among: int,
) -> Sequence[Row[UUID, UUID]]:
    """Note that heads are announced, and return them as rows of (session id, turn id)."""
    parameters = {
        "lane": lane.value,
        "providers": list(providers),
        "limit": limit,
        "hints": hints,
        "among": among,
        "grace": waits.grace,
        "quiet": waits.quiet,
        "drained_grace": drained.grace,
        "drained_quiet": drained.quiet,
    }
    return execute(conn, _ANNOUNCE, parameters).all()


def note_announced(conn: Connection, turn_ids: Sequence[UUID]) -> set[UUID]:
    """Return the sessions whose heads, of these, nobody else has announced just now."""
    return set(execute(conn, _NOTE, {"ids": list(turn_ids)}).scalars())


def count_due(conn: Connection, lane: Lane, *, providers: Collection[str], limit: int) -> int:
    """Count due heads of a lane, up to a limit."""
    parameters = {"lane": lane.value, "providers": list(providers), "limit": limit}
    count: int = execute(conn, _COUNT, parameters).scalar_one()
    return count


def late_heartbeats(conn: Connection, *, lease: timedelta) -> bool:
    """Tell whether leases run out, and note that the caller knows."""
    parameters = {"lease": lease, "nobody": UUID(int=0)}
    return execute(conn, _IN_DOUBT, parameters).first() is not None

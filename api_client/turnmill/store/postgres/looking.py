"""Looking at Postgres: what was said, what waits, and how the server is."""

from collections.abc import Collection, Sequence
from datetime import UTC, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, func, select, text

from turnmill.domain.ids import SessionId
from turnmill.store.capabilities import Vitals
from turnmill.store.codec import StoredHistory
from turnmill.store.schema_name import execute
from turnmill.store.vaults import keys_at, may_be_sealed

#: What a provider is sent of a session, as JSON; the session's id is put in.
# Turn by turn, whatever a plan thinks of how many there are: it may be of a store without figures.
HISTORY_OF = """
SELECT json_agg(json_build_array(m.role, m.content) ORDER BY t.seq, m.position)::text
FROM turnmill.turns t CROSS JOIN LATERAL (
    SELECT o.role, o.content, o.turn_id, o.position FROM turnmill.messages o
    WHERE o.turn_id = t.id OFFSET 0
) AS m
WHERE t.session_id = {} AND t.state = 'succeeded'
"""
_HISTORY = HISTORY_OF.format("%(session)s")


@cache
def placed(statement: str) -> str:
    """Return the statement with the place of each message of a history, by which it opens."""
    return statement.replace(_TOLD, _TOLD_WITH_PLACE)


_TOLD = "json_build_array(m.role, m.content) ORDER BY"
_TOLD_WITH_PLACE = "json_build_array(m.role, m.content, m.turn_id, m.position) ORDER BY"

# Found once for a statement; there are few, and seldom any.
_LANES = "ARRAY(SELECT name FROM turnmill.pauses WHERE kind = 'lane')"
_PROVIDERS = "ARRAY(SELECT name FROM turnmill.pauses WHERE kind = 'provider')"
#: A condition on sessions, called s.
NOT_PAUSED = f"""s.head_lane <> ALL({_LANES})
        AND s.provider <> ALL({_PROVIDERS})"""

# Of turns that are named, rows are found by their keys alone. Plans are made while little waits,
# and are kept: to read all that waits is cheap then, and is not when thousands come at once. In
# these words no index of those who wait is made, so that none is used.
NAMED_IS_DUE = "COALESCE(s.head_due_at, 'infinity') <= statement_timestamp()"

OPEN_SQL = "head_due_at IS NOT NULL AND status = 'active'"

# A loose index scan: one probe for each pair of lane and provider, whatever the backlog.
BACKLOGS = f"""
WITH RECURSIVE backlog AS (
    (SELECT head_lane, provider FROM turnmill.sessions WHERE {OPEN_SQL}
     ORDER BY head_lane, provider LIMIT 1)
    UNION ALL
    SELECT further.head_lane, further.provider FROM backlog CROSS JOIN LATERAL (
        SELECT s.head_lane, s.provider FROM turnmill.sessions s
        WHERE {OPEN_SQL} AND (s.head_lane, s.provider) > (backlog.head_lane, backlog.provider)
        ORDER BY s.head_lane, s.provider LIMIT 1
    ) AS further
)
SELECT head_lane, provider FROM backlog
"""
_OLDEST = f"""
SELECT head_due_at FROM turnmill.sessions o
WHERE {OPEN_SQL} AND o.head_lane = s.head_lane AND o.provider = s.provider
ORDER BY o.head_due_at LIMIT 1
"""
_DUE = f"""
SELECT s.head_lane, s.provider, ({_OLDEST}) <= statement_timestamp() FROM ({BACKLOGS}) AS s
"""
_WAITS = f"""
SELECT s.head_lane, max(statement_timestamp() - oldest.head_due_at)
FROM ({BACKLOGS}) AS s CROSS JOIN LATERAL ({_OLDEST}) AS oldest
WHERE {NOT_PAUSED} AND oldest.head_due_at <= statement_timestamp()
GROUP BY s.head_lane
"""


_ASK = """
SELECT current_setting('server_version'), clock_timestamp(), current_setting('server_encoding'),
    current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off',
    current_setting('max_connections')::int, (SELECT count(*) FROM pg_stat_activity),
    current_setting('transaction_read_only') = 'on'
"""


def history(conn: Connection, session_id: SessionId) -> StoredHistory:
    """Return all messages of succeeded turns, in order."""
    keys = keys_at(conn.dialect)
    statement = _HISTORY if keys is None else placed(_HISTORY)
    found = execute(conn, statement, {"session": session_id}).scalar() or "[]"
    if keys is not None or may_be_sealed(None, "", found):
        from turnmill.store.opening import Opening  # noqa: PLC0415  not everybody encrypts

        found = Opening(keys, session_id, None).history(found)
    return StoredHistory(found)


def backlogs(conn: Connection) -> Sequence[Row[str, str, bool]]:
    """Return rows of (lane, provider, due) for what has a head waiting."""
    return execute(conn, _DUE).all()


def longest_waits(conn: Connection) -> Sequence[Row[str, timedelta]]:
    """Return rows of (lane, how long its first has been due)."""
    return execute(conn, _WAITS).all()


def notify(conn: Connection, channel: str, ids: Collection[Any]) -> None:
    """Tell those who listen, once this transaction commits."""
    execute(
        conn,
        "SELECT pg_notify(%(channel)s, id) FROM unnest(%(ids)s::text[]) AS t (id)",
        {"channel": channel, "ids": [str(one) for one in ids]},
    )


def has_been_up(conn: Connection, span: timedelta) -> bool:
    """Tell whether the server has been up for so long: its clients could reach it meanwhile."""
    found: bool = execute(
        conn, "SELECT clock_timestamp() - pg_postmaster_start_time() >= %(span)s", {"span": span}
    ).scalar_one()
    return found


def vitals(conn: Connection) -> Vitals:
    """Ask the server about itself."""
    row = conn.exec_driver_sql(_ASK).one()
    return Vitals(
        product=f"PostgreSQL {row[0]}",
        now=row[1].astimezone(UTC),
        encoding=row[2],
        durable=row[3],
        most_connections=row[4],
        connections=row[5],
        read_only=row[6],
    )


#: By them a server, and a database on it, are told from all others.
_IDENTITY = text(
    "SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database())"
    " FROM pg_control_system()"
)
_MAY_ASK = func.has_function_privilege("pg_control_system()", "execute")


def identity(conn: Connection) -> Sequence[object]:
    """Return the server's number and the database's; nothing where we may not ask for them."""
    return [*conn.execute(_IDENTITY).one()] if conn.scalar(select(_MAY_ASK)) else []

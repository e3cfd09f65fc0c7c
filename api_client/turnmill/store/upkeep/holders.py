"""Who holds a lock for which others wait: an open transaction of somebody's, or a statement."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from turnmill.store.capabilities import Capability, capabilities_of

# Who locks a whole table of ours against writing, or stands first before somebody of this role. Of
# another role's transaction only its number, its role and its program are shown to everybody.
_HOLDERS = text(
    """
    WITH strong AS (
        SELECT l.pid, c.relname AS name FROM pg_locks l
        JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND l.granted
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                'AccessExclusiveLock')
    ), before AS (
        SELECT b.pid, CAST(NULL AS name) AS name
        FROM pg_stat_activity w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b (pid)
        WHERE w.datname = current_database() AND w.usename = current_user
            AND w.wait_event_type = 'Lock'
    ), found AS (SELECT * FROM strong UNION ALL SELECT * FROM before)
    SELECT f.pid, max(l.virtualtransaction), max(a.usename), max(a.application_name), max(f.name)
    FROM found f JOIN pg_stat_activity a ON a.pid = f.pid JOIN pg_locks l ON l.pid = f.pid
    WHERE f.pid <> pg_backend_pid() AND cardinality(pg_blocking_pids(f.pid)) = 0
    GROUP BY f.pid ORDER BY f.pid
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A transaction that holds up others."""

    pid: int  #: of its process on the server
    transaction: str  #: tells it from the next one of this process
    role: str
    program: str  #: `application_name`, as its own client calls it
    table: str  #: that it holds whole; empty: rows


def holders(conn: Connection, schema: str | None) -> list[Holder]:
    """Return whose locks keep others from our rows at this moment. It may be over in the next."""
    if schema is None or Capability.SCHEMAS not in capabilities_of(conn):
        return []
    return [
        Holder(
            pid=pid,
            transaction=transaction,
            role=role or "",
            program=program or "",
            table=table or "",
        )
        for pid, transaction, role, program, table in conn.execute(_HOLDERS, {"schema": schema})
    ]

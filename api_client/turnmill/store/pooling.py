"""How a pooler before the server works, told from what it does."""

from enum import StrEnum

from sqlalchemy import Connection

from turnmill.store.database import Database
from turnmill.store.dialing import SETTINGS, is_pooled
from turnmill.store.schema_name import execute

_ROUNDS = 3  #: others may be given the connection that would have told


class PoolMode(StrEnum):
    """For how long a client has the same connection to the server."""

    SESSION = "session"
    TRANSACTION = "transaction"


def pool_mode(database: Database) -> PoolMode | None:
    """Return how the pooler works, or None where the server itself answers.

    Takes two connections of the pool. A pooler that has only one for both would let us wait.
    """
    every_statement = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with every_statement.connect() as first:
        if not is_pooled(first):
            return None
        for _ in range(_ROUNDS):
            before = _backend(first)
            # Whoever keeps no connection between its statements has this one taken away.
            with database.begin() as other:
                if _backend(other) == before or _backend(first) != before:
                    return PoolMode.TRANSACTION
    return PoolMode.SESSION


def unbounded(conn: Connection) -> list[str]:
    """Return which bounds of time a connection has begun without."""
    names = [name for name in SETTINGS if name.endswith("timeout")]
    found = execute(
        conn,
        "SELECT name FROM pg_settings WHERE name = ANY(%(names)s) AND setting = '0'",
        {"names": names},
    )
    return sorted(found.scalars())


def role_of(conn: Connection) -> str:
    """Return the role that is connected."""
    return str(execute(conn, "SELECT current_user").scalar_one())


def _backend(conn: Connection) -> int:
    return int(execute(conn, "SELECT pg_backend_pid()").scalar_one())

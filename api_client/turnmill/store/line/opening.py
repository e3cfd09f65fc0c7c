"""Rows of new sessions."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, insert

from turnmill.store.records import NewSession
from turnmill.store.schema.tables import sessions


def create_many(conn: Connection, new: Sequence[NewSession]) -> None:
    """Create sessions without keys, in one statement."""
    conn.execute(insert(sessions), [row_of(one) for one in new])


def whole_seconds(ttl: timedelta | None) -> int | None:
    """Return a span as the columns hold it."""
    return None if ttl is None else int(ttl.total_seconds())


def row_of(new: NewSession) -> dict[str, Any]:
    """Return the row of a session that is to be written."""
    return {
        "id": new.id,
        "key": new.key,
        "user_id": new.user_id,
        "provider": new.provider,
        "model": new.model,
        "system_prompt": new.system_prompt,
        "settings": dict(new.settings),
        "metadata": dict(new.metadata),
        "on_failure": new.on_failure,
        "on_ambiguous": new.on_ambiguous,
        "max_attempts": new.max_attempts,
        "idle_seconds": whole_seconds(new.idle_ttl),
    }

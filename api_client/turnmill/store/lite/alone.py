"""What processes ask that share a store: SQLite is not made for that."""

from typing import NoReturn

from sqlalchemy import Connection

from turnmill.store.capabilities import Capability, refusal


def _refuse(conn: Connection, *_: object, **__: object) -> NoReturn:
    raise refusal(Capability.SHARED)


announce_due = count_due = due_suspicions = _refuse
late_heartbeats = longest_waits = note_announced = _refuse

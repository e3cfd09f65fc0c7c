"""Lanes and providers that an operator has paused."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from turnmill.domain.states import Lane
from turnmill.store.readable import readable
from turnmill.store.rules import claiming
from turnmill.store.schema.tables import pauses
from turnmill.store.types import insert_into

#: Kinds of things that can be paused, besides sessions.
LANE = claiming.LANE
PROVIDER = claiming.PROVIDER


@dataclass(frozen=True, slots=True)
class Pauses:
    """What is paused. Every claim asks."""

    lanes: frozenset[Lane] = frozenset()
    providers: frozenset[str] = frozenset()


def read_pauses(conn: Connection) -> Pauses:
    """Return what is paused now."""
    rows = conn.execute(select(pauses.c.kind, pauses.c.name)).all()
    lanes = [row.name for row in rows if row.kind == LANE]
    return Pauses(
        lanes=frozenset(readable(lanes, Lane)),
        providers=frozenset(row.name for row in rows if row.kind == PROVIDER),
    )


def pause(conn: Connection, *, kind: str, name: str) -> bool:
    """Start no turn of the lane or provider any more; False where that is so already."""
    made = insert_into(conn, pauses).values(kind=kind, name=name).on_conflict_do_nothing()
    return conn.execute(made.returning(pauses.c.name)).first() is not None


def resume(conn: Connection, *, kind: str, name: str) -> bool:
    """Let its turns run again; False where it was not paused."""
    gone = delete(pauses).where(pauses.c.kind == kind, pauses.c.name == name)
    return conn.execute(gone).rowcount > 0

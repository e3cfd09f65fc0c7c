"""What is written and told of a turn that becomes final: as a part of SQL, and in Core."""

from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection, insert, update

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.store.schema.tables import events, sessions
from turnmill.wire import SETTLED_CHANNEL

_ENDED = "turn."


class Happening(StrEnum):
    """What else happens to turns, apart from reaching a final state."""

    RETRIED = "turn.retried"  #: a final one runs again, in place
    DELETED = "turn.deleted"  #: it went with its session, unfinished


class Happened(NamedTuple):
    """Something that is to become an event of its session."""

    session_id: SessionId
    turn_id: TurnId
    kind: str


def ended(session_id: SessionId, turn_id: TurnId, state: TurnState) -> Happened:
    """Return what is to be written of a turn that has become final."""
    return Happened(session_id, turn_id, f"{_ENDED}{state.value}")


def write_events(conn: Connection, happened: Sequence[Happened]) -> None:
    """Write events, each with the next number of its session, in the order given.

    The caller's transaction holds the locks of their sessions until it ends: whoever sees an event
    sees all before it, and no number is left out.
    """
    of_sessions: defaultdict[SessionId, list[Happened]] = defaultdict(list)
    for one in happened:
        of_sessions[one.session_id].append(one)
    rows = []
    for session_id, of_session in of_sessions.items():
        last = conn.execute(
            update(sessions)
            .where(sessions.c.id == session_id)
            .values(events=sessions.c.events + len(of_session))
            .returning(sessions.c.events)
        ).scalar_one()
        first = last - len(of_session) + 1
        rows += [{**one._asdict(), "n": n} for n, one in enumerate(of_session, first)]
    if rows:
        conn.execute(insert(events), rows)


#: The same in one statement that updates `sessions s` for each row of `turn`: what it sets there,
COUNTED_SQL = "events = s.events + CASE WHEN turn.is_final THEN 1 ELSE 0 END"
#: and what follows from its rows `session` (session_id, events, settled_id, state, is_final).
#: Those who wait are told.
ENDED_SQL = f"""event AS (
    INSERT INTO turnmill.events (session_id, n, turn_id, kind, at)
    SELECT session_id, events, settled_id, '{_ENDED}' || state, clock_timestamp()
    FROM session WHERE is_final
), told AS (
    SELECT pg_notify('{SETTLED_CHANNEL}', string_agg(settled_id::text, ','))
    FROM session WHERE is_final HAVING count(*) > 0
)"""

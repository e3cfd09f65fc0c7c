"""Recalling turns that were put off: what they wait for is there before its time."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, Text, and_, cast, or_, select, update

from turnmill.domain.ids import SessionId
from turnmill.domain.states import AT_A_CLOSED_TARGET, CLAIMABLE, Lane, SessionStatus
from turnmill.domain.targets import FALLBACK
from turnmill.store.line.head import move_lines, skipping_busy
from turnmill.store.records import Head
from turnmill.store.schema.named_turns import still_in
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import db_asof, db_now


def recall(
    conn: Connection, waits_for: Collection[str], *, provider: str, model: str = "", limit: int
) -> list[Head]:
    """Make due, and return, up to `limit` turns that wait for this; interactive ones first.

    Those that would come soonest are recalled first. What somebody works with at this moment is
    left out: it comes in its own time. Without a model, those of all models of the provider. Who
    may be answered by a fallback, too, waits for that as well.
    """
    found: list[SessionId] = []
    for lane in Lane:
        if len(found) < limit:
            room = limit - len(found)
            found += _waiting(conn, waits_for, lane, provider=provider, model=model, limit=room)
    if not found:
        return []
    heads = select(sessions.c.head_turn_id).where(sessions.c.id.in_(found))
    moved = conn.scalars(
        update(turns)
        .where(
            turns.c.id.in_(heads),
            turns.c.waits_for.in_(waits_for),
            still_in(*CLAIMABLE),
        )
        .values(available_at=db_now())
        .returning(turns.c.session_id)
    ).all()
    return move_lines(conn, {SessionId(one) for one in moved})


def _waiting(
    conn: Connection,
    waits_for: Collection[str],
    lane: Lane,
    *,
    provider: str,
    model: str,
    limit: int,
) -> list[SessionId]:
    s = sessions.c
    wanted = [
        s.head_lane == lane,
        _may_be_asked(waits_for, provider, model),
        s.status == SessionStatus.ACTIVE,
        s.head_due_at > db_asof(),
        turns.c.waits_for.in_(waits_for),
        turns.c.state.in_(CLAIMABLE),
    ]
    query = (
        select(s.id)
        .join(turns, turns.c.id == s.head_turn_id)
        .where(*wanted)
        .order_by(s.head_due_at)
        .limit(limit)
    )
    return [SessionId(one) for one in conn.scalars(skipping_busy(query))]


def _may_be_asked(waits_for: Collection[str], provider: str, model: str) -> ColumnElement[bool]:
    """Tell whether a turn may go on where this provider, or this model of it, is there again.

    Its session's own, or a target that its settings name: as a text, which is quickly looked for,
    and where more is found than that, a turn comes in vain once. A limit is waited for by whoever
    is to ask that very target, and a closed one by whoever has it among his.
    """
    s = sessions.c
    own = [s.provider == provider]
    other = [_names(name) for name in (FALLBACK, provider, model) if name]
    if model:
        own.append(s.model == model)
    if not set(waits_for) <= AT_A_CLOSED_TARGET:
        own.append(turns.c.target == 0)
        other.append(turns.c.target > 0)
    return or_(and_(*own), and_(*other))


def _names(name: str) -> ColumnElement[bool]:
    return cast(sessions.c.settings, Text).contains(name, autoescape=True)

"""Conversations as an estimate of satisfaction looks at them: turns that have ended, and words."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, func, or_, select

from turnmill.domain.analytics.conversing import Exchange
from turnmill.domain.analytics.satisfaction import MOST_TURNS, SatisfactionEstimate, estimate
from turnmill.domain.content import text_of, without_sender
from turnmill.domain.errors import DataKeyMissing, SealBroken
from turnmill.domain.ids import SessionId
from turnmill.domain.states import FINAL, TurnState
from turnmill.store.codec import shown_parts
from turnmill.store.readable import ODD, read_all
from turnmill.store.schema.tables import messages, turns
from turnmill.store.vaults import plain

#: Of a turn, what was said and what was answered; None: nobody knows.
Words = tuple[str | None, str | None]
_NOT_KNOWN: Words = (None, None)


@dataclass(frozen=True, slots=True)
class _Said:
    turn_id: UUID
    is_reply: bool
    text: str | None = field(repr=False)  #: None: it is gone, or cannot be opened


def estimate_of(conn: Connection, session_id: SessionId) -> SatisfactionEstimate | None:
    """Return what the shape of a session says of it; None where no turn of it has ended.

    Its newest turns are looked at, up to a thousand. Raises KeyWanted.
    """
    ended = and_(turns.c.session_id == session_id, turns.c.state.in_(FINAL))
    rows = conn.execute(
        select(turns.c.id, turns.c.state, turns.c.created_at, turns.c.finished_at)
        .where(ended)
        .order_by(turns.c.seq.desc())
        .limit(MOST_TURNS)
    ).all()[::-1]
    count = len(rows)
    if count == MOST_TURNS:
        count = conn.scalar(select(func.count()).select_from(turns).where(ended)) or count
    said = _words(conn, [row.id for row in rows])
    return estimate([_exchange(row, said.get(row.id, _NOT_KNOWN)) for row in rows], turns=count)


def _exchange(row: Any, words: Words) -> Exchange:
    said, heard = words
    return Exchange(
        asked_at=row.created_at,
        ended_at=row.finished_at,
        answered=row.state == TurnState.SUCCEEDED,
        said=said,
        heard=heard,
    )


def _words(conn: Connection, turn_ids: Sequence[UUID]) -> dict[UUID, Words]:
    """Return the words of these turns, as far as they can be read."""
    asked = and_(messages.c.role == "user", messages.c.position >= 0)
    rows = conn.execute(
        select(messages.c.turn_id, messages.c.final, messages.c.content)
        .where(messages.c.turn_id.in_(turn_ids), or_(messages.c.final, asked))
        .order_by(messages.c.turn_id, messages.c.position)
    )
    found: dict[UUID, Words] = {}
    for one in read_all(rows, _said):
        said, heard = found.get(one.turn_id, _NOT_KNOWN)
        if one.is_reply:
            found[one.turn_id] = said, one.text
        elif one.text is not None:
            found[one.turn_id] = one.text if said is None else f"{said}\n{one.text}", heard
    return found


def _said(row: Any) -> _Said:
    try:
        content = plain(row.content)
        text = text_of(without_sender(shown_parts(content))) if content else None
    except (DataKeyMissing, SealBroken, *ODD):
        text = None
    return _Said(row.turn_id, row.final, text)

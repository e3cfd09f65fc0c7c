"""What sessions that stand would have a model read: lines of a batch go on with them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    cast,
    exists,
    func,
    literal_column,
    select,
)

from turnmill.domain.counting import OF_MESSAGE
from turnmill.domain.ids import SessionId
from turnmill.domain.states import UNFINISHED, TurnState
from turnmill.store.nouns.batches import open_sessions
from turnmill.store.readable import read_all
from turnmill.store.schema.file_tables import attachment_uses
from turnmill.store.schema.tables import messages, sessions, turns
from turnmill.store.types import byte_length
from turnmill.store.vaults import plain

_READ = (TurnState.SUCCEEDED, *UNFINISHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A session that stands, and how much of it a model reads at the most."""

    session_id: SessionId
    provider: str
    model: str
    system_prompt: str | None = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    tokens: int  #: of what was said in it
    awaited: int  #: replies that are still to come to what was said


def standing(
    conn: Connection, refs: Collection[SessionId | str]
) -> dict[SessionId | str, Standing]:
    """Return those of the sessions whose size somebody knows.

    That is none with files in it, nor one that goes on with a thread which a vendor had before.
    """
    ids = {ref: session_id for ref, (session_id, _) in open_sessions(conn, refs).items()}
    rows = conn.execute(
        select(
            sessions.c.id,
            sessions.c.provider,
            sessions.c.model,
            sessions.c.system_prompt,
            sessions.c.settings,
            sessions.c.unfinished,
            _tokens().label("tokens"),
        ).where(
            sessions.c.id.in_(set(ids.values())),
            sessions.c.adopted.is_(None),
            ~exists().where(attachment_uses.c.session_id == sessions.c.id),
        )
    )
    found = {one.session_id: one for one in read_all(rows, _standing)}
    return {ref: found[ids[ref]] for ref in refs if ids.get(ref) in found}


def _standing(row: Any) -> Standing:
    return Standing(
        session_id=SessionId(row.id),
        provider=row.provider,
        model=row.model,
        system_prompt=plain(row.system_prompt),
        settings=plain(row.settings),
        tokens=int(row.tokens),
        awaited=row.unfinished,
    )


def _tokens() -> ColumnElement[Any]:
    """Return a token for each byte of what was said: no text is more, nor is it sealed smaller."""
    size = byte_length(cast(messages.c.content, Text))
    return (
        select(func.coalesce(func.sum(size + literal_column(str(2 * OF_MESSAGE))), 0))
        .select_from(turns.join(messages, messages.c.turn_id == turns.c.id))
        .where(turns.c.session_id == sessions.c.id, turns.c.state.in_(_READ))
        .scalar_subquery()
    )

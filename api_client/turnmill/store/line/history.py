"""What was said in a session: as rows, and as what a provider is sent."""

import json
from collections.abc import Iterator, Sequence
from typing import overload

from sqlalchemy import Connection, select

from turnmill.domain.errors import Rejected, UnreadableRow
from turnmill.domain.ids import SessionId
from turnmill.domain.parts import Part
from turnmill.domain.states import TurnState
from turnmill.store.readable import ODD
from turnmill.store.schema.tables import messages, turns
from turnmill.store.schema_name import execute

#: What a provider is sent of a session, as JSON; the session's id is put in.
HISTORY_OF = """
SELECT json_agg(json_build_array(m.role, m.content) ORDER BY t.seq, m.position)::text
FROM turnmill.turns t JOIN turnmill.messages m ON m.turn_id = t.id
WHERE t.session_id = {} AND t.state = 'succeeded'
"""
_HISTORY = HISTORY_OF.format("%(session)s")


class StoredHistory(Sequence[Part]):
    """Messages as the JSON that the store has returned, read anew by whoever looks.

    A provider looks once, and then waits for seconds with thousands of others: read at once, each
    history would be kept in memory as lists of strings, several times its size.
    """

    __slots__ = ("_json", "_length")

    def __init__(self, rows: str) -> None:
        """`rows` is a JSON array of [role, content]."""
        self._json = rows
        self._length: int | None = None  # asked by `list()` and `[*…]` after they began to read

    def __iter__(self) -> Iterator[Part]:
        return iter(self._parts())

    def __len__(self) -> int:
        return len(self._parts()) if self._length is None else self._length

    @overload
    def __getitem__(self, index: int) -> Part: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Part]: ...
    def __getitem__(self, index: int | slice) -> Part | Sequence[Part]:
        return self._parts()[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._parts() == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<StoredHistory of {len(self._json)} characters>"  # never what was said

    def _parts(self) -> list[Part]:
        try:
            parts = [Part(role, text_of(content)) for role, content in json.loads(self._json)]
        except ODD:
            # It will not become readable: the turn ends, and says why.
            raise Rejected(UnreadableRow.code, hint=UnreadableRow.hint) from None
        self._length = len(parts)
        return parts


def succeeded_history(conn: Connection, session_id: SessionId) -> Sequence[Part]:
    """Return all messages of succeeded turns, in order: what a provider is sent."""
    if conn.dialect.name == "postgresql":
        found = execute(conn, _HISTORY, {"session": session_id}).scalar()
        return StoredHistory(found) if found else []
    rows = conn.execute(
        select(messages.c.role, messages.c.content)
        .join(turns, turns.c.id == messages.c.turn_id)
        .where(turns.c.session_id == session_id, turns.c.state == TurnState.SUCCEEDED)
        .order_by(turns.c.seq, messages.c.position)
    )
    return [Part(row.role, text_of(row.content)) for row in rows]


def text_of(content: object) -> str:
    """Return the text of a message's content; raises one of `readable.ODD` for any other thing."""
    if not isinstance(content, list):
        raise TypeError("content is a list of parts")
    if len(content) == 1 and content[0].get("type") == "text":
        return str(content[0]["text"])
    return "".join(part["text"] for part in content if part.get("type") == "text")


def shown_text(content: object) -> str:
    """Return the text of a message for a listing, in which one that cannot be read is marked."""
    try:
        return text_of(content)
    except ODD:
        return "\N{REPLACEMENT CHARACTER}"

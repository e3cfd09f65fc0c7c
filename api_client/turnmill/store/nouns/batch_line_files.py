"""Files that lines of batches hold: there when turns are made of them, and held by those then."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from turnmill.domain.content import Attached
from turnmill.domain.ids import as_uuid
from turnmill.store.codec import parts_from
from turnmill.store.line.attached import use
from turnmill.store.nouns.attachments import kept_among
from turnmill.store.records import Accepted
from turnmill.store.schema.tables import messages


def holds_files(row: Any) -> bool:
    """Tell whether a line holds any; most hold none."""
    return next(_ids_of(row), None) is not None


def without_their_files(conn: Connection, lines: Sequence[Any]) -> set[int]:
    """Return the numbers of lines of which a file is gone: somebody has deleted it meanwhile."""
    held = {row.line: set(_ids_of(row)) for row in lines}
    wanted = {one for ids in held.values() for one in ids}
    if not wanted:
        return set()
    there = {UUID(str(one)) for one in kept_among(conn, wanted)}
    return {line for line, ids in held.items() if ids - there}


def note_files(conn: Connection, accepted: Sequence[Accepted]) -> None:
    """Note which files the turns hold, in the transaction that has made them."""
    of_turn = {one.turn_id: one.session_id for one in accepted if one.created}
    held: defaultdict[Any, set[UUID]] = defaultdict(set)
    query = select(messages.c.turn_id, messages.c.content)
    for row in conn.execute(query.where(messages.c.turn_id.in_(list(of_turn)))):
        held[row.turn_id].update(_ids(parts_from(row.content)))
    for turn_id, ids in held.items():
        if ids:
            use(conn, of_turn[turn_id], turn_id, ids)


def _ids_of(row: Any) -> Iterator[UUID]:
    for turn in (row.content or {}).get("said", ()):
        for _, parts in turn:
            yield from (
                found
                for one in parts
                if one.get("type") in ("image", "file")
                if (found := as_uuid(one.get("id"))) is not None
            )


def _ids(parts: Sequence[Any]) -> Iterator[UUID]:
    for part in parts:
        if isinstance(part, Attached) and (found := as_uuid(part.id)) is not None:
            yield found

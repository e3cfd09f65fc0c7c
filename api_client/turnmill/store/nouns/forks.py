"""Forks: sessions that begin with the history of another one, and go on by themselves."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, func, insert, select

from turnmill.domain.content import Attached, Message, sender_of
from turnmill.domain.errors import InvalidInput, TurnNotFound, UnreadableRow
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL, EventKind, TurnState
from turnmill.new_ids import new_id
from turnmill.store.codec import parts_from
from turnmill.store.line.attached import use_again
from turnmill.store.line.head import lock_sessions
from turnmill.store.nouns.scripted import ScriptedTurn, insert_scripted
from turnmill.store.nouns.sessions import create, get, put
from turnmill.store.readable import ODD
from turnmill.store.records import NewSession, SessionRecord
from turnmill.store.rules.sealing import sealed_in
from turnmill.store.schema.compaction_tables import compactions
from turnmill.store.schema.people_tables import turn_senders
from turnmill.store.schema.tables import messages, turns
from turnmill.store.types import Timestamp
from turnmill.store.vaults import plain

_COPIED = ("kind", "summary", "created_at")
#: Turns whose messages are read at once.
_CHUNK = 500


def fork(
    conn: Connection, new: NewSession, source: SessionId, *, at: TurnId | None
) -> SessionRecord:
    """Create the session with the history of another one, up to and with the turn `at`.

    None is all of it. Turns that have succeeded are copied, as any model would be shown them; no
    thread, no attempts and no cost are. A key that stands already gives the session that it stands
    for. Raises SessionNotFound, TurnNotFound, and InvalidInput for a turn that has not ended.
    """
    lock_sessions(conn, [source])
    get(conn, source)
    last = _last(conn, source, at)
    record = create(conn, new)
    if record.id != new.id:
        return record
    holding: list[tuple[TurnId, TurnId]] = []
    senders: list[dict[str, Any]] = []
    copies = _history(conn, source, up_to=last, holding=holding)
    insert_scripted(conn, record.id, _noting_senders(copies, record.id, senders))
    if senders:
        conn.execute(insert(turn_senders), senders)
    for original, copy in holding:
        use_again(conn, original, record.id, copy)
    _copy_compaction(conn, source, record.id, up_to=last)
    columns: dict[str, Any] = {"forked_from": source}
    if oldest := _oldest(conn, record.id):
        columns["content_from"] = oldest
    return put(conn, record.id, columns, EventKind.FORKED)


def _last(conn: Connection, source: SessionId, at: TurnId | None) -> int:
    """Return the number of the last turn that may be copied."""
    mine = turns.c.session_id == source
    if at is None:
        return conn.scalar(select(func.max(turns.c.seq)).where(mine)) or 0
    row = conn.execute(
        select(turns.c.seq, turns.c.state).where(mine, turns.c.id == at)
    ).one_or_none()
    if row is None:
        raise TurnNotFound("the session has no such turn")
    if row.state not in FINAL:
        raise InvalidInput("the turn has not ended", hint="wait for it, or fork at the one before")
    return int(row.seq)


def _history(
    conn: Connection,
    source: SessionId,
    *,
    up_to: int,
    holding: list[tuple[TurnId, TurnId]],
) -> Iterator[ScriptedTurn]:
    """Yield the turns, and note of those that hold files which of them is a copy of which."""
    after = 0
    while page := _page(conn, source, after=after, up_to=up_to):
        for _, rows in groupby(page, key=lambda row: row.seq):
            original = list(rows)
            copy = _turn(original)
            if any(isinstance(part, Attached) for one in copy.messages for part in one.parts):
                holding.append((TurnId(original[0].id), copy.id))
            yield copy
        after = page[-1].seq


def _noting_senders(
    copies: Iterator[ScriptedTurn], fork_id: SessionId, senders: list[dict[str, Any]]
) -> Iterator[ScriptedTurn]:
    """Yield the turns, and note who of several people has said what: names stand in messages."""
    for copy in copies:
        name = sender_of(copy.messages[0].parts)
        if name is not None:
            senders.append({"turn_id": copy.id, "session_id": fork_id, "name": name})
        yield copy


def _page(conn: Connection, source: SessionId, *, after: int, up_to: int) -> list[Any]:
    chosen = (
        # The session is told, too: metadata that is sealed opens in its place alone.
        select(*(turns.c[one] for one in ("id", "session_id", "seq", "metadata", "finished_at")))
        .where(
            turns.c.session_id == source,
            turns.c.state == TurnState.SUCCEEDED,
            turns.c.seq > after,
            turns.c.seq <= up_to,
        )
        .order_by(turns.c.seq)
        .limit(_CHUNK)
        .subquery()
    )
    query = select(chosen, messages.c.role, messages.c.content).join(
        messages, messages.c.turn_id == chosen.c.id
    )
    return list(conn.execute(query.order_by(chosen.c.seq, messages.c.position)))


def _turn(found: Sequence[Any]) -> ScriptedTurn:
    try:
        said = [Message(row.role, parts_from(row.content)) for row in found]
        metadata = dict(plain(found[0].metadata))
    except ODD:
        raise UnreadableRow from None
    return ScriptedTurn(
        id=TurnId(new_id()), messages=said, at=found[0].finished_at, metadata=metadata
    )


def _copy_compaction(
    conn: Connection, source: SessionId, fork_id: SessionId, *, up_to: int
) -> None:
    """Copy the last one that is of copied turns alone; numbers are those of the copies."""
    row = conn.execute(
        select(compactions)
        .where(compactions.c.session_id == source, compactions.c.up_to_seq <= up_to)
        .order_by(compactions.c.n.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return
    copied = conn.scalar(
        select(func.count()).where(
            turns.c.session_id == source,
            turns.c.state == TurnState.SUCCEEDED,
            turns.c.seq <= row.up_to_seq,
        )
    )
    last = conn.scalar(
        select(turns.c.id).where(turns.c.session_id == fork_id, turns.c.seq == copied)
    )
    if last is not None:
        same = {name: row._mapping[name] for name in _COPIED}
        place = f"{fork_id.hex}/1"
        same["summary"] = sealed_in(conn, fork_id, compactions.c.summary, place, row.summary)
        ids = {"session_id": fork_id, "n": 1, "turn_id": last}
        counts = {"up_to_seq": copied, "turns": row.turns}
        conn.execute(insert(compactions).values(**same, **ids, **counts))


def _oldest(conn: Connection, session_id: SessionId) -> datetime | None:
    found: datetime | None = conn.scalar(
        select(func.min(turns.c.finished_at, type_=Timestamp)).where(
            turns.c.session_id == session_id
        )
    )
    return found

"""Compactions: what of a long conversation a model is no longer shown, and what stands for it."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    and_,
    cast,
    func,
    insert,
    literal,
    or_,
    select,
    types,
    update,
)

from turnmill.domain.content import Message, Text, text_of
from turnmill.domain.errors import UnreadableRow
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import CompactionKind, TurnState
from turnmill.domain.summaries import opening
from turnmill.store.codec import StoredHistory, content_of, parts_from
from turnmill.store.compaction_records import CompactionRecord, NewCompaction, SaidTurn, Spoken
from turnmill.store.line.charges import charge_part
from turnmill.store.line.head import lock_sessions
from turnmill.store.readable import ODD, readable
from turnmill.store.records import Claim
from turnmill.store.rules.sealing import sealed_in
from turnmill.store.rules.settling import USED, VerdictValues
from turnmill.store.schema.compaction_tables import compactions
from turnmill.store.schema.named_turns import still_in
from turnmill.store.schema.tables import attempts, messages, sessions, turns


def spoken(conn: Connection, session_id: SessionId) -> Spoken:
    """Return what a model is to be shown: a summary, perhaps, and the turns that it is not of.

    Only whole turns that have succeeded, in order. Raises UnreadableRow.
    """
    last = _last(conn, session_id)
    try:
        said = [
            SaidTurn(seq=seq, messages=[Message(row.role, parts_from(row.content)) for row in rows])
            for seq, rows in groupby(_rows(conn, session_id, last), key=lambda row: row.seq)
        ]
        summary = None if last is None or last.summary is None else _summary(last)
    except ODD:
        raise UnreadableRow from None
    if last is None:
        return Spoken(turns=said)
    return Spoken(turns=said, summary=summary, up_to_seq=last.up_to_seq, left_out=last.turns)


def history_after(conn: Connection, session_id: SessionId) -> StoredHistory:
    """Return the same as messages: what a provider is sent, read by who looks."""
    last = _last(conn, session_id)
    said = [(row.role, row.content) for row in _rows(conn, session_id, last)]
    if last is not None and last.summary is not None:
        try:
            first = opening(_summary(last))
        except ODD:
            raise UnreadableRow from None
        said.insert(0, (first.role, content_of(first.parts)))
    return StoredHistory.of_rows(said)


def keep_compaction(conn: Connection, claim: Claim, made: NewCompaction) -> bool:
    """Write it down, and book what it took with its attempt; False when the turn is not ours.

    The caller's transaction. From here on it is used, whatever becomes of the turn.
    """
    lock_sessions(conn, [claim.session_id])
    v = VerdictValues({name: literal(count) for name, count in made.used()})
    v["cost_usd"] = cast(made.cost_usd, turns.c.cost_usd.type)  # NULL, too, has to have a type
    for name in ("usage", "service_tier", "priced_by"):
        v[name] = literal(getattr(made, name), types.Text())
    mine = and_(still_in(TurnState.RUNNING), turns.c.lease_fence == claim.fence)
    booked = update(turns).where(turns.c.id == claim.turn_id, mine).values(_used(turns, v))
    if conn.execute(booked).rowcount != 1:
        return False
    of_attempt = and_(attempts.c.turn_id == claim.turn_id, attempts.c.fence == claim.fence)
    conn.execute(update(attempts).where(of_attempt).values(_used(attempts, v)))
    if claim.budgeted and made.cost_usd is not None:
        charge_part(conn, claim.turn_id, claim.fence, made.cost_usd)
    of_session = sessions.c.id == claim.session_id
    conn.execute(update(sessions).where(of_session).values(_used(sessions, v)))
    last = select(func.coalesce(func.max(compactions.c.n), 0))
    n = conn.scalars(last.where(compactions.c.session_id == claim.session_id)).one() + 1
    summary = None if made.summary is None else content_of([Text(made.summary)])
    place = f"{claim.session_id.hex}/{n}"
    conn.execute(
        insert(compactions).values(
            session_id=claim.session_id,
            n=n,
            turn_id=claim.turn_id,
            kind=made.kind,
            up_to_seq=made.up_to_seq,
            turns=made.turns,
            summary=sealed_in(conn, claim.session_id, compactions.c.summary, place, summary),
            input_tokens=made.input_tokens,
            output_tokens=made.output_tokens,
            cost_usd=made.cost_usd,
        )
    )
    return True


def compactions_of(conn: Connection, session_id: SessionId) -> list[CompactionRecord]:
    """Return all of the session, oldest first; the last one counts."""
    rows = conn.execute(
        select(compactions).where(compactions.c.session_id == session_id).order_by(compactions.c.n)
    )
    return list(readable(rows, _record))


def _used(table: Any, v: VerdictValues) -> dict[str, Any]:
    return {name: more(table.c, v) for name, more in USED[table].items()}


def _last(conn: Connection, session_id: SessionId) -> Row[Any] | None:
    return conn.execute(
        select(compactions)
        .where(compactions.c.session_id == session_id)
        .order_by(compactions.c.n.desc())
        .limit(1)
    ).one_or_none()


def _rows(conn: Connection, session_id: SessionId, last: Row[Any] | None) -> Iterator[Any]:
    """Yield (seq, role, content) of what is not left out.

    A turn that failed, and was run again later, stands before others and was in no summary.
    """
    query = (
        select(turns.c.seq, messages.c.role, messages.c.content)
        .join(turns, turns.c.id == messages.c.turn_id)
        .where(turns.c.session_id == session_id, turns.c.state == TurnState.SUCCEEDED)
        .order_by(turns.c.seq, messages.c.position)
    )
    if last is not None:
        later = turns.c.finished_at > last.created_at
        query = query.where(or_(turns.c.seq > last.up_to_seq, later))
    yield from conn.execute(query)


def _summary(row: Row[Any]) -> str:
    return text_of(parts_from(row.summary))


def _record(row: Row[Any]) -> CompactionRecord:
    values = dict(row._mapping)
    return CompactionRecord(
        **values
        | {
            "turn_id": TurnId(row.turn_id),
            "session_id": SessionId(row.session_id),
            "kind": CompactionKind(row.kind),
            "summary": None if row.summary is None else _summary(row),
        }
    )

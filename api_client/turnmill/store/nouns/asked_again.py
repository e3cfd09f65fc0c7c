"""Turns that are asked again, in sessions of their own: with the history as it stood for each.

What the first one was shown is copied: turns that had succeeded by then, or what a compaction of
then has left of them, and its own messages. The session that it belongs to is not touched, nor is
it waited for: until the copies stand, it cannot be removed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from turnmill.domain.content import Attached, Message
from turnmill.domain.errors import TurnNotFound
from turnmill.domain.ids import SessionId, TurnId, as_uuid
from turnmill.domain.session_settings import OBSERVERS, merged_settings
from turnmill.domain.states import CompactionKind, Lane, SessionStatus, TurnState
from turnmill.domain.targets import FALLBACK
from turnmill.new_ids import new_id
from turnmill.store.batch_records import BatchRecord
from turnmill.store.codec import parts_from
from turnmill.store.line.accept_many import accept_many
from turnmill.store.line.attached import use_again
from turnmill.store.line.start_many import start_many
from turnmill.store.nouns import sessions as session_rows
from turnmill.store.nouns.scripted import ScriptedTurn, start_scripted
from turnmill.store.readable import ODD
from turnmill.store.records import Accepted, Item, NewSession, NewTurn, SessionRecord, Start
from turnmill.store.rules.sealing import sealed_in
from turnmill.store.schema.compaction_tables import compactions
from turnmill.store.schema.tables import messages, sessions, turns
from turnmill.store.vaults import plain

#: What a line says of the turn that is asked again.
AGAIN = "again"
#: Settings that are not taken along: who else answers or is told, and threads that vendors keep.
NOT_TAKEN = (FALLBACK, OBSERVERS, "tools", "max_tool_rounds", "thread")
#: Why a line came to no turn, besides that its own is gone.
CONTENT_GONE, UNFAITHFUL = "content_gone", "history_unfaithful"


@dataclass(frozen=True, slots=True)
class Copied:
    """What was made of lines."""

    accepted: Sequence[Accepted]
    dropped: Mapping[int, str]  #: line → why no turn could be made of it


@dataclass(slots=True)
class _Copy:
    """One turn that is asked again."""

    session: NewSession
    turn: NewTurn
    before: Sequence[ScriptedTurn]
    holding: Sequence[tuple[TurnId, TurnId]]  #: whose files are used again by which
    summary: Any = field(default=None, repr=False)  #: the row of the compaction that it was shown


class _Left(Exception):
    """No turn can be made of a line."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def is_again(row: Any) -> bool:
    """Tell whether a line asks a stored turn again."""
    return AGAIN in row.content


def ask_again(conn: Connection, batch: BatchRecord, rows: Sequence[Any]) -> Copied:
    """Make sessions and turns of lines that ask stored turns again. The caller's transaction."""
    if not rows:
        return Copied([], {})
    found = _held(conn, [as_uuid(row.content[AGAIN]) for row in rows])
    copies: list[_Copy] = []
    dropped: dict[int, str] = {}
    for row in rows:
        turn = found.get(as_uuid(row.content[AGAIN]))
        try:
            if turn is None:
                raise _Left(TurnNotFound.code)
            copies.append(_copied(conn, batch, row, turn))
        except _Left as left:
            dropped[row.line] = left.code
    return Copied(_written(conn, copies), dropped)


def _held(conn: Connection, turn_ids: Sequence[Any]) -> dict[Any, Any]:
    """Return the turns that are still there; until the transaction ends nobody removes them."""
    of = select(turns.c.session_id).where(turns.c.id.in_(turn_ids))
    held = select(sessions.c.id).where(
        sessions.c.id.in_(of), sessions.c.status != SessionStatus.DELETED
    )
    # Turns of theirs go on meanwhile: this lock is in nobody's way but who removes them.
    locked = conn.scalars(held.order_by(sessions.c.id).with_for_update(read=True, key_share=True))
    mine = turns.c.session_id.in_(locked.all())
    wanted = (
        turns.c.id,
        turns.c.session_id,
        turns.c.seq,
        turns.c.finished_at,
        turns.c.max_attempts,
    )
    rows = conn.execute(
        select(*wanted).where(mine, turns.c.id.in_(turn_ids), turns.c.state == TurnState.SUCCEEDED)
    )
    return {row.id: row for row in rows}


def _copied(conn: Connection, batch: BatchRecord, row: Any, turn: Any) -> _Copy:
    source = session_rows.get(conn, SessionId(turn.session_id))
    gone = source.content_gone_until
    if gone is not None and gone >= turn.finished_at:
        raise _Left(CONTENT_GONE)
    made = NewTurn(
        id=TurnId(new_id()),
        messages=_said(conn, turn),
        lane=Lane.BULK,
        max_attempts=turn.max_attempts,
        batch_id=batch.id,
        batch_line=row.line,
        custom_id=row.custom_id,
    )
    last = _compaction(conn, turn)
    before = list(_before(conn, turn, last))
    holding = [(original, copy.id) for original, copy in before if _holds_files(copy.messages)]
    if _holds_files(made.messages):
        holding.append((TurnId(turn.id), made.id))
    return _Copy(
        session=_session(batch, row, source),
        turn=made,
        before=[copy for _, copy in before],
        holding=holding,
        summary=last,
    )


def _session(batch: BatchRecord, row: Any, source: SessionRecord) -> NewSession:
    kept = {name: one for name, one in source.settings.items() if name not in NOT_TAKEN}
    return NewSession(
        id=SessionId(new_id()),
        key=f"trial:{batch.id}:{row.line}",
        user_id=source.user_id,
        provider=batch.defaults["provider"],
        model=batch.defaults["model"],
        system_prompt=source.system_prompt,
        settings=merged_settings(kept, batch.settings),
        # Tags of its user's budgets are not taken along: the trial has a budget of its own.
        metadata={"trial": batch.metadata["trial"]},
        on_ambiguous=source.on_ambiguous,
        max_attempts=source.max_attempts,
        keep_content=source.keep_content,
        key_id=source.key_id,
    )


def _said(conn: Connection, turn: Any) -> Sequence[Message]:
    """Return what was said in the turn before anybody answered."""
    rows = conn.execute(
        select(messages.c.role, messages.c.content, messages.c.final)
        .where(messages.c.turn_id == turn.id, ~messages.c.partial, messages.c.position >= 0)
        .order_by(messages.c.position)
    ).all()
    asked = [row for row in rows if row.role in ("user", "system")]
    if len(asked) + 1 != len(rows) or not rows[-1].final:
        raise _Left(UNFAITHFUL)  # it took several steps
    return [_message(row) for row in asked]


def _message(row: Any) -> Message:
    try:
        parts = parts_from(plain(row.content))
    except ODD:
        raise _Left(UNFAITHFUL) from None
    if not parts:
        raise _Left(CONTENT_GONE)
    return Message(row.role, parts)


def _compaction(conn: Connection, turn: Any) -> Any:
    """Return the row of what had been left out of the history by then; None where nothing had."""
    row = conn.execute(
        select(compactions)
        .where(
            compactions.c.session_id == turn.session_id,
            compactions.c.up_to_seq < turn.seq,
            compactions.c.created_at <= turn.finished_at,
        )
        .order_by(compactions.c.n.desc())
        .limit(1)
    ).one_or_none()
    if row is not None and row.kind == CompactionKind.SUMMARISE and plain(row.summary) is None:
        raise _Left(CONTENT_GONE)
    return row


def _before(conn: Connection, turn: Any, last: Any) -> Iterator[tuple[TurnId, ScriptedTurn]]:
    """Yield the turns that it was shown, each with that which it is a copy of."""
    shown = [
        turns.c.session_id == turn.session_id,
        turns.c.state == TurnState.SUCCEEDED,
        turns.c.seq < turn.seq,
        turns.c.finished_at <= turn.finished_at,  # not what failed, and was retried later
    ]
    if last is not None:
        later = turns.c.finished_at > last.created_at
        shown.append(or_(turns.c.seq > last.up_to_seq, later))
    rows = conn.execute(
        select(turns.c.id, turns.c.seq, turns.c.finished_at, messages.c.role, messages.c.content)
        .join(messages, and_(messages.c.turn_id == turns.c.id, ~messages.c.partial))
        .where(*shown)
        .order_by(turns.c.seq, messages.c.position)
    )
    for _, of_turn in groupby(rows, key=lambda row: row.seq):
        said = list(of_turn)
        copy = ScriptedTurn(
            id=TurnId(new_id()), messages=[_message(row) for row in said], at=said[0].finished_at
        )
        yield TurnId(said[0].id), copy


def _holds_files(said: Sequence[Message]) -> bool:
    return any(isinstance(part, Attached) for one in said for part in one.parts)


def _written(conn: Connection, copies: Sequence[_Copy]) -> Sequence[Accepted]:
    starts: list[Start] = [(one.session, one.turn) for one in copies if not one.before]
    later: list[Item] = [(one.session.id, one.turn) for one in copies if one.before]
    accepted = start_many(conn, starts)
    start_scripted(conn, [(one.session, one.before) for one in copies if one.before])
    accepted += accept_many(conn, later)
    for one in copies:
        for original, copy in one.holding:
            use_again(conn, original, one.session.id, copy)
        if one.summary is not None:
            _keep_summary(conn, one)
    _note_ages(conn, [one.session.id for one in copies if one.before])
    return accepted


def _keep_summary(conn: Connection, copy: _Copy) -> None:
    """Let it stand for what the copy begins after."""
    row, session_id = copy.summary, copy.session.id
    place = f"{session_id.hex}/1"
    summary = sealed_in(conn, session_id, compactions.c.summary, place, row.summary)
    conn.execute(
        insert(compactions).values(
            session_id=session_id,
            n=1,
            turn_id=copy.turn.id,
            kind=row.kind,
            up_to_seq=0,
            turns=row.turns,
            summary=summary,
            created_at=row.created_at,
        )
    )


def _note_ages(conn: Connection, session_ids: Sequence[SessionId]) -> None:
    """Write down how old what was said there is, by which it is taken out again."""
    oldest = (
        select(func.min(turns.c.finished_at))
        .where(turns.c.session_id == sessions.c.id)
        .scalar_subquery()
    )
    mine = sessions.c.id.in_(list(session_ids))
    conn.execute(update(sessions).where(mine).values(content_from=oldest))

"""Turns are made of the lines of a sealed batch, in order, and only so many at a time.

What a line says stands in its `content`, which goes as soon as its turns stand:

    text      one message of the user's; or
    said      [[[role, parts], …], …]: of each turn that is to be answered, what is said in it
    before    [[[role, parts], …], …]: turns that were had elsewhere
    metadata  of its turns
    provider, model, system_prompt, settings: of its session, where it has one of its own

or, of a trial, which stored turn is asked again:

    again     its id
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, case, func, select, update

from turnmill.domain.batches import LineState
from turnmill.domain.content import Message, Text
from turnmill.domain.ids import BatchId, SessionId, TurnId, as_uuid
from turnmill.domain.reply_limits import laid_over
from turnmill.domain.states import FOR_BUDGET, Lane, OnFailure, TurnState
from turnmill.new_ids import new_id
from turnmill.store.batch_records import BatchRecord, Fed
from turnmill.store.codec import parts_from
from turnmill.store.line.accept_many import accept_many
from turnmill.store.line.start_many import start_many
from turnmill.store.line.unfed import ENDING, unfed
from turnmill.store.nouns import batch_reserving
from turnmill.store.nouns.asked_again import ask_again, is_again
from turnmill.store.nouns.batch_counts import is_open
from turnmill.store.nouns.batch_line_files import holds_files, note_files, without_their_files
from turnmill.store.nouns.batch_reuse import take_answers
from turnmill.store.nouns.batches import open_sessions, record_of
from turnmill.store.nouns.scripted import ScriptedTurn, start_scripted
from turnmill.store.postgres.batching import park
from turnmill.store.records import Accepted, Head, Item, NewSession, NewTurn, Start
from turnmill.store.rules.tallies import DROPPED, count_lines
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.tables import batches, turns
from turnmill.store.vaults import plain

#: So many turns of a batch, about, are unfinished at a time: the others are lines yet.
WINDOW = 5000
#: ... beside those that no budget has room for: so many times as many, and no more.
PUT_OFF = 4
#: Lines that are fed in one transaction.
AT_ONCE = 500
#: Of what lines of one chunk say, in estimated tokens.
_MOST_WEIGHT = 4_000_000


def to_feed(conn: Connection, *, limit: int = 1000) -> list[BatchId]:
    """Return batches that are to be fed, oldest first."""
    found = unfed().with_only_columns(batches.c.id).order_by(batches.c.id).limit(limit)
    return [BatchId(one) for one in conn.scalars(found)]


def feed(conn: Connection, batch_id: BatchId, *, limit: int = AT_ONCE, window: int = WINDOW) -> Fed:
    """Make turns of up to `limit` lines, in one commit with how far that is.

    Nothing is made where somebody else does so at this moment, or enough turns are unfinished. The
    lines of a batch that is over are dropped.
    """
    query = unfed().where(batches.c.id == batch_id)
    row = conn.execute(query.with_for_update(key_share=True, skip_locked=True)).one_or_none()
    if row is None:
        return Fed(0, [], more=False)
    batch = record_of(row, opens=False)
    if batch.state in ENDING:
        return _drop_rest(conn, batch, limit=limit)
    room = _room(conn, batch, window=window)
    lines = _next(conn, batch, limit=min(limit, room)) if room > 0 else []
    if not lines:
        if room > 0:  # what is left of the lines went with their sessions or users
            batch_reserving.release(conn, batch.id, None)
            _note_fed(conn, batch, batch.last_line)
        return Fed(0, [], more=False)
    held = _held_for(conn, batch, lines)
    accepted = _make(conn, batch, lines)
    batch_reserving.release(conn, batch.id, held)
    _note_fed(conn, batch, lines[-1].line)
    heads = [
        Head(turn_id=one.turn_id, session_id=one.session_id, lane=Lane.BULK)
        for one in accepted
        if one.announce
    ]
    more = room > len(lines) and lines[-1].line < batch.last_line
    return Fed(len(lines), heads, more=more)


def drop_next(conn: Connection, batch_id: BatchId, *, error_code: str) -> bool:
    """Let the next line come to nothing, of which no turn can be made; False where none is left."""
    query = unfed().where(batches.c.id == batch_id)
    row = conn.execute(query.with_for_update(key_share=True, skip_locked=True)).one_or_none()
    if row is None:
        return False
    batch = record_of(row, opens=False)
    lines = _next(conn, batch, limit=1)
    if not lines:
        return False
    batch_reserving.release(conn, batch.id, _held_for(conn, batch, lines))
    _drop(conn, batch, [lines[0].line], error_code)
    _note_fed(conn, batch, lines[0].line)
    return True


def park_next(conn: Connection, batch_id: BatchId, *, limit: int = AT_ONCE) -> int:
    """Make turns of the next lines that wait for a batch of their vendor's; return of how many.

    0: there are none left, somebody else makes some at this moment, or the batch does not run.
    """
    query = unfed(native=True).where(batches.c.id == batch_id)
    row = conn.execute(query.with_for_update(key_share=True, skip_locked=True)).one_or_none()
    if row is None:
        return 0
    batch = record_of(row, opens=False)
    lines = _next(conn, batch, limit=limit)
    held = _held_for(conn, batch, lines)
    park(conn, [one.turn_id for one in _make(conn, batch, lines)])
    batch_reserving.release(conn, batch.id, held)
    _note_fed(conn, batch, lines[-1].line if lines else batch.last_line)
    return len(lines)


def _held_for(
    conn: Connection, batch: BatchRecord, lines: Sequence[Any]
) -> dict[UUID, Decimal] | None:
    """Return what each budget holds for these lines; None: all, since no line is left behind them.

    It may be for more than they are: of lines that went with their users.
    """
    numbers = [row.line for row in lines]
    if not numbers or numbers[-1] >= batch.last_line:
        return None
    return batch_reserving.held_for(conn, batch.id, numbers)


def _room(conn: Connection, batch: BatchRecord, *, window: int) -> int:
    """Return how many turns more may be unfinished; those that wait for a budget do not count.

    Others have room, whose lines come later. Where nobody has a budget, no row is read.
    """
    left = select(turns.c.id).where(is_open(batch.id)).limit(window)
    unfinished: int = conn.scalar(select(func.count()).select_from(left.subquery())) or 0
    if unfinished < window or not batch_reserving.any_binds(conn):
        return window - unfinished
    waits = and_(turns.c.waits_for == FOR_BUDGET, turns.c.state != TurnState.RUNNING)
    most = window * (1 + PUT_OFF)
    some = select(case((waits, 1), else_=0).label("waits")).where(is_open(batch.id)).limit(most)
    found = some.subquery()
    sums = select(func.count(), func.coalesce(func.sum(found.c.waits), 0))
    every, waiting = map(int, conn.execute(sums).one())
    return min(window - (every - waiting), most - every)


def _next(conn: Connection, batch: BatchRecord, *, limit: int) -> Sequence[Any]:
    """Return the next lines that were not fed, and not more than are held in memory at once."""
    mine = (
        batch_lines.c.batch_id == batch.id,
        batch_lines.c.line > batch.fed_line,
        batch_lines.c.state == LineState.STAGED,
    )
    ahead = conn.execute(
        select(batch_lines.c.line, batch_lines.c.weight)
        .where(*mine)
        .order_by(batch_lines.c.line)
        .limit(limit)
    ).all()
    if not ahead:
        return []
    last, weight = ahead[0].line, 0
    for row in ahead:
        weight += row.weight
        if weight > _MOST_WEIGHT:
            break
        last = row.line
    query = select(batch_lines).where(*mine, batch_lines.c.line <= last)
    found = conn.execute(query.order_by(batch_lines.c.line)).all()
    for row in found:
        plain(row.content)  # raises where it cannot be opened: the lines wait for the key
    return found


def _make(conn: Connection, batch: BatchRecord, lines: Sequence[Any]) -> list[Accepted]:
    """Make the turns of lines, and note which turn is whose."""
    if batch.reuse:
        known = take_answers(conn, batch.id, batch.user_id, [row.line for row in lines if row.key])
        lines = [row for row in lines if row.line not in known]
    if lost := without_their_files(conn, lines):
        _drop(conn, batch, sorted(lost), "attachment_not_found")
        lines = [row for row in lines if row.line not in lost]
    if not lines:
        return []
    of_sessions = [row for row in lines if row.session is not None]
    ids = {SessionId(found) for row in of_sessions if (found := as_uuid(row.session))}
    is_open = open_sessions(conn, ids) if ids else {}
    gone = [row.line for row in of_sessions if as_uuid(row.session) not in is_open]
    if gone:
        _drop(conn, batch, gone, "session_not_found")
    own = [row for row in lines if row.session is None]
    accepted = _start(conn, batch, [row for row in own if not is_again(row)])
    again = ask_again(conn, batch, [row for row in own if is_again(row)])
    for line, code in again.dropped.items():
        _drop(conn, batch, [line], code)
    accepted += again.accepted
    appended = [row for row in of_sessions if as_uuid(row.session) in is_open]
    accepted += accept_many(conn, [one for row in appended for one in _appended(batch, row)])
    if any(map(holds_files, lines)):
        note_files(conn, accepted)
    _mark_fed(conn, batch, first=lines[0].line, last=lines[-1].line)
    return accepted


def _mark_fed(conn: Connection, batch: BatchRecord, *, first: int, last: int) -> None:
    """Note which turn is whose; what the lines held stands in their turns now."""
    turn = select(turns.c.id).where(
        turns.c.batch_id == batch_lines.c.batch_id, turns.c.batch_line == batch_lines.c.line
    )
    conn.execute(
        update(batch_lines)
        .where(
            batch_lines.c.batch_id == batch.id,
            batch_lines.c.line.between(first, last),
            batch_lines.c.state == LineState.STAGED,
        )
        .values(
            state=LineState.FED.value,
            content=None,
            metadata=None,
            turn_id=turn.scalar_subquery(),
        )
    )


def _start(conn: Connection, batch: BatchRecord, lines: Sequence[Any]) -> list[Accepted]:
    """Make sessions for lines that have one of their own; most have one message, and no history."""
    starts: list[Start] = []
    later: list[Item] = []
    talks: list[tuple[NewSession, Sequence[ScriptedTurn]]] = []
    for row in lines:
        session = _session(batch, row)
        first, *others = _turns(batch, row)
        before = [_scripted(one) for one in row.content.get("before", ())]
        if before:
            talks.append((session, before))
            later.append((session.id, first))
        else:
            starts.append((session, first))
        later += [(session.id, one) for one in others]
    accepted = start_many(conn, starts)
    start_scripted(conn, talks)
    return accepted + accept_many(conn, later)


def _session(batch: BatchRecord, row: Any) -> NewSession:
    said, defaults = row.content, batch.defaults
    return NewSession(
        id=SessionId(new_id()),
        key=f"batch:{batch.id}:{row.line}",
        user_id=row.user_id,
        provider=said.get("provider") or defaults["provider"],
        model=said.get("model") or defaults["model"],
        system_prompt=said.get("system_prompt"),
        # Each of several messages is answered on the reply before it, or not at all.
        on_failure=OnFailure.PAUSE if len(said.get("said", ())) > 1 else OnFailure.CONTINUE,
        settings=laid_over(batch.settings, said.get("settings", {})),
    )


def _turns(batch: BatchRecord, row: Any) -> Iterator[NewTurn]:
    """Yield the turns of a line. The last one's ending is the line's, and has its number."""
    content = row.content
    said = [_messages(one) for one in content.get("said", ())]
    said = said or [(Message("user", (Text(content["text"]),)),)]
    for n, messages in enumerate(said, 1):
        yield NewTurn(
            id=TurnId(new_id()),
            messages=messages,
            lane=Lane.BULK,
            metadata=content.get("metadata", {}),
            batch_id=batch.id,
            batch_line=row.line if n == len(said) else None,
            custom_id=row.custom_id,
        )


def _appended(batch: BatchRecord, row: Any) -> Iterator[Item]:
    session_id = as_uuid(row.session)
    assert session_id is not None
    for turn in _turns(batch, row):
        yield SessionId(session_id), turn


def _messages(said: Sequence[Any]) -> tuple[Message, ...]:
    return tuple(Message(role, parts_from(parts)) for role, parts in said)


def _scripted(said: Sequence[Any]) -> ScriptedTurn:
    return ScriptedTurn(id=TurnId(new_id()), messages=_messages(said))


def _drop_rest(conn: Connection, batch: BatchRecord, *, limit: int) -> Fed:
    """Let lines of a batch that is over come to nothing: what they say goes."""
    mine = batch_lines.c.batch_id == batch.id, batch_lines.c.line > batch.fed_line
    query = select(batch_lines.c.line).where(*mine).order_by(batch_lines.c.line)
    lines = list(conn.scalars(query.limit(limit)))
    batch_reserving.release(conn, batch.id, None)
    if lines:
        _drop(conn, batch, lines, batch.state.value)
    _note_fed(conn, batch, lines[-1] if lines else batch.last_line)
    return Fed(len(lines), [], more=bool(lines))


def _drop(conn: Connection, batch: BatchRecord, lines: Sequence[int], code: str) -> None:
    nothing = {"content": None, "metadata": None, "key": None}
    done = conn.execute(
        update(batch_lines)
        .where(
            batch_lines.c.batch_id == batch.id,
            batch_lines.c.line.in_(lines),
            batch_lines.c.state == LineState.STAGED,
        )
        .values(state=LineState.DROPPED.value, error_code=code, **nothing)
    ).rowcount
    if done:
        count_lines(conn, batch.id, DROPPED, done, error_code=code)


def _note_fed(conn: Connection, batch: BatchRecord, line: int) -> None:
    conn.execute(update(batches).where(batches.c.id == batch.id).values(fed_line=line))

"""What turns have come to, in figures: added up from their rows, and kept when those go."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy import true as always

from turnmill.domain.ids import SessionId
from turnmill.domain.states import ENDINGS, FINAL, TurnState
from turnmill.new_ids import new_id
from turnmill.store.dollars import Dollars
from turnmill.store.rules.buckets import bucket_between, bucket_of, listed, slot_of
from turnmill.store.rules.figure_lines import (
    MOST_COUNTED,
    MOST_DOLLARS,
    Key,
    Line,
    counted,
    joined,
    row_of,
)
from turnmill.store.rules.used import ANSWERED, has_used
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.rollup_tables import (
    DOLLARS,
    FIGURES,
    LATENCIES,
    buckets_of,
    rollup_marks,
    rollup_state,
    rollups_gone,
)
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.vaults import plain

#: Outcomes of a claim that came to no request.
#: Nothing was sent, or its step was finished and the next one is no second try.
_NO_TRY = ("released", "not_now", "called")
_LONGEST_TAG = 100
#: So many rows of one line are kept of what is gone before they are joined.
MOST_KEPT = 8
_AT_ONCE = 1_000  # slots that a statement names
#: Columns of a session that its turns are told apart by.
TOLD_APART_BY = ("provider", "model", "metadata")
_LINE = (*Key._fields, *FIGURES, *(name for name, _ in map(buckets_of, LATENCIES)))
_STATES = ("succeeded", "failed", "dead", "cancelled", "expired")


def is_scripted() -> ColumnElement[bool]:
    """Return which turns have a reply that nobody was asked for: no worker ever claimed them."""
    return and_(turns.c.state == TurnState.SUCCEEDED.value, turns.c.claims == 0)


def is_ending() -> ColumnElement[bool]:
    """Return which events tell that a turn has ended."""
    return events.c.kind.in_([kind.value for kind in ENDINGS])


def lines_of(
    *which: ColumnElement[bool], one_by_one: Select[Any] | None = None, tag: str = ""
) -> Select[Any]:
    """Select what these turns have come to, as far as they have ended.

    A turn is counted where it was answered, else with its session's own; what an attempt took is,
    where that attempt was made. `tag` is a key of sessions' metadata. Times are buckets.
    `one_by_one` selects ids of turns to be looked up each by itself, however large the tables are.
    """
    ended = _ended(which, tag) if one_by_one is None else _each_ended(one_by_one, which, tag)
    asked = _asked(ended, one_by_one=one_by_one is not None)
    of_asked = select(*(asked.c[name] for name in _LINE))
    return select(union_all(of_asked, _unanswered(ended, asked)).subquery("lines"))


def added_up(lines: Select[Any]) -> Select[Any]:
    """Select one line for each key: sums, and of times all buckets."""
    c = lines.subquery("all_lines").c
    by = [c[name] for name in Key._fields]
    sums = (_bounded_sum(c[name]) for name in FIGURES)
    times = (listed(c[name]).label(name) for name, _ in map(buckets_of, LATENCIES))
    return select(*by, *sums, *times).group_by(*by)


def kept_tag(conn: Connection) -> str:
    """Return the key of sessions' metadata that figures are told apart by; "" for none."""
    return conn.scalar(select(rollup_state.c.tag)) or ""


def keep_figures(conn: Connection, session_ids: Collection[SessionId]) -> None:
    """Write down what the turns of these sessions have come to: their rows are being removed.

    In the same transaction, so that whoever adds up finds each of them once. Where an ending was
    not folded in yet, its slot is marked: nobody finds the turn any more.
    """
    mine = turns.c.session_id.in_(list(session_ids))
    found = conn.execute(_of_sessions(kept_tag(conn)), {"removed": list(session_ids)})
    lines = joined(counted(row) for row in found.mappings())
    keep_lines(conn, lines)
    _mark_crowded(conn, sorted({one.key.slot for one in lines}))
    place = select(func.coalesce(func.max(rollup_state.c.place), -1)).scalar_subquery()
    pending = select(events.c.turn_id).where(
        events.c.session_id.in_(list(session_ids)),
        or_(events.c.place.is_(None), events.c.place > place),
        is_ending(),
    )
    mark_slots(conn, turns.c.id.in_(pending), mine)


@lru_cache(maxsize=16)
def _of_sessions(tag: str) -> Any:
    """Return the statement of what sessions have come to: to word it takes longer than to do it."""
    mine = turns.c.session_id.in_(bindparam("removed", expanding=True))
    return added_up(lines_of(mine, tag=tag))


def keep_lines(conn: Connection, lines: Sequence[Line]) -> None:
    """Write down what came of rows that are gone."""
    if lines:
        conn.execute(insert(rollups_gone), [{"id": new_id(), **row_of(line)} for line in lines])


def _mark_crowded(conn: Connection, slots: Sequence[datetime]) -> None:
    """Mark those where a line is kept in more rows than a few: who adds up joins them again."""
    by = [rollups_gone.c[name] for name in Key._fields]
    many = select(*by).group_by(*by).having(func.count() > MOST_KEPT)
    crowded: set[datetime] = set()
    for start in range(0, len(slots), _AT_ONCE):
        some = many.where(rollups_gone.c.slot.in_(slots[start : start + _AT_ONCE])).subquery()
        crowded.update(conn.scalars(select(some.c.slot).distinct()))
    if crowded:
        conn.execute(insert(rollup_marks), [{"id": new_id(), "slot": slot} for slot in crowded])


def mark_slots(conn: Connection, *which: ColumnElement[bool]) -> None:
    """Have the slots added up again in which these turns have ended: something of them changes.

    Before it does, where it is when they have ended.
    """
    ended = select(slot_of(turns.c.finished_at)).where(*which, turns.c.state.in_(FINAL))
    slots = conn.scalars(ended.distinct()).all()
    if slots:
        conn.execute(insert(rollup_marks), [{"id": new_id(), "slot": slot} for slot in slots])


def mark_now(conn: Connection, slot: datetime) -> None:
    """Have this slot added up again: something was kept of it just now."""
    conn.execute(insert(rollup_marks), [{"id": new_id(), "slot": slot}])


def mark_moved(conn: Connection, session_id: SessionId, columns: Mapping[str, Any]) -> None:
    """Mark what its turns have ended in where columns of a session become others that tell apart.

    The caller's transaction holds its lock.
    """
    of_session = select(*(sessions.c[name] for name in TOLD_APART_BY))
    before = conn.execute(of_session.where(sessions.c.id == session_id)).mappings().first()
    if before is None:
        return
    changed = {one for one in TOLD_APART_BY if one in columns and columns[one] != before[one]}
    if not changed:
        return
    tag = kept_tag(conn)
    was, becomes = plain(before["metadata"]).get(tag), columns.get("metadata", {}).get(tag)
    if changed.isdisjoint(("provider", "model")) and (not tag or was == becomes):
        return
    mark_slots(conn, turns.c.session_id == session_id)


def _ended(which: Collection[ColumnElement[bool]], tag: str) -> Any:
    """Select turns of which this is so, and their sessions."""
    of_session = sessions.c.id == turns.c.session_id
    return _rows_of(which, tag).select_from(turns.join(sessions, of_session)).cte("ended")


def _each_ended(ids: Select[Any], which: Collection[ColumnElement[bool]], tag: str) -> Any:
    wanted = ids.subquery("wanted")
    # With a limit, a planner does not read the whole table where it takes that for cheaper.
    each = _rows_of((turns.c.id == wanted.c.turn_id, *which), tag).limit(1).lateral("each_turn")
    return select(each).join_from(wanted, each, always()).cte("ended")


def _rows_of(which: Collection[ColumnElement[bool]], tag: str) -> Select[Any]:
    columns = (
        *(turns.c.id, turns.c.session_id, turns.c.state, turns.c.lane),
        *(turns.c.lease_fence, turns.c.claims, tag_of(tag).label("tag")),
        slot_of(turns.c.finished_at).label("slot"),
        bucket_between(turns.c.created_at, turns.c.started_at).label("queued"),
        bucket_between(turns.c.created_at, turns.c.finished_at).label("total"),
    )
    return select(*columns).where(*which, turns.c.state.in_(FINAL), ~is_scripted())


def tag_of(key: str) -> ColumnElement[str]:
    """Return what the session of a turn has under this key of its metadata; "" for none."""
    if not key:
        return literal("")
    own = sessions.alias("own")
    said = func.substr(own.c.metadata[key].as_string(), 1, _LONGEST_TAG)
    mine = select(said).where(own.c.id == turns.c.session_id).scalar_subquery()
    return func.coalesce(mine, "")


def _of_session(name: str, ended: Any) -> Any:
    """Return what the session of a turn says; where attempts say it themselves, none is asked."""
    own = sessions.alias("own")
    return select(own.c[name]).where(own.c.id == ended.c.session_id).scalar_subquery()


def _asked(ended: Any, *, one_by_one: bool) -> Any:
    """Select each attempt, what it has used and of whom; an older one does not say of whom.

    The one that answered its turn brings what the turn has come to: `is_last` says which.
    """
    made: Any = attempts
    if one_by_one:
        made = select(attempts).where(attempts.c.turn_id == ended.c.id).offset(0).lateral("made")
    a = made.c
    # One that used nothing has no price to be known; of an unknown number it is not known.
    unpriced = a.cost_usd.is_(None) & has_used(a)
    answered = a.outcome.in_(ANSWERED)
    is_last = and_(a.fence == ended.c.lease_fence, ended.c.state == TurnState.SUCCEEDED)
    said = {
        **dict.fromkeys(("turns", "succeeded"), _one_if(is_last)),
        "queued_buckets": case((is_last, ended.c.queued)),
        "total_buckets": case((is_last, ended.c.total)),
        "attempts": literal(1),
        "retries": _one_if(_is_retry(ended, a)),
        "steps": _one_if(a.outcome == "called"),
        **{name: a[name] for name in _TOKENS},
        "cost_usd": a.cost_usd,
        "waste_usd": case((~answered, a.cost_usd)),
        "unpriced_attempts": _one_if(unpriced),
        "provider_buckets": bucket_of(case((answered, a.provider_ms))),
        "first_token_buckets": bucket_of(case((answered, a.first_token_ms))),
    }
    named = select(
        ended.c.slot,
        func.coalesce(a.provider, _of_session("provider", ended)).label("provider"),
        func.coalesce(a.asked_model, _of_session("model", ended)).label("model"),
        func.coalesce(a.service_tier, "").label("tier"),
        *(ended.c.lane, ended.c.tag),
        *_columns(said),
        *(ended.c.id.label("turn_id"), is_last.label("is_last")),
    )
    return named.join_from(ended, made, a.turn_id == ended.c.id).cte("asked")


_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens")


def _is_retry(ended: Any, a: Any) -> ColumnElement[bool]:
    """Return which attempts sent something that had been sent before; most turns have one alone."""
    earlier = attempts.alias("earlier")
    sent_before = select(literal(1)).where(
        earlier.c.turn_id == a.turn_id,
        earlier.c.fence < a.fence,
        earlier.c.kind == "send",
        earlier.c.outcome.not_in(_NO_TRY),
    )
    sent = and_(a.kind == "send", a.outcome.not_in(_NO_TRY))
    return (
        case((ended.c.claims == 1, literal(0)), (and_(sent, sent_before.exists()), 1), else_=0) == 1
    )


def _unanswered(ended: Any, asked: Any) -> Select[Any]:
    """Select what each turn has come to that no attempt has answered: it is its session's own."""
    said: dict[str, Any] = {"turns": literal(1)}
    said |= {state: _one_if(ended.c.state == state) for state in _STATES}
    said |= {"queued_buckets": ended.c.queued, "total_buckets": ended.c.total}
    own = (_of_session(name, ended) for name in ("provider", "model"))
    keys = (ended.c.slot, *own, literal(""), ended.c.lane, ended.c.tag)
    answered = select(asked.c.turn_id).where(asked.c.is_last)
    return select(*keys, *_columns(said)).where(ended.c.id.not_in(answered))


def _columns(said: dict[str, Any]) -> list[Any]:
    """Return all figures and times, those that are not said as nothing."""
    figures = (
        said.get(name, null() if name in DOLLARS else literal(0)).label(name) for name in FIGURES
    )
    times = (said.get(name, null()).label(name) for name, _ in map(buckets_of, LATENCIES))
    return [*figures, *times]


def _one_if(condition: Any) -> Any:
    return case((condition, 1), else_=0)


def _bounded_sum(column: Any) -> Any:
    """Return the sum as far as the table can hold it: one absurd row must not stop the figures."""
    total, most = func.coalesce(func.sum(column), 0), most_of(column.name)
    return case((total > most, most), else_=total).label(column.name)


def most_of(name: str) -> Any:
    """Return the most that a column of figures holds."""
    if name in DOLLARS:
        return literal(MOST_DOLLARS, Dollars())
    return literal(MOST_COUNTED, BigInteger)

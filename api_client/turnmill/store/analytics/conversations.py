"""What conversations came to: one session, or all of a user's in a span of time, read by index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, or_, select

from turnmill.domain.ids import SessionId
from turnmill.domain.states import FINAL, SessionStatus, TurnState
from turnmill.store.analytics.spans import Spread, ms_between, quarter_of, spread_of
from turnmill.store.line.copies import is_copy
from turnmill.store.rules.figures import added_up, is_scripted, lines_of
from turnmill.store.schema.tables import attempts, messages, sessions, turns
from turnmill.store.types import Timestamp

#: A silence that is longer is no part of the time in which a conversation is active.
PAUSE = timedelta(minutes=10)
_QUARTER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What turns that have ended took."""

    attempts: int
    retries: int  #: calls beyond the first one of each turn
    input_tokens: int  #: as far as they are known
    output_tokens: int
    cached_tokens: int  #: of the input, read from the vendor's cache
    cost_usd: Decimal  #: of all priced attempts
    unpriced_attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage:
    """What came of turns at one model: they are counted where they were answered."""

    provider: str
    model: str
    turns: int
    spent: Spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """How long turns that succeeded took, in milliseconds; None: none has such a time."""

    queued: Spread | None  #: from when it was accepted until a worker took it
    first_token: Spread | None  #: from the request to the first token, of streamed replies
    provider: Spread | None  #: of the call that was answered
    total: Spread | None  #: from when it was accepted until it had its reply


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCounts:
    """How many turns there are, how they stand, and what was said in them."""

    turns: int
    succeeded: int
    failed: int
    dead: int
    cancelled: int
    expired: int
    unfinished: int
    asked: int  #: messages of users
    replies: int  #: of models: one for each turn that succeeded
    first_at: datetime | None  #: when the first turn was accepted
    last_at: datetime | None  #: when the last one was accepted, or ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long sessions are."""

    sessions: int
    turns: Spread | None  #: of a session
    duration_ms: Spread | None  #: from its first message to its last reply
    active_ms: Spread | None  #: of that, without silences of more than ten minutes


#: Which turns are meant, in a query that joins them to their sessions.
Which: TypeAlias = ColumnElement[bool]
_SPENT = tuple(Spent.__dataclass_fields__)
_NUMBERS = TurnCounts.__dataclass_fields__.keys() - {"first_at", "last_at"}


def of_session(session_id: SessionId) -> Which:
    """Return which turns are of a session that somebody can see."""
    return and_(sessions.c.id == session_id, sessions.c.status != SessionStatus.DELETED)


def of_user(user_id: str, *, since: datetime, until: datetime) -> Which:
    """Return which turns of a user's sessions were accepted in a span of time.

    What a trial has asked again is not what the user has said, and what a fork begins with he has
    said once.
    """
    return and_(
        sessions.c.user_id == user_id,
        sessions.c.status != SessionStatus.DELETED,
        sessions.c.last_active_at >= since,
        ~is_copy(sessions.c.id),
        or_(sessions.c.forked_from.is_(None), ~is_scripted()),
        accepted_in(since, until),
    )


def accepted_in(since: datetime, until: datetime) -> Which:
    """Return which turns were accepted in a span of time."""
    return and_(turns.c.created_at >= since, turns.c.created_at < until)


def counts(conn: Connection, which: Which) -> TurnCounts:
    """Return how many of these turns there are."""
    states = {state.value: _count(turns.c.state == state.value) for state in sorted(FINAL)}
    last = func.max(func.coalesce(turns.c.finished_at, turns.c.created_at), type_=Timestamp)
    row = conn.execute(
        _turns(
            func.count().label("turns"),
            _count(turns.c.state.not_in(FINAL)).label("unfinished"),
            func.min(turns.c.created_at, type_=Timestamp).label("first_at"),
            last.label("last_at"),
            *(column.label(name) for name, column in states.items()),
        ).where(which)
    ).one()
    said = conn.execute(
        _turns(
            _count(and_(messages.c.role == "user", messages.c.position >= 0)).label("asked"),
            _count(messages.c.final).label("replies"),
        )
        .join(messages, messages.c.turn_id == turns.c.id)
        .where(which)
    ).one()
    told: dict[str, Any] = {**row._mapping, **said._mapping}
    told |= {name: int(told[name]) for name in _NUMBERS}
    return TurnCounts(**told)


def usage(conn: Connection, which: Which) -> list[ModelUsage]:
    """Return what these turns came to, as far as they have ended, the dearest model first.

    By the same rules as the figures of a day.
    """
    lines = added_up(lines_of(which)).subquery()
    kept = ("turns", *_SPENT)
    rows = conn.execute(
        select(
            lines.c.provider,
            lines.c.model,
            *(func.sum(lines.c[name]).label(name) for name in kept),
        ).group_by(lines.c.provider, lines.c.model)
    )
    found = [_usage(row._mapping) for row in rows]
    return sorted(found, key=lambda one: (-one.spent.cost_usd, -one.turns, one.provider, one.model))


def added_together(models: Sequence[ModelUsage]) -> Spent:
    """Return what turns took at all models together."""
    figures: dict[str, Any] = {
        name: sum(getattr(one.spent, name) for one in models) for name in _SPENT
    }
    return Spent(**figures | {"cost_usd": Decimal(figures["cost_usd"])})


def latencies(conn: Connection, which: Which) -> Latencies:
    """Return how long these turns took, as far as they succeeded."""
    answered = and_(which, turns.c.state == TurnState.SUCCEEDED.value, turns.c.claims > 0)

    def spread(value: ColumnElement[Any]) -> Spread | None:
        return spread_of(conn, _turns(value).where(answered))

    def at_provider(column: ColumnElement[Any]) -> Spread | None:
        made = attempts.c.turn_id == turns.c.id
        replied = attempts.c.outcome == "succeeded"
        return spread_of(conn, _turns(column).join(attempts, made).where(answered, replied))

    return Latencies(
        queued=spread(ms_between(turns.c.created_at, turns.c.started_at)),
        first_token=at_provider(attempts.c.first_token_ms),
        provider=at_provider(attempts.c.provider_ms),
        total=spread(ms_between(turns.c.created_at, turns.c.finished_at)),
    )


def lengths(conn: Connection, which: Which) -> Lengths:
    """Return how long the sessions of these turns are, as far as these turns go."""
    each = _lengths_of_each(which)
    number = conn.scalar(select(func.count()).select_from(each.subquery()))

    def spread(name: str) -> Spread | None:
        return spread_of(conn, select(each.subquery().c[name]))

    return Lengths(
        sessions=number or 0,
        turns=spread("turns"),
        duration_ms=spread("duration"),
        active_ms=spread("active"),
    )


def quarters(conn: Connection, which: Which) -> Mapping[datetime, int]:
    """Return how many of these turns were accepted in each quarter of an hour."""
    quarter = quarter_of(turns.c.created_at).label("quarter")
    rows = conn.execute(_turns(quarter, func.count()).where(which).group_by(quarter))
    start = datetime(1970, 1, 1, tzinfo=UTC)
    return {start + number * _QUARTER: many for number, many in rows}


def newest_sessions(conn: Connection, which: Which, *, limit: int) -> Sequence[SessionId]:
    """Return the sessions of these turns, the one with the latest turn first."""
    last = func.max(turns.c.created_at)
    query = _turns(turns.c.session_id).where(which).group_by(turns.c.session_id)
    found = conn.scalars(query.order_by(last.desc(), turns.c.session_id).limit(limit))
    return [SessionId(one) for one in found]


def _turns(*columns: Any) -> Select[Any]:
    return select(*columns).select_from(turns).join(sessions, sessions.c.id == turns.c.session_id)


def _lengths_of_each(which: Which) -> Select[Any]:
    """Select of each session how many turns it has, and how long it is, with and without pauses."""
    end = func.coalesce(turns.c.finished_at, turns.c.created_at)
    so_far = func.max(end, type_=Timestamp).over(
        partition_by=turns.c.session_id, order_by=turns.c.seq, rows=(None, -1)
    )
    moments = (
        _turns(
            turns.c.session_id,
            turns.c.created_at.label("begun"),
            end.label("ended"),
            ms_between(so_far, turns.c.created_at).label("silence"),
        )
        .where(which)
        .subquery("moments")
    )
    whole = ms_between(func.min(moments.c.begun), func.max(moments.c.ended))
    pause = PAUSE // timedelta(milliseconds=1)
    silent = func.sum(case((moments.c.silence > pause, moments.c.silence), else_=0))
    columns: list[Any] = [
        func.count().label("turns"),
        whole.label("duration"),
        (whole - silent).label("active"),
    ]
    return select(*columns).group_by(moments.c.session_id)


def _count(condition: ColumnElement[bool]) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _usage(row: Mapping[Any, Any]) -> ModelUsage:
    figures: dict[str, Any] = {name: int(row[name]) for name in _SPENT if name != "cost_usd"}
    spent = Spent(cost_usd=Decimal(row["cost_usd"]), **figures)
    return ModelUsage(
        provider=row["provider"], model=row["model"], turns=int(row["turns"]), spent=spent
    )

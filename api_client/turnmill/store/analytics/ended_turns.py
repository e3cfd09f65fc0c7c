"""Turns that ended in a window, of everybody, a user or a session: what evidence is read of."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from sqlalchemy import (
    CTE,
    ColumnElement,
    Float,
    Select,
    and_,
    case,
    cast,
    false,
    func,
    or_,
    select,
)

from turnmill.domain.analytics.windows import Window
from turnmill.domain.ids import SessionId
from turnmill.domain.reply_limits import LIMITS_OF_REPLIES
from turnmill.domain.states import FINAL, SessionStatus
from turnmill.store.line.copies import batches_of_trials
from turnmill.store.rules.figures import is_scripted
from turnmill.store.schema.tables import sessions, turns

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Of whose turns something is read: of everybody's where nothing is said."""

    window: Window
    session_id: SessionId | None = None
    user_id: str | None = field(default=None, repr=False)
    #: Sessions that were drawn to stand for all, and which share of all they are.
    drawn: Sequence[SessionId] | None = field(default=None, repr=False)
    share: float = 1.0
    #: Hours that are looked at, instead of all of the window.
    hours: Sequence[datetime] | None = field(default=None, repr=False)

    @property
    def is_whole(self) -> bool:
        """Tell whether it is everybody."""
        return self.session_id is None and self.user_id is None

    def looks_at(self, hour: datetime) -> bool:
        """Tell whether what belongs to this hour is whole: others have some of it at their ends."""
        return self.hours is None or hour in self.hours


def hour_from(text: str) -> datetime:
    """Return the moment in which an hour began, as `hour_of` names it."""
    return datetime.strptime(text, "%Y-%m-%d %H").replace(tzinfo=UTC)


def ended(scope: Scope) -> ColumnElement[bool]:
    """Return which turns ended in the scope, and were asked of a model; none of trials."""
    found = [
        *_is_in(scope),
        turns.c.state.in_(FINAL),
        ~is_scripted(),
        sessions.c.status != SessionStatus.DELETED,
        # What a trial has asked again, nobody has done so: neither its users nor their sessions.
        or_(turns.c.batch_id.is_(None), turns.c.batch_id.not_in(batches_of_trials())),
    ]
    if scope.session_id is not None:
        found.append(turns.c.session_id == scope.session_id)
    if scope.user_id is not None:
        found.append(sessions.c.user_id == scope.user_id)
    return and_(*found)


def _is_in(scope: Scope) -> Iterator[ColumnElement[bool]]:
    """Yield when turns ended, and of which sessions they are where these are drawn."""
    at: Any = turns.c.finished_at
    if scope.drawn is not None:
        # Said of both, neither is read whole; and an index that says when turns ended, roughly,
        # is none that helps to find those of some sessions.
        yield turns.c.session_id.in_(scope.drawn)
        yield sessions.c.id.in_(scope.drawn)
        at = func.coalesce(at, at)
    yield at >= scope.window.since
    yield at < scope.window.until
    if scope.hours is not None:
        yield or_(false(), *(and_(at >= one, at < one + _HOUR) for one in scope.hours))


def joined(*columns: Any) -> Select[Any]:
    """Select of turns and the sessions that they are of."""
    return select(*columns).join_from(turns, sessions, sessions.c.id == turns.c.session_id)


def limit_of_replies() -> ColumnElement[Any]:
    """Return how long a reply of the session may be, as its settings say; NULL: they do not."""
    return _of_limits(lambda _, said: said)


def name_of_limit() -> ColumnElement[Any]:
    """Return by which setting that is said; NULL: by none."""
    return _of_limits(lambda name, said: case((said.is_not(None), name)))


def _of_limits(column: Callable[[str, Any], Any]) -> ColumnElement[Any]:
    def first(names: Sequence[str]) -> Any:
        return func.coalesce(
            *(column(name, sessions.c.settings[name].as_string()) for name in names)
        )

    ours, theirs, *others = LIMITS_OF_REPLIES
    # Of both, Anthropic is sent its own.
    at_anthropic = first((theirs, ours, *others))
    return case((sessions.c.provider == "anthropic", at_anthropic), else_=first(LIMITS_OF_REPLIES))


_OF_TURN = (
    *("id", "session_id", "seq", "state", "lane", "attempt", "put_off", "step", "batch_id"),
    *("retry_of", "created_at", "available_at", "started_at", "finished_at", "finish_reason"),
    *("input_tokens", "output_tokens", "cached_tokens", "cost_usd", "answered_by"),
)
_OF_SESSION = ("user_id", "template", "provider", "model", "next_seq")


@dataclass(frozen=True, slots=True)
class Seen:
    """The turns of a scope, each with what its session says: read once, however many look at it."""

    all: CTE  #: columns of the turn; of its session `user_id` and the like; some of its settings
    own: CTE  #: of these, turns that were answered by the model that their session asks for
    #: The same, each beside the one before it in its session, as far as that ended there. Of
    #: sessions with several participants, too: the line is one.
    followed: CTE

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """Return how they are selected; nothing is read yet."""
        found = (
            joined(
                *(turns.c[name] for name in _OF_TURN),
                *(sessions.c[name] for name in _OF_SESSION),
                limit_of_replies().label("reply_limit"),
                name_of_limit().label("limit_name"),
                func.coalesce(sessions.c.settings["prompt_cache"].as_string(), "").label(
                    "prompt_cache"
                ),
            )
            .where(ended(scope))
            .cte("seen")
        )
        own = select(found).where(found.c.answered_by.is_(None)).cte("own")
        return cls(found, own, _followed(own))


_BEFORE = ("seq", "created_at", "finished_at", "input_tokens", "output_tokens", "lane")


def _followed(own: CTE) -> CTE:
    line: dict[str, Any] = {"partition_by": own.c.session_id, "order_by": own.c.seq}
    before = (
        func.lag(own.c[name], type_=own.c[name].type).over(**line).label(f"{name}_before")
        for name in _BEFORE
    )
    return select(own, *before).cte("followed")


def count_if(condition: ColumnElement[bool]) -> Any:
    """Return of how many rows this is so."""
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def sum_if(condition: ColumnElement[bool], value: Any) -> Any:
    """Return the sum over the rows of which this is so, as a float."""
    return func.coalesce(func.sum(case((condition, as_float(value)), else_=0.0)), 0.0)


def as_float(value: Any) -> Any:
    """Return a number as a float: evidence is no bill."""
    return cast(value, Float)


def goes_on(row: Any) -> ColumnElement[bool]:
    """Return which rows of `followed` come right after the one before."""
    return and_(row.seq_before.is_not(None), row.seq == row.seq_before + 1)


def number_of(text: object) -> int | None:
    """Return a limit as settings hold it; None for what is no whole number above 0."""
    digits = str(text) if text is not None else ""
    return int(digits) if digits.isascii() and digits.isdigit() and 0 < len(digits) < 10 else None

"""What a verb is: what it does on a connection, and what kind of connection that has to be."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

from sqlalchemy import Connection as Connection

from turnmill.store.records import Head

if TYPE_CHECKING:
    from turnmill.verbs.refs import SessionRef

T = TypeVar("T")

#: What verbs do that is written down, as `Action` names it.
Done = Literal[
    "budget.set",
    "budget.removed",
    "turn.retried",
    "turn.cancelled",
    "turn.released",
    "paused",
    "resumed",
    "batch.retried",
    "batch.cancelled",
    "session.archived",
    "session.deleted",
    "session.restored",
    "session.moved",
    "session.forked",
    "participant.added",
    "participant.removed",
    "retention.set",
    "feedback.given",
    "file.deleted",
    "tool.approved",
    "tool.rejected",
    "tool.answered",
    "schedule.created",
    "schedule.deleted",
    "account.opened",
    "reader.parked",
    "reader.released",
    "reader.removed",
    "webhook.created",
    "webhook.removed",
    "webhook.rotated",
    "webhook.released",
    "webhook.replayed",
    "templates.synced",
    "template.rolled_back",
    "template.removed",
    "experiment.started",
    "experiment.stopped",
    "trial.cancelled",
    "calls.repriced",
]


class Effect(NamedTuple, Generic[T]):
    """What a verb came to."""

    result: T
    heads: Sequence[Head] = ()  #: due now: tell a worker when this is committed
    changed: bool = True  #: else it was so before: nothing was done that is to be written down


class Shown(NamedTuple):
    """What whoever does a verb is shown of what was said, and whose it is."""

    what: str
    by: Literal["turn", "session", "user"]
    ids: Callable[[Any], Collection[Any]]  #: of whose it is, by the result; none: it holds nothing


def _always(_: object) -> bool:
    return True


def _nothing(_: object) -> Mapping[str, object]:
    return MappingProxyType({})


class Deed(NamedTuple):
    """What whoever does a verb has done, and to what.

    It is written down of operators alone, unless it is of anybody: applications do most of it all
    day.
    """

    action: Done
    turn: Any = None  #: its id
    session: "SessionRef | None" = None
    objects: Mapping[str, object] = MappingProxyType({})  #: what else, by ids: no name of anybody
    figures: Mapping[str, int | str | bool] = MappingProxyType({})
    when: Callable[[Any], bool] = _always  #: by the result: whether anything was done
    of_anybody: bool = False  #: an application, too
    whose: Callable[[Connection], str | None] | None = None  #: the user, where neither tells
    made: Callable[[Any], Mapping[str, object]] = _nothing  #: more objects, by the result


@dataclass(frozen=True, slots=True)
class Verb(Generic[T]):
    """Arguments that are checked, and what is to be done with them.

    Made by `single` or `transaction`, so that each verb says what it needs where it is written;
    a client opens that and cannot choose. Nothing is read or written before `on` is called.
    """

    on: Callable[[Connection], Effect[T]]
    atomic: bool
    shows: Shown | None = None
    does: Deed | None = None


def single(on: Callable[[Connection], Effect[T]], *, shows: Shown | None = None) -> Verb[T]:
    """Return a verb whose statements may each be a transaction of their own.

    That is one round trip instead of three, for what reads, and for what writes with one statement
    and relies on no lock that an earlier one took.
    """
    return Verb(on, False, shows)


def transaction(
    on: Callable[[Connection], Effect[T]],
    *,
    shows: Shown | None = None,
    does: Deed | None = None,
) -> Verb[T]:
    """Return a verb whose statements count together or not at all, and keep their locks."""
    return Verb(on, True, shows, does)


def by_turn(what: str, turn_id: Any) -> Shown:
    """Return that it is something of this turn, where the result is anything at all."""
    return Shown(what, "turn", lambda found: (turn_id,) if found else ())


def by_session(what: str, session_id: Any) -> Shown:
    """Return that it is something of this session, where the result is anything at all."""
    return Shown(what, "session", lambda found: (session_id,) if found else ())

"""What a verb is: what it does on a connection, and what kind of connection that has to be."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from sqlalchemy import Connection as Connection

from turnmill.store.records import Head

T = TypeVar("T")


class Effect(NamedTuple, Generic[T]):
    """What a verb came to."""

    result: T
    heads: Sequence[Head] = ()  #: due now: tell a worker when this is committed


class Shown(NamedTuple):
    """What whoever does a verb is shown of what was said, and whose it is."""

    what: str
    by: Literal["turn", "session", "user"]
    ids: Callable[[Any], Collection[Any]]  #: of whose it is, by the result; none: it holds nothing


@dataclass(frozen=True, slots=True)
class Verb(Generic[T]):
    """Arguments that are checked, and what is to be done with them.

    Made by `single` or `transaction`, so that each verb says what it needs where it is written;
    a client opens that and cannot choose. Nothing is read or written before `on` is called.
    """

    on: Callable[[Connection], Effect[T]]
    atomic: bool
    shows: Shown | None = None


def single(on: Callable[[Connection], Effect[T]], *, shows: Shown | None = None) -> Verb[T]:
    """Return a verb whose statements may each be a transaction of their own.

    That is one round trip instead of three, for what reads, and for what writes with one statement
    and relies on no lock that an earlier one took.
    """
    return Verb(on, False, shows)


def transaction(on: Callable[[Connection], Effect[T]], *, shows: Shown | None = None) -> Verb[T]:
    """Return a verb whose statements count together or not at all, and keep their locks."""
    return Verb(on, True, shows)


def by_turn(what: str, turn_id: Any) -> Shown:
    """Return that it is something of this turn, where the result is anything at all."""
    return Shown(what, "turn", lambda found: (turn_id,) if found else ())


def by_session(what: str, session_id: Any) -> Shown:
    """Return that it is something of this session, where the result is anything at all."""
    return Shown(what, "session", lambda found: (session_id,) if found else ())

"""What a verb is: what it does on a connection, and what kind of connection that has to be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from sqlalchemy import Connection as Connection

from turnmill.store.records import Head

T = TypeVar("T")


class Effect(NamedTuple, Generic[T]):
    """What a verb came to."""

    result: T
    heads: Sequence[Head] = ()  #: due now: tell a worker when this is committed


@dataclass(frozen=True, slots=True)
class Verb(Generic[T]):
    """Arguments that are checked, and what is to be done with them.

    Made by `single` or `transaction`, so that each verb says what it needs where it is written;
    a client opens that and cannot choose. Nothing is read or written before `on` is called.
    """

    on: Callable[[Connection], Effect[T]]
    atomic: bool


def single(on: Callable[[Connection], Effect[T]]) -> Verb[T]:
    """Return a verb whose statements may each be a transaction of their own.

    That is one round trip instead of three, for what reads, and for what writes with one statement
    and relies on no lock that an earlier one took.
    """
    return Verb(on, atomic=False)


def transaction(on: Callable[[Connection], Effect[T]]) -> Verb[T]:
    """Return a verb whose statements count together or not at all, and keep their locks."""
    return Verb(on, atomic=True)

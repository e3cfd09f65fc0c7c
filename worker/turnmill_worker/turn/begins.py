"""Begins: what stands between a hint and its call, on one thread: a claim, and its reservation."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from turnmill.grouping import Grouped
from turnmill.store.budget_records import Ask, Reserved
from turnmill.store.database import Database
from turnmill.store.records import Claim
from turnmill_worker.turn.claims import Asked, Busy, Claims
from turnmill_worker.turn.reservations import MOST, Reservations

Wanted = TypeVar("Wanted", Asked, Ask)
_Found = Claim | Busy | Reserved | None


class Begins:
    """Claims by hints, and reservations, of one process: as many at once as have piled up.

    With a thread for each, what a budget costs a turn is a fifth more: ADR 15.
    """

    def __init__(self, database: Database, taking: Claims, *, tags: Sequence[str]) -> None:
        """`tags` are the keys of metadata that budgets go by."""
        self._taking = taking
        self._group: Grouped[Asked | Ask, Any] = Grouped("begins", self._handle, most=MOST)
        self._reservations = Reservations(database, submit=self._group.begin, tags=tags)

    def stop(self) -> None:
        """Do what is left, and stop."""
        self._group.stop()

    def claim(self, asked: Asked) -> Awaitable[Claim | Busy | None]:
        """Return what becomes of it: see `Claims.by_hints`."""
        return self._group.begin(asked)

    def reserve(self, ask: Ask) -> Awaitable[Reserved]:
        """Return what comes of it: see `Reservations.reserve`."""
        return self._reservations.reserve(ask)

    def _handle(self, wanted: Sequence[Asked | Ask]) -> Sequence[_Found | BaseException]:
        """Reserve first: those calls wait for nothing else."""
        asks = [one for one in wanted if isinstance(one, Ask)]
        hints = [one for one in wanted if isinstance(one, Asked)]
        if not asks:
            return self._taking.by_hints(hints)
        reserved = iter(_each(self._reservations.reserve_group, asks))
        taken = iter(_each(self._taking.by_hints, hints))
        return [next(reserved) if isinstance(one, Ask) else next(taken) for one in wanted]


def _each(
    handle: Callable[[Sequence[Wanted]], Sequence[_Found]], some: Sequence[Wanted]
) -> Sequence[_Found | BaseException]:
    """Return what comes of each; an error belongs to those who wait for these, and nobody else."""
    try:
        return handle(some) if some else ()
    except Exception as error:  # noqa: BLE001
        # As at the edge of the thread, for a half of its group.
        return [error] * len(some)

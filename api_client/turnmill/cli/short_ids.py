"""Ids as people type them: whole, or the beginning that a listing shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

from turnmill.domain.errors import InvalidInput, NotFound, ScheduleNotFound, TurnNotFound
from turnmill.domain.ids import BatchId, as_uuid, ids_from

if TYPE_CHECKING:
    from turnmill.store.records import SessionRecord
    from turnmill.store.schedule_records import Schedule
    from turnmill.store.trial_records import ExperimentRecord, TrialRecord
    from turnmill.sync.batches import Batch
    from turnmill.sync.client import Client
    from turnmill.sync.turns import Turn

_SHOWN = 5  #: of the ids that are meant perhaps


class _Bearing(Protocol):
    @property
    def id(self) -> UUID: ...


T = TypeVar("T", bound=_Bearing)


def turn_of(client: Client, typed: str) -> Turn:
    """Return the turn; raises TurnNotFound, or InvalidInput where several ids begin so."""
    if as_uuid(typed) or ids_from(typed) is None:
        return client.turns.get(typed)
    found = _only(client.turns.list, typed)
    if found is None:
        raise TurnNotFound(f"no turn's id begins with {typed}")
    return found


def session_of(client: Client, typed: str) -> SessionRecord:
    """Return the session of this key, id, or beginning of an id: the key comes first."""
    try:
        return client.sessions.get(typed)
    except NotFound:
        if as_uuid(typed) or ids_from(typed) is None:
            raise
        found = _only(client.sessions.list, typed)
        if found is None:
            raise
        return found


def batch_of(client: Client, typed: str) -> Batch:
    """Return the batch of this name, id, or beginning of an id: the name comes first."""
    try:
        return client.batches.get(typed)
    except NotFound:
        bounds = None if as_uuid(typed) else ids_from(typed)
        if bounds is None:
            raise
        least, most = bounds
        page = client.batches.list(after=BatchId(most), limit=_SHOWN)
        found = _one_of([batch for batch in page if batch.id >= least], typed)
        if found is None:
            raise
        return found


def schedule_of(client: Client, typed: str) -> Schedule:
    """Return the schedule; raises ScheduleNotFound, or InvalidInput where several ids begin so."""
    bounds = None if as_uuid(typed) else ids_from(typed)
    if bounds is None:
        return client.schedules.get(typed)
    least, most = bounds
    page = client.schedules.list(after=most, limit=_SHOWN)
    found = _one_of([one for one in page if one.id >= least], typed)
    if found is None:
        raise ScheduleNotFound(f"no schedule's id begins with {typed}")
    return found


def trial_of(client: Client, typed: str) -> TrialRecord:
    """Return the trial of this name, id, or beginning of an id: the name comes first."""
    return _named(client.trials.get, client.trials.list, typed)


def experiment_of(client: Client, typed: str) -> ExperimentRecord:
    """Return the experiment of this name, id, or beginning of an id: the name comes first."""
    return _named(client.experiments.get, client.experiments.list, typed)


def _named(get: Callable[[str], T], read: Callable[..., Sequence[T]], typed: str) -> T:
    try:
        return get(typed)
    except NotFound:
        bounds = None if as_uuid(typed) else ids_from(typed)
        if bounds is None:
            raise
        least, most = bounds
        page = read(after=most, limit=_SHOWN)
        found = _one_of([one for one in page if one.id >= least], typed)
        if found is None:
            raise
        return found


def _only(read: Callable[..., Sequence[T]], typed: str) -> T | None:
    return _one_of(read(id_prefix=typed, limit=_SHOWN), typed)


def _one_of(found: Sequence[T], typed: str) -> T | None:
    if len(found) > 1:
        raise InvalidInput(
            f"several ids begin with {typed}",
            hint="type more of one: " + ", ".join(str(one.id) for one in found),
        )
    return found[0] if found else None

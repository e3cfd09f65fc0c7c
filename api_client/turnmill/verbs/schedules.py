"""Schedules: `client.schedules`, what is said in a session again and again, or once later."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from turnmill.domain.arguments import moment, one_of
from turnmill.domain.budgets import time_zone
from turnmill.domain.content import Part, Text
from turnmill.domain.crons import Missed, cron_given
from turnmill.domain.errors import InvalidInput, UnsupportedPart
from turnmill.new_ids import new_id
from turnmill.store.nouns import schedules as rows
from turnmill.store.schedule_records import NewSchedule, Schedule
from turnmill.verbs import intake, new_messages
from turnmill.verbs.intake import UNCHANGED
from turnmill.verbs.refs import SessionRef, session_id
from turnmill.verbs.verb import Connection, Deed, Done, Effect, Shown, Verb, single, transaction

T = TypeVar("T")

_WHEN = 'cron="30 9 * * mon-fri", or at=datetime(2027, 10, 31, 12, tzinfo=…)'
_SHOWN = Shown("schedule", "session", lambda found: (found.session_id,))
_PLAIN: Mapping[str, Callable[[Any], Any]] = {
    "timezone": time_zone,
    "until": lambda value: moment(value, name="until"),
    "missed": lambda value: one_of(Missed, value, name="missed"),
}


def create(
    session: SessionRef,
    said: object,
    *,
    cron: object,
    at: object,
    key: object,
    max_text_bytes: int,
    timezone: object,
    until: object,
    missed: object,
    **options: Any,
) -> Verb[Schedule]:
    """Make a schedule, or get the one that its key stands for."""
    if (cron is None) == (at is None):
        raise InvalidInput("a schedule has a cron or a moment", hint=_WHEN)
    turn = intake.turn_options(**options)
    given = {"timezone": timezone, "until": until, "missed": missed}
    new = NewSchedule(
        id=new_id(),
        key=intake.name_or_none(key, name="key"),
        parts=_words(said, max_text_bytes=max_text_bytes),
        cron=None if cron is None else cron_given(cron),
        at=_whole(at),
        lane=turn["lane"],
        metadata=turn["metadata"],
        max_attempts=turn["max_attempts"],
        max_cost_usd=turn["max_cost_usd"],
        **{name: check(given[name]) for name, check in _PLAIN.items()},
    )

    def on(conn: Connection) -> Effect[Schedule]:
        return Effect(rows.create(conn, session_id(conn, session), new))

    deed = Deed("schedule.created", session=session, made=lambda one: {"schedule": one.id})
    return transaction(on, does=deed)


def update(
    schedule: object, *, said: object, cron: object, at: object, max_text_bytes: int, **plain: Any
) -> Verb[Schedule]:
    """Change what the schedule says, or when."""
    wanted = schedule_id(schedule)
    values = {name: _PLAIN[name](one) for name, one in plain.items() if one is not UNCHANGED}
    if said is not UNCHANGED:
        values["parts"] = _words(said, max_text_bytes=max_text_bytes)
    if cron is not UNCHANGED:
        values["cron"] = cron_given(cron)
    if at is not UNCHANGED:
        values["at"] = _whole(at)
    if not values:
        raise InvalidInput("nothing to update", hint="name an option, such as cron=")
    return _moving(lambda conn: rows.change(conn, wanted, values), shows=_SHOWN)


def get(schedule: object) -> Verb[Schedule]:
    """Read the schedule."""
    wanted = schedule_id(schedule)
    return single(lambda conn: Effect(rows.get(conn, wanted)), shows=_SHOWN)


def find(*, session: SessionRef | None, after: object, limit: object) -> Verb[list[Schedule]]:
    """Read a page of schedules, newest first."""
    page = intake.listing(after=after, limit=limit)

    def on(conn: Connection) -> Effect[list[Schedule]]:
        of = None if session is None else session_id(conn, session)
        return Effect(rows.find(conn, session_id=of, **page))

    shows = Shown("schedules", "session", lambda found: {one.session_id for one in found})
    return single(on, shows=shows)


def pause(schedule: object) -> Verb[Schedule]:
    """Make no runs until it is resumed."""
    wanted = schedule_id(schedule)
    return _switching(rows.pause, wanted, "paused")


def resume(schedule: object) -> Verb[Schedule]:
    """Make runs again, from now on."""
    wanted = schedule_id(schedule)
    return _switching(rows.resume, wanted, "resumed")


def _switching(
    switch: Callable[[Connection, UUID], Schedule], wanted: UUID, action: Done
) -> Verb[Schedule]:
    def on(conn: Connection) -> Effect[Schedule]:
        before = rows.get(conn, wanted).paused
        found = switch(conn, wanted)
        return Effect(found, changed=found.paused is not before)

    return transaction(on, does=_done_to(wanted, action), shows=_SHOWN)


def delete(schedule: object) -> Verb[None]:
    """Make no more runs."""
    wanted = schedule_id(schedule)
    return _moving(lambda conn: rows.remove(conn, wanted), _done_to(wanted, "schedule.deleted"))


def schedule_id(value: object) -> UUID:
    """Return the id of a schedule given as record, UUID or text; raises InvalidInput."""
    return intake.identifier(value, name="schedule", hint="`turnmill schedules ls` lists them")


def _words(said: object, *, max_text_bytes: int) -> tuple[Part, ...]:
    """Return what is to be said, which is words: a file may be gone when the moment comes."""
    parts = new_messages.parts_of(said, max_text_bytes=max_text_bytes)
    if not all(isinstance(one, Text) for one in parts):
        raise UnsupportedPart("a schedule says words, and holds no files", hint="`send` takes them")
    return parts


def _whole(at: object) -> datetime | None:
    """Return the moment in whole seconds: a run is known by it."""
    found = moment(at, name="at")
    return None if found is None else found.replace(microsecond=0)


def _moving(
    move: Callable[[Connection], T], deed: Deed | None = None, *, shows: Shown | None = None
) -> Verb[T]:
    return transaction(lambda conn: Effect(move(conn)), shows=shows, does=deed)


def _done_to(schedule: UUID, action: Done) -> Deed:
    def whose(conn: Connection) -> str | None:
        from turnmill.store.nouns.audit import owners  # noqa: PLC0415  for operators alone

        session = rows.get(conn, schedule).session_id
        return owners(conn, "session", [session]).get(session)

    return Deed(action, objects={"schedule": schedule}, whose=whose)

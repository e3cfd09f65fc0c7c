"""Observers: told of all, in order, and again where they fail; what they can do to nobody."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, select

from tests import rows, steps
from tests.hostile import RAISED, SECRET
from tests.waiting import async_until
from turnmill.domain.errors import StoreUnavailable
from turnmill.domain.hearing import WantedKinds
from turnmill.domain.ids import SessionId
from turnmill.store.database import Database
from turnmill.store.nouns import event_log, events, reading, sessions
from turnmill.store.nouns.subscribing import subscribe
from turnmill.store.rules.happenings import observe
from turnmill.store.schema.event_tables import events as event_rows
from turnmill_worker.observers import Event, Observer, registered
from turnmill_worker.observers.reader import Pace, Reader
from turnmill_worker.observers.registered import Named

pytestmark = pytest.mark.anyio

QUICK = timedelta(milliseconds=10)
PACE = Pace(
    timeout=timedelta(seconds=5), lease=timedelta(seconds=10), poll=QUICK, again=QUICK, most_tries=3
)


def answered(store: Database, count: int = 3) -> SessionId:
    line = rows.start(store)
    for _ in range(count):
        steps.answer(store, steps.send(store, line).turn_id)
    return line


def reader_of(
    observer: Observer, store: Database, *, owner: str = "a", pace: Pace = PACE
) -> Reader:
    return Reader(Named(name="one", observer=observer), store, owner=owner, pace=pace)


@asynccontextmanager
async def running(reader: Reader) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(reader.run())
    try:
        yield task
    finally:
        reader.stop()
        await asyncio.wait_for(task, timeout=10)


def state(store: Database) -> events.EventReader:
    with store.begin() as conn:
        (reader,) = events.readers(conn)
    return reader


def is_over(store: Database) -> bool:
    """Tell whether somebody has read everything."""
    unplaced = select(func.count()).select_from(event_rows).where(event_rows.c.place.is_(None))
    with store.begin() as conn:
        found = events.readers(conn)
        return bool(found) and not found[0].behind and not conn.scalar(unplaced)


def is_parked(store: Database) -> bool:
    with store.begin() as conn:
        return any(one.parked for one in events.readers(conn))


class Notes:
    """A plain function that keeps what it is told, and fails at the second event, as often."""

    def __init__(self, *fails: Callable[[], BaseException]) -> None:
        self.told: list[int] = []
        self._fails = list(fails)

    def __call__(self, event: Event) -> None:
        self.told.append(event.n)
        if event.n == 2 and self._fails:
            raise self._fails.pop(0)()


class AsyncNotes(Notes):
    async def __call__(self, event: Event) -> None:  # type: ignore[override]
        super().__call__(event)


@pytest.mark.parametrize("kind", [Notes, AsyncNotes])
async def test_an_observer_is_told_of_all_that_happens_before_and_while_it_listens(
    kind: type[Notes], store: Database
) -> None:
    notes = kind()
    answered(store)
    async with running(reader_of(notes, store)):
        await async_until(lambda: notes.told == [1, 2, 3])
        answered(store)
        await async_until(lambda: notes.told == [1, 2, 3] * 2)
    assert state(store).behind == 0


async def test_a_plain_function_that_returns_something_to_await_has_it_awaited(
    store: Database,
) -> None:
    notes = AsyncNotes()
    answered(store)
    async with running(reader_of(partial(notes.__call__), store)):
        await async_until(lambda: notes.told == [1, 2, 3])


@pytest.mark.parametrize("kind", [Notes, AsyncNotes])
@pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)
async def test_an_observer_that_fails_is_told_again_before_anything_later(
    kind: type[Notes],
    make: Callable[[], BaseException],
    store: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    notes = kind(make, make)
    answered(store)
    async with running(reader_of(notes, store)):
        await async_until(lambda: is_over(store))
    assert notes.told == [1, 2, 2, 2, 3]
    assert (state(store).tries, state(store).skipped) == (0, 0)
    assert SECRET not in caplog.text and "did not take turn.succeeded" in caplog.text


async def test_who_fails_many_times_in_a_row_is_parked_and_misses_nothing_once_released(
    store: Database, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes(*[ValueError] * 4)
    answered(store)
    async with running(reader_of(notes, store)):
        await async_until(lambda: is_parked(store))
        assert (notes.told, state(store).parked_because) == ([1, 2, 2, 2], "ValueError")
        assert "3 tries to tell it of turn.succeeded came to nothing" in caplog.text
        with store.begin() as conn:
            assert event_log.prune(conn) == 1
            events.park_reader(conn, "observer:one", parked=False)
        await async_until(lambda: is_over(store))
    assert notes.told == [1, 2, 2, 2, 2, 2, 3]


async def test_an_observer_is_told_of_what_it_asks_for_in_the_words_in_which_it_asks(
    store: Database,
) -> None:
    told: list[tuple[str, Any]] = []
    line = answered(store, 1)
    asks = WantedKinds(("turn.settled", "session.paused"))
    named = Named(name="one", observer=lambda event: told.append((event.kind, event.state)))
    with store.begin() as conn:
        subscribe(conn, "observer:one", asks.kinds)
        sessions.pause(conn, line)
        sessions.resume(conn, line)
    async with running(
        Reader(replace(named, asked=asks), store, owner="a", pace=PACE),
    ):
        await async_until(lambda: is_over(store))
    assert told == [("turn.settled", "succeeded"), ("session.paused", None)]


async def test_one_that_sessions_name_is_told_of_these_alone(store: Database) -> None:
    told: list[Any] = []
    named, other = answered(store, 2), answered(store, 1)
    with store.begin() as conn:
        observe(conn, {named: ["one"], other: ["two"]})
    only = Named(name="one", observer=lambda event: told.append(event.session_id), opt_in=True)
    async with running(Reader(only, store, owner="a", pace=PACE)):
        await async_until(lambda: is_over(store))
    assert told == [named, named]


def test_of_a_kind_that_nobody_wants_nothing_is_written(store: Database) -> None:
    line = answered(store, 1)
    with store.begin() as conn:
        sessions.pause(conn, line)
        sessions.resume(conn, line)
        kinds = conn.scalars(select(event_rows.c.kind)).all()
    assert kinds == ["turn.succeeded"]


async def test_a_call_that_never_ends_holds_up_no_other_observer_and_gives_nothing_up(
    store: Database, caplog: pytest.LogCaptureFixture
) -> None:
    hangs, told, seen = threading.Event(), Notes(), list[int]()

    def waits(event: Event) -> None:
        hangs.wait(30)
        seen.append(event.n)

    answered(store)
    stuck = Reader(
        Named(name="stuck", observer=waits), store, owner="a", pace=replace(PACE, timeout=QUICK)
    )
    async with running(stuck), running(reader_of(told, store)):
        await async_until(lambda: told.told == [1, 2, 3])
        await async_until(lambda: caplog.text.count("still_running") > 5)
        names = [one.name for one in threading.enumerate()]
        assert names.count("turnmill-observer-stuck") == 1
        hangs.set()
        await async_until(lambda: set(seen) == {1, 2, 3})
    with store.begin() as conn:
        assert [one.skipped for one in events.readers(conn)] == [0, 0]


async def test_an_async_observer_that_cannot_be_cancelled_is_left_behind(
    store: Database, caplog: pytest.LogCaptureFixture
) -> None:
    enough = asyncio.Event()

    async def stubborn(_: Event) -> None:
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                continue

    answered(store, 1)
    hasty = replace(PACE, timeout=QUICK, most_tries=1000)
    async with running(reader_of(stubborn, store, pace=hasty)):
        await async_until(lambda: "still_running" in caplog.text)
        enough.set()
        await async_until(lambda: is_over(store))


async def test_nothing_is_passed_before_it_was_told(store: Database) -> None:
    """Lose the process in the middle of a call, and look for another one."""
    called, notes = asyncio.Event(), Notes()

    async def dies(event: Event) -> None:
        called.set()
        await asyncio.Event().wait()

    answered(store)
    lost = asyncio.create_task(reader_of(dies, store).run())
    await called.wait()
    assert state(store).behind == 3
    lost.cancel()
    await asyncio.wait([lost])
    async with running(reader_of(notes, store, owner="b")):
        await async_until(lambda: notes.told == [1, 2, 3])


async def test_of_several_processes_one_tells_and_another_goes_on_when_it_stops(
    store: Database,
) -> None:
    one, two = Notes(), Notes()
    first, second = reader_of(one, store), reader_of(two, store, owner="b")
    async with running(first):
        answered(store)
        await async_until(lambda: one.told == [1, 2, 3])
        async with running(second):
            answered(store)
            await async_until(lambda: one.told == [1, 2, 3] * 2)
            first.stop()
            answered(store)
            await async_until(lambda: two.told == [1, 2, 3])
    assert one.told == [1, 2, 3] * 2


async def test_who_waits_for_another_process_to_end_is_not_woken_by_what_happens(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = reading.hold

    def hold(*args: Any, owner: str, **options: Any) -> Any:
        asked.append(owner)
        return real(*args, owner=owner, **options)

    monkeypatch.setattr(reading, "hold", hold)
    notes = Notes()
    holds, waits = (
        reader_of(notes, store, owner=owner, pace=replace(PACE, poll=timedelta(seconds=30)))
        for owner in "ab"
    )
    async with running(holds):
        await async_until(lambda: asked == ["a"])
        async with running(waits):
            await async_until(lambda: asked == ["a", "b"])
            for n in range(3):
                answered(store, 1)
                holds.wake()
                waits.wake()
                await async_until(lambda n=n: len(notes.told) == n + 1)  # type: ignore[misc]
    assert asked == ["a", "b"]


async def test_who_ends_tells_of_what_there_is_first_where_no_other_process_will(
    store: Database,
) -> None:
    notes = Notes()
    reader = reader_of(notes, store)
    answered(store)
    reader.stop(after_a_last_look=True)
    await asyncio.wait_for(reader.run(), timeout=10)
    assert notes.told == [1, 2, 3]


async def test_an_outage_of_the_store_costs_nothing(
    store: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes()
    real, refused = reading.passed, iter([True, True])

    def passed(*args: Any, **options: Any) -> bool:
        if next(refused, False):
            raise StoreUnavailable("gone")
        return real(*args, **options)

    monkeypatch.setattr(reading, "passed", passed)
    answered(store)
    async with running(reader_of(notes, store)):
        await async_until(lambda: is_over(store))
    assert set(notes.told) == {1, 2, 3}
    assert "store_unavailable; trying again" in caplog.text


async def test_a_gap_is_told_of_too(store: Database) -> None:
    told: list[tuple[str, int]] = []
    with store.begin() as conn:
        events.add_reader(conn, "observer:one")
    answered(store)
    with store.begin() as conn:
        event_log.prune(conn, most_kept=1)

    async def notes(event: Event) -> None:
        told.append((event.kind, event.n))

    async with running(reader_of(notes, store)):
        await async_until(lambda: told == [("gap", 2), ("turn.succeeded", 3)])


async def test_the_log_says_ids_and_kinds(
    store: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (log,) = registered.registered("log")
    line = answered(store, 1)
    async with running(reader_of(log.observer, store)):
        await async_until(lambda: f"turn.succeeded: turn {turn_of(store)}" in caplog.text)
    assert f"number 1 in session {line}" in caplog.text


def turn_of(store: Database) -> str:
    with store.begin() as conn:
        events.add_reader(conn, "looks")
        (event,) = events.read(conn, "looks")
    return str(event.turn_id)

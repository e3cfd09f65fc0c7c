"""Readers that are lost at any moment: nothing is skipped, nothing is told of early."""

import asyncio
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from tests import rows, steps, stores
from turnmill.domain.ids import SessionId
from turnmill.store.database import Database
from turnmill.store.schema.event_tables import event_readers
from turnmill_worker.observers import Event
from turnmill_worker.observers.reader import Pace, Reader
from turnmill_worker.observers.registered import Named

SESSIONS = 3
PACE = Pace(
    timeout=timedelta(seconds=20),
    lease=timedelta(seconds=60),
    poll=timedelta(milliseconds=5),
    again=timedelta(milliseconds=1),
    most_tries=1000,
)


class Falls(Reader):
    """One whose process is lost with it."""

    async def _give_back(self) -> bool:
        return False


class Story:
    """Turns end, an observer is told of them, fails now and then, and its processes come and go."""

    def __init__(self, store: Database, *, fails: frozenset[int]) -> None:
        self._store = store
        self._fails = fails
        self._calls = 0
        self._processes = 0
        self._task: asyncio.Task[None] | None = None
        self._lines = [rows.start(store) for _ in range(SESSIONS)]
        self.ended: dict[SessionId, int] = dict.fromkeys(self._lines, 0)
        self.told: dict[SessionId, list[int]] = {line: [] for line in self._lines}

    async def observer(self, event: Event) -> None:
        self._calls += 1
        await asyncio.sleep(0)
        if self._calls in self._fails:
            raise ValueError
        assert event.session_id is not None
        known = self.told[event.session_id]
        assert event.n <= max(known, default=0) + 1, "told of what comes later first"
        known.append(event.n)
        await asyncio.sleep(0)

    def end(self, which: int) -> None:
        line = self._lines[which]
        steps.answer(self._store, steps.send(self._store, line).turn_id)
        self.ended[line] += 1

    def start(self) -> None:
        self._processes += 1
        named = Named(name="one", observer=self.observer)
        reader = Falls(named, self._store, owner=f"p{self._processes}", pace=PACE)
        self._task = asyncio.create_task(reader.run())

    async def fall(self) -> None:
        """Lose the process where it stands, and let its lease be over."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with self._store.begin() as conn:
            conn.execute(update(event_readers).values(free_at=None))
        self.start()

    @property
    def _is_over(self) -> bool:
        return all(max(self.told[line], default=0) == n for line, n in self.ended.items())

    async def come_to_an_end(self) -> None:
        async with asyncio.timeout(20):
            while not self._is_over:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])


STEPS = st.one_of(
    st.tuples(st.just("end"), st.integers(0, SESSIONS - 1)),
    st.tuples(st.just("fall"), st.none()),
    st.tuples(st.just("work"), st.integers(1, 30)),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    story=st.lists(STEPS, min_size=5, max_size=40),
    fails=st.frozensets(st.integers(1, 30), max_size=5),
)
def test_whatever_is_lost_and_fails_each_session_is_told_of_in_order_and_without_a_hole(
    story: list[tuple[str, Any]], fails: frozenset[int]
) -> None:
    store = stores.in_memory()
    asyncio.run(_played(Story(store, fails=fails), story))
    store.close()


async def _played(told: Story, story: list[tuple[str, Any]]) -> None:
    told.start()
    for step, value in story:
        if step == "end":
            told.end(value)
        elif step == "fall":
            await told.fall()
        else:
            for _ in range(value):
                await asyncio.sleep(0.0005)
    await told.come_to_an_end()
    for line, n in told.ended.items():
        assert set(told.told[line]) == set(range(1, n + 1))

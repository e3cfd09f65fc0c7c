"""A provider may do what it likes: its turns end, and nobody beside them notices.

In the bulk lane and in quarantine on Postgres, in the runner of a single process, and in a real
worker. `-m slow` looks at many more.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import select, update

from tests import rows, steps, stores
from tests.hostile import NO_ANSWER, SECRET
from tests.hostile_provider import BUGS, DEEDS, MADE, HostileProvider
from turnmill.domain.ids import TurnId
from turnmill.domain.retry import RetryPolicy
from turnmill.domain.states import FINAL, Lane, OnAmbiguous, TurnState
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.nouns import turns
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.tables import turns as turn_rows
from turnmill_worker.pool import loops
from turnmill_worker.process import quarantine_child as suspects
from turnmill_worker.process.embedded import InProcessRunner
from turnmill_worker.process.quarantine_child import run_suspects
from turnmill_worker.process.runtime import Runtime
from turnmill_worker.providers import calls
from turnmill_worker.providers.registry import ProviderRegistry
from turnmill_worker.stack.process import wait_until
from turnmill_worker.turn import verdict
from turnmill_worker.turn.bulk import run_bulk
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.ledger import GroupedLedger
from turnmill_worker.turn.slots import Slots

NEIGHBOURS = 50
MOST_ATTEMPTS = 3
WITHIN = timedelta(seconds=60)
TURN_TIMEOUT = timedelta(seconds=0.4)
WORDS = sorted({*MADE, *DEEDS} - {"block a thread"})  # its threads would outlive the test


def _drawn(dice: random.Random) -> list[str]:
    """Return what a provider does with a turn: one thing for ever, or a few that end well."""
    if dice.random() < 0.5:
        return [dice.choice([*BUGS, *NO_ANSWER])]
    return [*(dice.choice(WORDS) for _ in range(dice.randint(1, 4))), "well"]


@dataclass
class Crowd:
    """Turns that end well, and turns of which nobody knows, on one store."""

    store: Database
    good: list[TurnId] = field(default_factory=list)
    victims: dict[TurnId, Sequence[str]] = field(default_factory=dict)

    def grow(self, seed: int, *, victims: int) -> "Crowd":
        dice = random.Random(seed)
        self.good = [self._send() for _ in range(NEIGHBOURS)]
        for _ in range(victims):
            does = _drawn(dice)
            self.victims[self._send(does, on_ambiguous=dice.choice(list(OnAmbiguous)))] = does
        return self

    def _send(self, does: Sequence[str] = (), **options: Any) -> TurnId:
        session = rows.start(self.store, provider="hostile", max_attempts=MOST_ATTEMPTS, **options)
        return rows.send(self.store, session, lane=Lane.BULK, metadata={"does": list(does)})

    def hurry(self) -> None:
        """Let the time have come for all that waits; give up what is held for an operator."""
        past = datetime.now(UTC) - timedelta(seconds=1)
        due, in_hand = session_rows.c.head_due_at, turn_rows.c.state == TurnState.UNKNOWN
        with self.store.begin() as conn:
            conn.execute(update(session_rows).where(due.is_not(None)).values(head_due_at=past))
            found = conn.scalars(
                select(turn_rows.c.id)
                .join(session_rows, session_rows.c.head_turn_id == turn_rows.c.id)
                .where(in_hand, due.is_(None))
            ).all()
        for turn in found:
            steps.cancel(self.store, TurnId(turn))

    def unfinished(self) -> list[tuple[str, Sequence[str]]]:
        """Return the turns that have not ended: their states, and what their provider does."""
        with self.store.begin() as conn:
            found = conn.execute(
                select(turn_rows.c.id, turn_rows.c.state).where(turn_rows.c.state.not_in(FINAL))
            )
            return [(state, self.victims.get(TurnId(turn), ())) for turn, state in found]

    def assert_all_ended(self, provider: HostileProvider) -> None:
        """Every neighbour was answered by one call, every victim ended within its attempts."""
        assert {steps.state(self.store, one) for one in self.good} == {TurnState.SUCCEEDED}
        assert {provider.calls[one] for one in self.good} == {1}
        for victim, does in self.victims.items():
            turn = steps.turn(self.store, victim)
            assert turn.state in FINAL, does
            assert turn.attempt <= MOST_ATTEMPTS, does
            with self.store.begin() as conn:
                found = turns.attempts_of(conn, victim)
            assert "lost" not in [one.outcome for one in found][1:], does
            assert SECRET not in "".join(f"{one.error_code}" for one in found), does
        steps.assert_sound(self.store, drained=True)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> HostileProvider:
    provider = HostileProvider()
    monkeypatch.setattr(calls.Call.close, "__kwdefaults__", {"patience": timedelta(seconds=0.05)})
    monkeypatch.setattr(loops, "_PATIENCE", timedelta(seconds=0.05))
    monkeypatch.setattr(suspects, "_LOOK_EVERY", timedelta(seconds=0.01))
    monkeypatch.setattr(verdict, "MAX_FAULTS", 4)
    monkeypatch.setattr(ProviderRegistry, "get", lambda *_: provider)
    return provider


@pytest.fixture(autouse=True)
def nothing_said(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO, logger="turnmill")
    yield
    assert SECRET not in caplog.text


@contextmanager
def working(store: Database, provider: HostileProvider) -> Iterator[tuple[Deps, GroupedLedger]]:
    """Give what a worker has on the running loop."""
    ledger = GroupedLedger(store, owner="tests", lease=timedelta(minutes=5))
    yield (
        Deps(
            ledger=ledger,
            in_hand=InHand(),
            slots=Slots(200),
            provider=lambda _: provider,
            announce=lambda _: None,
            announce_at=lambda *_: None,
            price=lambda *_: None,
            policy=RetryPolicy(base=timedelta(milliseconds=1), ceiling=timedelta(milliseconds=2)),
            turn_timeout=TURN_TIMEOUT,
        ),
        ledger,
    )
    ledger.stop()


def on_a_loop(main: Callable[[], Any]) -> None:
    loops.run_to_end(asyncio.new_event_loop(), main())


def bulk(crowd: Crowd, provider: HostileProvider) -> None:
    async def main() -> None:
        with working(crowd.store, provider) as (deps, _):
            async with asyncio.timeout(WITHIN.total_seconds()):
                while await asyncio.to_thread(crowd.unfinished):
                    await asyncio.to_thread(crowd.hurry)
                    await run_bulk(deps)
            assert deps.slots.in_use == 0
            assert len(deps.in_hand) == 0

    on_a_loop(main)


def quarantine(crowd: Crowd, provider: HostileProvider) -> None:
    every = (*crowd.good, *crowd.victims)
    for turn in every:
        steps.take_one(crowd.store, turn)
    steps.lose(crowd.store, *every)

    async def main() -> None:
        with working(crowd.store, provider) as (deps, ledger):
            runtime = SimpleNamespace(draining=Event(), ledger=ledger, deps=deps)
            async with asyncio.timeout(WITHIN.total_seconds()):
                while await asyncio.to_thread(crowd.unfinished):
                    await asyncio.to_thread(crowd.hurry)
                    await run_suspects(cast(Runtime, runtime), lost=1, stay=timedelta(seconds=0.01))
            assert len(deps.in_hand) == 0

    on_a_loop(main)


def alone(crowd: Crowd, provider: HostileProvider) -> None:
    settings = Settings(database_url="sqlite://", turn_timeout=TURN_TIMEOUT)
    runner = InProcessRunner(crowd.store, settings)

    def ended() -> bool:
        crowd.hurry()
        runner.wake()
        return not crowd.unfinished()

    assert wait_until(ended, timeout=WITHIN), crowd.unfinished()
    runner.close()
    assert not runner._thread.is_alive()


@pytest.mark.parametrize("path", [bulk, quarantine])
@pytest.mark.parametrize("seed", [1])
def test_fifty_neighbours_are_answered_once_each_whatever_a_provider_does(
    seed: int, path: Any, store: Database, provider: HostileProvider
) -> None:
    crowd = Crowd(store).grow(seed, victims=30)
    path(crowd, provider)
    crowd.assert_all_ended(provider)


def test_the_same_holds_in_the_runner_of_a_single_process(provider: HostileProvider) -> None:
    store = stores.in_memory()
    crowd = Crowd(store).grow(0, victims=30)
    alone(crowd, provider)
    crowd.assert_all_ended(provider)
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("path", [bulk, quarantine])
@pytest.mark.parametrize("seed", range(100, 130))
def test_the_same_holds_of_many_more(
    seed: int, path: Any, store: Database, provider: HostileProvider
) -> None:
    crowd = Crowd(store).grow(seed, victims=100)
    path(crowd, provider)
    crowd.assert_all_ended(provider)

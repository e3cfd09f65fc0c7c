"""Clients, workers, dispatchers and operators on few sessions at once: no deadlock, all sound."""

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests import rows, steps
from tests.crowd import at_once, succeeded
from turnmill.domain.errors import MoveRefused
from turnmill.domain.ids import SessionId
from turnmill.domain.states import FINAL, TurnState
from turnmill.store.database import Database
from turnmill.store.line.accept_many import accept_many
from turnmill.store.nouns import sessions, turns
from turnmill.store.records import Claim, Locked

THREADS = 10
STEPS_EACH = 40


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=THREADS)
    yield database
    database.close()


class Actor:
    """One thread that plays everybody in turn, by its own dice."""

    def __init__(self, store: Database, lines: list[SessionId], seed: int) -> None:
        self._store = store
        self._lines = lines
        self._dice = random.Random(seed)
        self._held: list[Claim] = []
        self.done: Counter[str] = Counter()

    def act(self) -> Counter[str]:
        acts: list[Callable[[], object]] = [
            self.send,
            self.send_many,
            self.take,
            self.take,
            self.end,
            self.end,
            self.beat,
            self.dispatch,
            self.change_mind,
            self.pause,
        ]
        for _ in range(STEPS_EACH):
            act = self._dice.choice(acts)
            try:
                act()
            except MoveRefused:
                continue
            self.done[act.__name__] += 1
        return self.done

    def send(self) -> None:
        key = self._dice.choice([None, f"key {self._dice.randrange(20)}"])
        steps.send(self._store, self._dice.choice(self._lines), "same", idempotency_key=key)

    def send_many(self) -> None:
        chosen = self._dice.sample(self._lines, 3)
        with self._store.begin() as conn:
            accept_many(conn, [(line, rows.say("many", lane="bulk")) for line in chosen])

    def take(self) -> None:
        with self._store.begin() as conn:
            waiting = turns.find(conn, states=sorted(frozenset(TurnState) - FINAL), limit=30)
        self._held += steps.take(self._store, *(one.id for one in waiting))

    def end(self) -> None:
        states = [TurnState.SUCCEEDED] * 5 + sorted(
            {TurnState.FAILED, TurnState.RETRYING, TurnState.UNKNOWN, TurnState.QUEUED}
        )
        group = {claim.session_id: claim for claim in self._held}
        verdicts = [steps.verdict(claim, self._dice.choice(states)) for claim in group.values()]
        self._dice.shuffle(verdicts)
        if not verdicts:
            return
        results = steps.end_all(self._store, *verdicts)
        written = {one.turn_id for one in results if not isinstance(one, Locked)}
        self._held = [claim for claim in self._held if claim.turn_id not in written]

    def beat(self) -> None:
        steps.beat(self._store, *self._held)

    def dispatch(self) -> None:
        if self._dice.random() < 0.2 and self._held:
            steps.lose(self._store, self._dice.choice(self._held).turn_id)
        steps.look_for_lost(self._store)
        steps.expire(self._store)

    def change_mind(self) -> None:
        with self._store.begin() as conn:
            found = turns.find(conn, limit=40)
        if not found:
            return
        one = self._dice.choice(found)
        verb = steps.cancel if one.state not in FINAL else steps.retry
        verb(self._store, one.id)

    def pause(self) -> None:
        line = self._dice.choice(self._lines)
        with self._store.begin() as conn:
            self._dice.choice([sessions.pause, sessions.resume])(conn, line)
            sessions.head_of(conn, line)


def drain(store: Database, lines: list[SessionId]) -> None:
    """Answer everything that is left, as workers would."""
    for line in lines:
        with store.begin() as conn:
            sessions.resume(conn, line)
        while (head := steps.line(store, line).head) is not None:
            steps.lose(store, head)
            for claim in steps.take(store, head):
                steps.end(store, claim)


@pytest.mark.long
def test_a_mixed_load_ends_sound_without_a_deadlock(store: Database) -> None:
    lines = [rows.start(store, max_attempts=50) for _ in range(6)]
    actors = [Actor(store, lines, seed) for seed in range(THREADS)]
    done = sum(succeeded(at_once(*[actor.act for actor in actors])), Counter[str]())
    assert min(done.values()) > 0
    steps.assert_sound(store)
    drain(store, lines)
    steps.assert_sound(store, drained=True)

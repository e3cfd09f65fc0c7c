"""A broker that is broken in whatever way stops no turn, for clients and workers alike."""

import logging
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.chaos.books import Books
from tests.chaos.broken_broker import KINDS, BreakableSystem
from tests.chaos.load import await_end
from tests.chaos.system import PATIENCE, Servers, until
from turnmill import Client
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane
from turnmill.store.records import Head
from turnmill.wire import LANE_QUEUES, UPKEEP_QUEUE
from turnmill_worker.stack.process import Child

logger = logging.getLogger(__name__)

ANSWERED_WITHIN = 10.0
BACK_WITHIN = timedelta(seconds=10)
SENT_WITHIN = 5.0
EVERY = 0.05  #: 20 sends a second
LATENCY = "0.4"  #: of the provider
GRACE = timedelta(seconds=2)
#: One that refuses, one that never answers, one that answers with an error.
QUICK = ("killed", "black-holed", "wrongly keyed")

_TO_QUARANTINE = """
WITH suspect AS (
    UPDATE turnmill.turns SET lane = 'quarantine', lost = 1 WHERE id = ANY(%s) RETURNING session_id
)
UPDATE turnmill.sessions SET head_lane = 'quarantine', head_due_at = clock_timestamp()
WHERE id IN (SELECT session_id FROM suspect) RETURNING id, clock_timestamp()
"""
_ANSWERS = """
SELECT lane, max(extract(epoch FROM finished_at - created_at))::float8, count(*)
FROM turnmill.turns WHERE id = ANY(%s) GROUP BY lane
"""


@pytest.fixture
def system(servers: Servers) -> Iterator[BreakableSystem]:
    environment = {"TURNMILL_MOCK_LATENCY": LATENCY}
    with BreakableSystem(servers, grace=GRACE, environment=environment) as system:
        yield system
        assert Books.of(system).complaints() == []


@dataclass
class Sender:
    """Sends twenty messages a second, in both lanes that a client may name, over fifty sessions."""

    client: Client
    turns: list[TurnId] = field(default_factory=list)
    slowest: float = 0.0  #: seconds that a `send` took

    def __post_init__(self) -> None:
        self._sessions = [self.client.sessions.create(user_id="ada").id for _ in range(50)]
        self._count = 0

    def send(self) -> None:
        session = self._sessions[self._count % len(self._sessions)]
        lane = Lane.BULK if self._count % 2 else Lane.INTERACTIVE
        self._count += 1
        began = time.monotonic()
        self.turns.append(self.client.send(session, "hello", lane=lane).id)
        self.slowest = max(self.slowest, time.monotonic() - began)

    def send_for(self, seconds: float) -> None:
        pace = threading.Event()
        began = time.monotonic()
        while (past := time.monotonic() - began) < seconds:
            self.send()
            pace.wait(max(0.0, EVERY - (time.monotonic() - began - past)))


def suspects(system: BreakableSystem, client: Client, count: int) -> list[TurnId]:
    """Let turns stand in quarantine, due from now on."""
    paused = [client.sessions.create(user_id="eve").id for _ in range(count)]
    for session in paused:
        client.sessions.pause(session)
    turns = [client.send(session, "suspicious").id for session in paused]
    system.rows(_TO_QUARANTINE, turns)
    for session in paused:
        client.sessions.resume(session)
    return turns


def await_hints(system: BreakableSystem, client: Client) -> None:
    """Wait until a client publishes again, and workers take what was published."""
    head = Head(turn_id=TurnId(uuid4()), session_id=SessionId(uuid4()), lane=Lane.INTERACTIVE)
    until(lambda: client._executor.announcer.announce([head]) == 1, within=BACK_WITHIN)
    with system.servers.redis() as redis:
        until(lambda: redis.llen(LANE_QUEUES[Lane.INTERACTIVE]) == 0, within=BACK_WITHIN)


def break_for(system: BreakableSystem, client: Client, kind: str, *, seconds: float) -> None:
    """Break the broker, and see to it that nobody has to wait for that."""
    sender = Sender(client)
    with system.client() as fresh, system.broken(kind):
        newcomer = Sender(fresh)
        for first in (sender, newcomer):
            first.send()
        late = suspects(system, client, 2)
        sender.send_for(seconds)
        await_end(system)
        answers = {lane: (took, count) for lane, took, count in system.rows(_ANSWERS, sender.turns)}
        [(_, in_quarantine, _)] = system.rows(_ANSWERS, late)
    mended_at = time.monotonic()
    await_hints(system, client)
    back_after = time.monotonic() - mended_at
    logger.info(
        "%s: answers %s, in quarantine %.2f s, slowest send %.2f s, back after %.1f s",
        *(kind, answers, in_quarantine, max(sender.slowest, newcomer.slowest), back_after),
    )
    assert back_after < BACK_WITHIN.total_seconds()
    assert sum(count for _, count in answers.values()) == len(sender.turns)
    assert max(took for took, _ in answers.values()) < ANSWERED_WITHIN
    assert in_quarantine < ANSWERED_WITHIN
    assert max(sender.slowest, newcomer.slowest) < SENT_WITHIN


def ready(system: BreakableSystem, count: int) -> list[Child]:
    workers = [system.launch_worker() for _ in range(count)]
    system.await_ready(*workers)
    return workers


@pytest.mark.long
@pytest.mark.parametrize(
    "kinds",
    [
        QUICK,
        pytest.param(tuple(kind for kind in KINDS if kind not in QUICK), marks=[pytest.mark.slow]),
    ],
    ids=["some ways", "all other ways"],
)
@pytest.mark.timeout(300)
def test_every_turn_is_answered_within_seconds_while_the_broker_is_broken(
    system: BreakableSystem, kinds: tuple[str, ...]
) -> None:
    workers = ready(system, 2)
    with system.client() as client:
        suspects(system, client, 1)  # their process takes its time to start, and stays for a while
        await_end(system)
        for kind in kinds:
            break_for(system, client, kind, seconds=1.5)
    assert [worker.poll() for worker in workers] == [None, None]


@pytest.mark.long
@pytest.mark.parametrize(
    "kind",
    [
        "frozen",
        *(pytest.param(kind, marks=[pytest.mark.slow]) for kind in KINDS if kind != "frozen"),
    ],
)
def test_a_worker_starts_and_ends_while_the_broker_is_broken(
    system: BreakableSystem, kind: str
) -> None:
    with system.client() as client, system.broken(kind):
        [worker] = ready(system, 1)
        Sender(client).send()
        await_end(system)
        cut = client.send(
            client.sessions.create(user_id="ada"), "long", metadata={"mock": {"latency": 600}}
        )
        until(lambda: system.calls_of(cut.id))
        asked_at = time.monotonic()
        worker.ask_to_stop()
        until(lambda: worker.poll() is not None, within=PATIENCE)
        assert GRACE.total_seconds() < time.monotonic() - asked_at < GRACE.total_seconds() + 10
        assert worker.poll() == 0
        assert cut.refresh().state == "unknown"  # its request had left: somebody will ask


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["frozen", "killed", "black-holed"])
def test_five_minutes_without_a_broker_are_as_one(system: BreakableSystem, kind: str) -> None:
    workers = ready(system, 2)
    with system.client() as client:
        suspects(system, client, 1)
        await_end(system)
        break_for(system, client, kind, seconds=300)
    until(lambda: system.logs().count("Connected to") >= 4)
    assert [worker.poll() for worker in workers] == [None, None]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["killed", "frozen", "forbidden", "wrongly keyed"])
def test_a_beat_lives_through_an_outage_and_sends_what_became_due_meanwhile(
    system: BreakableSystem, kind: str
) -> None:
    minute = timedelta(seconds=70)
    with system.broken(kind):
        beat = system.launch_beat(TURNMILL_SCHEDULE_SELF_CHECK="* * * * *")
        system.await_ready(beat)
        until(
            lambda: re.search("the broker does not answer: |Message Error", system.logs()),
            within=minute,
        )
    with system.servers.redis() as redis:
        until(lambda: redis.llen(UPKEEP_QUEUE), within=minute)
    assert beat.poll() is None

"""All that costs money at once, while workers are killed and limits are moved: the bill is right.

Each call costs a cent, and a line of a vendor's batch half of one: so the vendors' own books, which
know what they have executed, say to the cent what is owed. What nobody can know (a worker was lost
in the middle of a call) is marked as an estimate, and no less than it may have been.
"""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.system import Servers, System, kill, until
from tests.doubles.on_a_thread import Vendor
from tests.doubles.openai_audio import AudioDouble
from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.doubles.openai_server import KEY
from tests.sounds import wav
from turnmill import Audio, Client, SessionRecord, StoreError, Turn
from turnmill.store.database import Database
from turnmill.store.upkeep.invariants import violations
from turnmill.testing import script
from turnmill_worker.stack.process import Child

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LEASE = timedelta(seconds=2)
WITHIN = timedelta(seconds=float(os.environ.get("TURNMILL_TEST_MIX_WITHIN", "600")))
EACH = int(os.environ.get("TURNMILL_TEST_MIX", "12"))  #: turns of each kind
KILLS = int(os.environ.get("TURNMILL_TEST_MIX_KILLS", "12"))
CENT, HALF = Decimal("0.01"), Decimal("0.005")
PRICES = {
    "*": {"input": 0, "output": 0, "call": 0.01},
    "openai/*@batch": {"input": 0, "output": 0, "call": 0.005},
}
#: Where a model's context ends, in characters of a request: a few messages of `LONG` fill it.
WINDOW = 4_000
LONG = "word " * 150
_PAID = ("/responses", "/transcriptions", "/speech")


class EveryKind(AudioDouble, OpenAIBatchesDouble):
    """A vendor that answers, hears, speaks, works in the background, and takes batches."""

    @property
    def bill(self) -> Decimal:
        """What it is owed: a cent for what it has executed, half of one for a line of a batch."""
        calls = [one for one in self.calls if one.method == "POST" and one.executed]
        done = sum(one.path.endswith(_PAID) for one in calls)
        return done * CENT + sum(self.desk.paid.values()) * HALF


@dataclass
class Mix:
    """Who is asked for what, and all turns that this came to."""

    client: Client
    folder: Path
    turns: list[Turn] = field(default_factory=list)

    def session(self, user: str, **options: Any) -> SessionRecord:
        return self.client.sessions.create(user_id=user, **options)

    def send(self, session: SessionRecord, text: Any, **options: Any) -> None:
        self.turns.append(self.client.send(session, text, **options))

    def plain(self, n: int) -> None:
        self.send(self.session("poor"), f"hello {n}")

    def tools(self, n: int) -> None:
        session = self.session(f"u{n % 4}", tools=["look", "book"], max_cost_usd="0.50")
        calls = script(calls=[("look", {}), ("book", {})], rounds=2, latency=_between(n))
        self.send(session, "use them", metadata=calls)

    def fallback(self, n: int) -> None:
        answers = {"provider": "mock", "model": "other", "settings": {"mock": {"faults": "ok"}}}
        failing = {"mock": {"faults": ("overloaded", "unreachable", "cut")[n % 3]}}
        session = self.session(f"u{n % 4}", settings=failing, fallback=[answers])
        self.send(session, "who answers?")

    def streams(self, n: int) -> None:
        faults = ([], [{"cut": 2}], ["maybe_sent"])[n % 3]
        said = script(faults=faults, latency=_between(n))
        self.send(self.session(f"u{n % 4}"), "say it slowly", stream=True, metadata=said)

    def compaction(self, n: int) -> None:
        session = self.session(
            f"u{n % 4}", provider="openai", model="gpt-5-mini", on_context_full="summarise"
        )
        for m in range(5):
            self.send(session, f"{LONG} {n} {m}")

    def voice(self, n: int) -> None:
        spoken = {"audio_model": "openai/tts-1"}
        session = self.session("loud", provider="openai", model="gpt-5-mini", settings=spoken)
        self.send(session, Audio(wav(1.0 + n / 100)), reply_as="audio")

    def background(self, n: int) -> None:
        if n % 2:
            work = {"background": True}
            session = self.session("late", provider="openai", model="gpt-5-mini", settings=work)
            self.send(session, f"take your time {n}")
        else:
            slow = script(faults="running", latency=timedelta(seconds=3))
            self.send(self.session("late"), "take your time", metadata=slow)

    def people(self, n: int) -> None:
        session = self.session("ada")
        for name in ("bob", "cem"):
            self.client.sessions.participants.add(session, name)
            self.send(session, f"{name} says {n}", sender=name)

    def batches(self) -> None:
        for mode, provider, model in (("live", "mock", "m"), ("native", "openai", "gpt-5-mini")):
            lines = [
                {"user_id": f"b{n}", "text": f"line {n}", "provider": provider, "model": model}
                for n in range(4 * EACH)
            ]
            path = self.folder / f"{mode}.jsonl"
            path.write_text("".join(f"{json.dumps(one)}\n" for one in lines))
            self.client.batches.create(path, mode=mode, name=mode, max_cost_usd=5)

    def all(self) -> None:
        """Send a bit of everything, and everything again."""
        kinds: Sequence[Callable[[int], None]] = (
            *(self.plain, self.tools, self.fallback, self.streams),
            *(self.compaction, self.voice, self.background, self.people),
        )
        for n in range(EACH):
            for kind in kinds:
                kind(n)


def _between(n: int) -> timedelta:
    return timedelta(seconds=0.2 + n % 5 / 5)


@pytest.fixture
def double() -> Iterator[EveryKind]:
    vendor = Vendor(EveryKind(takes=1.0, latency=timedelta(seconds=0.2)))
    found = vendor.double
    assert isinstance(found, EveryKind)
    found.window = WINDOW
    yield found
    vendor.stop()


@pytest.fixture
def system(servers: Servers, double: EveryKind, tmp_path: Path) -> Iterator[System]:
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    reach = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": double.base_url,
        "TURNMILL_BATCH_POLL": "1",
        "TURNMILL_FILES_URL": str(tmp_path / "files"),
        "TURNMILL_MOCK_LATENCY": "0.1-0.8",
        "TURNMILL_PRICES": str(tmp_path / "prices.json"),
        "TURNMILL_TOOLS": "tests.worldly_tools",
    }
    (tmp_path / "files").mkdir()
    with System(servers, lease=LEASE, environment=reach) as system:
        yield system


@contextmanager
def looked_at(system: System) -> Iterator[list[Decimal]]:
    """Look at all budgets all the time; yields by how much the worst was overdrawn, each time."""
    over: list[Decimal] = []
    ended = threading.Event()

    def look() -> None:
        with system.client() as client:
            while not ended.wait(0.01):
                try:
                    found = client.budgets.list()
                except StoreError:
                    continue
                over.extend(one.spent_usd + one.reserved_usd - one.limit_usd for one in found)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for one in readers:
        one.start()
    try:
        yield over
    finally:
        ended.set()
        for one in readers:
            one.join()


class Killer:
    """Kills one worker after the other, wherever it is just then.

    From the thread that has launched them: they end with it.
    """

    def __init__(self, system: System, workers: list[Child]) -> None:
        self._system = system
        self._workers = workers
        self._dice = random.Random(os.environ.get("TURNMILL_TEST_SEED", "1"))
        self.left = KILLS

    def strike(self) -> None:
        """Let some time go by, and kill one, if any is still to be killed."""
        time.sleep(self._dice.uniform(0.5, 2.5))
        if not self.left:
            return
        self.left -= 1
        kill(self._workers.pop(self._dice.randrange(len(self._workers))))
        self._workers.append(self._system.launch_worker(concurrency=10))
        if self.left % 2 == 0:  # half of them are killed before they are ready
            self._system.await_ready(self._workers[-1])


def unfinished(system: System) -> int:
    """Count what has not ended of all that was asked for."""
    counted = "SELECT count(*) FROM turnmill.{} WHERE {} IS NULL"
    tables = (("turns", "finished_at"), ("batches", "ended_at"), ("trials", "ended_at"))
    return sum(int(system.rows(counted.format(*one))[0][0]) for one in tables)


def reserved(system: System) -> Decimal:
    sums = "SELECT sum(reserved_usd) FROM turnmill.budgets UNION ALL SELECT sum(reserved_usd) FROM"
    return sum(
        (one[0] or Decimal(0) for one in system.rows(f"{sums} turnmill.charges")), Decimal(0)
    )


def booked(system: System) -> tuple[Decimal, Decimal]:
    """Return what is charged for all calls, and what of it is an estimate, each call once."""
    once = "SELECT DISTINCT ON (turn_id, fence) charged_usd, estimated_usd FROM turnmill.charges"
    [(charged, estimated)] = system.rows(
        f"SELECT coalesce(sum(charged_usd), 0), coalesce(sum(estimated_usd), 0) FROM ({once}) x"
    )
    return charged, estimated


def test_a_mix_of_all_that_costs_money_is_charged_as_vendors_bill_it(
    system: System, double: EveryKind, tmp_path: Path
) -> None:
    reach = {"files_url": str(tmp_path / "files"), "prices": tmp_path / "prices.json"}
    with system.client(**reach) as client:
        client.budgets.set(limit_usd="0.50", **EVERYBODY)
        client.budgets.set(user_id="poor", limit_usd=CENT * EACH / 2, period="total")
        workers = [system.launch_worker(concurrency=10) for _ in range(3)]
        system.await_ready(*workers, system.launch_beat())  # which has vendors' batches looked at
        mix = Mix(client, tmp_path)
        with looked_at(system) as over:
            mix.all()
            mix.batches()
            _let_all_end(system, client, Killer(system, workers))
            until(lambda: not reserved(system), within=LEASE + timedelta(seconds=3))
        assert len(over) > 100 and max(over) <= 0
        _assert_paid(system, double)
        _assert_refused_rightly(client, mix)


EVERYBODY: dict[str, Any] = {"period": "total", "on_exceeded": "wait"}
JUDGED: dict[str, Any] = {"judge": "model:mock/judge", "max_cost_usd": 5, "mode": "live"}


def _let_all_end(system: System, client: Client, killer: Killer) -> None:
    """Raise what everybody may spend, bit by bit, and begin a trial of what was answered by then.

    A limit is never lowered below what is spent already.
    """
    trial, limit = None, Decimal("0.50")
    ends = time.monotonic() + WITHIN.total_seconds()
    while killer.left or trial is None or unfinished(system):
        assert time.monotonic() < ends, client.lanes.loads()
        limit += Decimal("0.25")
        client.budgets.set(limit_usd=limit, **EVERYBODY)
        killer.strike()
        if trial is None and client.turns.list(states=["succeeded"], lane="interactive"):
            trial = client.trials.start("mock/another", sample=EACH, **JUDGED)


def _assert_paid(system: System, double: EveryKind) -> None:
    """Hold the charges to the bills: equal, but for what is marked as an estimate."""
    database = Database(system.database_url)
    with database.begin() as conn:
        assert [str(one) for one in violations(conn)] == []
    database.close()
    bill = double.bill + system.count_calls("completed") * CENT
    charged, estimated = booked(system)
    assert charged - estimated <= bill <= charged, (charged, estimated, bill)
    assert estimated or charged == bill
    assert bill > 0 and sum(double.desk.paid.values()) == 4 * EACH
    _assert_each_turn_is_right(system)
    _assert_nothing_was_left_out(system)


def _assert_each_turn_is_right(system: System) -> None:
    """Of turns that the mock alone was asked for: each to the cent, or marked."""
    executed = Counter(one.turn_id for one in system.ledger.calls() if one.ended_at is not None)
    rows = system.rows(
        "SELECT x.turn_id, sum(x.charged_usd), sum(x.estimated_usd) FROM (SELECT DISTINCT ON"
        " (turn_id, fence) * FROM turnmill.charges) x JOIN turnmill.turns t ON t.id = x.turn_id"
        " JOIN turnmill.sessions s ON s.id = t.session_id WHERE s.provider = 'mock' GROUP BY 1"
    )
    assert len(rows) > EACH
    for turn_id, charged, estimated in rows:
        owed = executed[turn_id] * CENT
        assert charged == owed or (estimated and charged - estimated <= owed <= charged), turn_id


def _assert_nothing_was_left_out(system: System) -> None:
    """See that all that is mixed has been there."""
    kinds = {one[0] for one in system.rows("SELECT DISTINCT kind FROM turnmill.attempts")}
    assert kinds >= {"send", "check", "transcribe", "speak", "batch"}
    for what in (
        "compactions WHERE up_to_seq > 0",
        "tool_calls WHERE step = 2",
        "attempts WHERE outcome = 'lost'",
        "attempts WHERE model = 'other' AND outcome = 'succeeded'",
        "attempts WHERE model IN ('another', 'judge') AND outcome = 'succeeded'",
    ):
        assert system.rows(f"SELECT count(*) FROM turnmill.{what}") > [(0,)], what


def _assert_refused_rightly(client: Client, mix: Mix) -> None:
    poor = client.budgets.get(user_id="poor")
    ended = Counter((one.refresh().state.value, one.record.error_code) for one in mix.turns)
    refused = ended.pop(("failed", "budget_exceeded"), 0)
    assert 0 < refused <= EACH / 2, ended
    assert poor.spent_usd <= poor.limit_usd < poor.spent_usd + CENT, "it would have fitted"
    assert ended[("succeeded", None)] > 0.9 * sum(ended.values()), ended

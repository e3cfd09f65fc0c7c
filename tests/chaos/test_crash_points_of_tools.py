"""A worker that dies between a call of a tool and its output, at each point where it can.

The turn goes on where its rows end: no step that was finished is taken again, what may be done
once only is done once at most, and the session goes on.
"""

import importlib
import json
import os
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import world
from tests.chaos.books import Books
from tests.chaos.stage import Stage
from tests.chaos.system import PATIENCE, Servers, System, until
from tests.talking import installed
from turnmill import TurnFailed
from turnmill.sync.turns import Turn

WAIT = PATIENCE.total_seconds()
LEASE = timedelta(seconds=1.5)
EXAMPLE = Path(__file__).parents[2] / "examples" / "charge_once"
KINDS = ("look", "book", "strike")
TOOLS = {"tools": list(KINDS)}
KILLS = int(os.environ.get("TURNMILL_TEST_KILLS", "200"))
#: Two rounds of three calls beside one another.
CALLS = {"calls": [[[kind, {}] for kind in KINDS]] * 2}

#: Before and after each commit of a round, and in the middle of each tool.
POINTS = (
    *("step.before", "step.after", "begin.before", "begin.after"),
    *("tool.look", "tool.book", "tool.strike", "output.before", "output.after"),
)
_OFTEN = ("step.after", "begin.after", "tool.strike", "output.before")


@pytest.fixture(scope="module")
def stage(servers: Servers) -> Iterator[Stage]:
    system = System(servers, lease=LEASE)
    system.environment |= {
        "PYTHONPATH": os.pathsep.join([installed(system.folder), str(EXAMPLE)]),
        "TURNMILL_TOOLS": "tests.worldly_tools,shop",
        "SHOP_PAYMENTS": str(system.folder / "payments.db"),
        world.VARIABLE: str(system.folder / "world"),
    }
    with system, system.client() as client:
        yield Stage(system, client)
        assert Books.of(system).violations == []


def start(stage: Stage) -> str:
    session = stage.client.sessions.create(
        user_id="ada", provider="talking", model="m", settings=TOOLS
    )
    return str(session.id)


def send(stage: Stage, session: str) -> Turn:
    return stage.client.send(session, "said once", metadata=CALLS)


def done(stage: Stage, turn: Turn) -> list[dict[str, Any]]:
    return [one for one in world.of(stage.system.folder / "world") if one["turn"] == str(turn.id)]


def assert_done_once(stage: Stage, turn: Turn, *, losses: int) -> None:
    """Hold the world to what each kind of tool promises, and the turn to its steps."""
    found = done(stage, turn)
    times = Counter((one["done"], one["step"]) for one in found if "done" in one)
    assert all(n == 1 for (kind, _), n in times.items() if kind == "strike"), times
    assert all(n <= 1 + losses for n in times.values()), times
    keys = {one["key"] for one in found if one.get("done") == "book"}
    assert len(keys) == 2, "a key for each of the two calls, whoever runs them"
    finished = {one.step: one.fence for one in turn.attempts() if one.outcome == "called"}
    asked = [(one["asked"], one["fence"]) for one in found if "asked" in one]
    assert all(fence <= finished.get(step, fence) for step, fence in asked), "a finished step again"


def outputs(turn: Turn) -> Sequence[str]:
    told: Sequence[str] = json.loads(turn.result(timeout=WAIT).text)["outputs"]
    return told


@pytest.mark.parametrize(
    "point",
    [one if one in _OFTEN else pytest.param(one, marks=pytest.mark.slow) for one in POINTS],
)
def test_a_worker_that_dies_between_a_call_and_its_output_does_nothing_twice(
    stage: Stage, point: str
) -> None:
    session = start(stage)
    stage.arm(point)
    turn = send(stage, session)
    stage.fall()
    told = outputs(turn)
    assert len(told) == 6
    unknown = [one for one in told if "unknown" in one]
    assert all("not run again" in one for one in unknown)
    # Of a call that may happen once only and had begun, the model is told that nobody knows.
    assert len(unknown) == (1 if point in {"begin.after", "tool.strike"} else len(unknown))
    assert_done_once(stage, turn, losses=1)
    assert len(outputs(send(stage, session))) == 6, "the session goes on"


def test_the_example_charges_once_though_its_worker_dies_with_the_charge_made(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)
    buy = importlib.import_module("buy").buy
    calls = json.dumps([[["charge", {"customer": "7", "cents": 2400}]]])
    stage.arm("output.before")
    with ThreadPoolExecutor(1) as pool:
        bought = pool.submit(buy, stage.client, "talking", calls)
        stage.fall()
        told = json.loads(bought.result(timeout=WAIT))["outputs"]
    assert told == ["charged 2400 cents to 7"]
    payments = sqlite3.connect(stage.system.folder / "payments.db")
    assert payments.execute("SELECT customer, cents FROM paid").fetchall() == [("7", 2400)]
    payments.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_workers_die_between_calls_and_outputs_and_nothing_is_done_twice(
    stage: Stage,
) -> None:
    """TURNMILL_TEST_KILLS says how many it is to be instead."""
    draw = random.Random(7)
    sessions = [start(stage) for _ in range(8)]
    turns = []
    for n in range(KILLS):
        stage.arm(draw.choice(POINTS))
        turns.append(send(stage, sessions[n % len(sessions)]))
        stage.fall()
    ended = [turn for turn in turns if _ends(turn)]
    assert len(ended) >= len(turns) * 0.9, "a turn is dead that was lost four times: few are"
    for turn in turns:
        assert_done_once(stage, turn, losses=turn.refresh().record.lost)
    until(lambda: Books.of(stage.system).unfinished == [])
    for session in sessions:
        assert len(outputs(send(stage, session))) == 6


def _ends(turn: Turn) -> bool:
    try:
        turn.result(timeout=10 * WAIT)
    except TurnFailed:
        return False
    return True

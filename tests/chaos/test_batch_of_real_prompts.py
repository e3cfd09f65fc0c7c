"""10,000 real prompts in a batch, while workers are killed, and whoever submits it."""

import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.books import Books
from tests.chaos.prompts import real_answers, real_lines
from tests.chaos.system import PATIENCE, Servers, System, kill, until
from tests.chaos.test_batch_of_10000 import called_too_often
from tests.doubles.answering_vendor import AnsweringVendor
from tests.doubles.on_a_thread import Vendor
from tests.doubles.openai_server import KEY
from turnmill import Client
from turnmill.domain.batches import BatchMode, BatchState
from turnmill.domain.states import TurnState
from turnmill.store.analytics.usage import roll_up
from turnmill.store.database import Database
from turnmill.store.upkeep.invariants import violations
from turnmill_worker.stack.process import Child

logger = logging.getLogger(__name__)

LINES = 10_000
KILLS = 5
#: Of a dry run, whose lines are all asked afterwards.
DRY = int(os.environ.get("TURNMILL_TEST_LINES", "10000"))
_LATENCY = "0.2"
#: Lines whose replies are known when the others are estimated.
_BEFORE = 300
_ASKED: dict[str, Any] = {"provider": "openai", "model": "gpt-4.1-mini"}

_SUBMIT = """
import sys
from turnmill import Client
database_url, broker_url, path = sys.argv[1:]
with Client(database_url=database_url, broker_url=broker_url) as client:
    client.batches.create(path, name="real")
"""

_SEALED = """
SELECT (SELECT bool_and(sealed_at IS NOT NULL) FROM turnmill.batches),
    (SELECT count(*) FROM turnmill.turns)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_line_of_real_prompts_has_one_result_in_order_and_none_is_asked_twice(
    system: System,
) -> None:
    path = system.folder / "prompts.jsonl"
    lines = list(real_lines(system.folder, most=LINES))
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    workers = [_worker(system) for _ in "ab"]
    system.await_ready(*workers)
    _kill_while_submitting(system, path)
    with system.client() as client:
        batch = client.batches.create(path, name="real")
        _kill_while_running(system, workers, total=sum(len(line["messages"]) for line in lines))
        counts = batch.wait(timeout=timedelta(minutes=10))
        results = list(batch.iter_results())
    assert (counts.state, counts.states) == (BatchState.COMPLETED, {TurnState.SUCCEEDED: LINES})
    assert [one.custom_id for one in results] == [line["custom_id"] for line in lines]
    answers = zip(results, lines, strict=True)
    wrong = [one.line for one, line in answers if not _is_of(one.text or "", line["messages"])]
    assert wrong == []
    assert called_too_often(Books.of(system)) == []
    _assert_sound(system)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_dry_run_of_real_prompts_is_near_what_they_cost_and_its_bound_holds(
    system: System,
) -> None:
    path, prices = system.folder / "prompts.jsonl", system.folder / "prices.json"
    lines = real_lines(system.folder, most=DRY)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    prices.write_text(json.dumps({"mock/*": {"input": 1, "output": 2}}))
    system.start_worker(concurrency=400, TURNMILL_MOCK_LATENCY="0", TURNMILL_PRICES=str(prices))
    with system.client(prices=prices) as client:
        said = client.batches.estimate(path).modes[BatchMode.LIVE]
        assert said.cost_usd is not None
        assert said.bound_usd is not None
        client.budgets.set(limit_usd=said.bound_usd, period="total")
        batch = client.batches.create(path)
        counts = batch.wait(timeout=timedelta(minutes=10))
    told = "said %.6f and at the most %.6f, cost %.6f"
    logger.warning(told, said.cost_usd, said.bound_usd, counts.cost_usd)
    assert counts.states == {TurnState.SUCCEEDED: DRY}
    assert abs(counts.cost_usd - said.cost_usd) <= Decimal("0.15") * said.cost_usd
    assert counts.cost_usd <= said.bound_usd


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_dry_run_knows_how_long_replies_are_by_those_that_were_had_here(
    servers: Servers, tmp_path: Path
) -> None:
    lines = list(real_lines(tmp_path, most=DRY + _BEFORE))
    random.Random(17).shuffle(lines)
    vendor = Vendor(AnsweringVendor(real_answers(tmp_path)))
    reach = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": vendor.double.base_url}
    with System(servers, environment=reach) as system, system.client() as client:
        system.start_worker(concurrency=200)
        _run(client, _written(system, "before", lines[:_BEFORE]))
        _roll_up(system)
        path = _written(system, "prompts", lines[_BEFORE:])
        said = client.batches.estimate(path, **_ASKED).modes[BatchMode.LIVE]
        cost = _run(client, path)
    vendor.stop()
    assert said.cost_usd is not None
    assert said.bound_usd is not None
    logger.warning("said %.6f, at the most %.6f, cost %.6f", said.cost_usd, said.bound_usd, cost)
    assert abs(cost - said.cost_usd) <= Decimal("0.15") * said.cost_usd
    assert cost <= said.bound_usd


def _written(system: System, name: str, lines: Sequence[dict[str, Any]]) -> Path:
    path = system.folder / f"{name}.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def _run(client: Client, path: Path) -> Decimal:
    counts = client.batches.create(path, mode="live", **_ASKED).wait(timeout=timedelta(minutes=10))
    assert counts.state is BatchState.COMPLETED
    return counts.cost_usd


def _roll_up(system: System) -> None:
    database = Database(system.database_url)
    with database.begin() as conn:
        roll_up(conn)
    database.close()


def _worker(system: System) -> Child:
    return system.launch_worker(concurrency=400, TURNMILL_MOCK_LATENCY=_LATENCY)


def _kill_while_submitting(system: System, path: Path) -> None:
    """Kill whoever submits when some of the lines stand."""
    urls = (system.database_url, system.broker_url)
    program = [sys.executable, "-c", _SUBMIT, *urls, str(path)]
    with subprocess.Popen(program, env=system.variables) as submitter:
        until(lambda: _standing(system) >= LINES // 10 or submitter.poll() is not None)
        submitter.kill()
    [(sealed, turns)] = system.rows(_SEALED)
    assert sealed or turns == 0  # nothing runs before all lines stand


def _kill_while_running(system: System, workers: list[Child], *, total: int) -> None:
    for number in range(1, KILLS + 1):
        enough = number * total // (KILLS + 2)
        until(lambda enough=enough: system.count_calls() > enough, within=5 * PATIENCE)  # type: ignore[misc]
        kill(workers.pop(0))
        workers.append(_worker(system))


def _assert_sound(system: System) -> None:
    """Nothing breaks a promise, nor is miscounted, when the batch is known to have ended."""
    until(lambda: system.rows("SELECT ended_at FROM turnmill.batches") != [(None,)])
    database = Database(system.database_url)
    with database.begin() as conn:
        assert violations(conn, drained=True) == []
    database.close()


def _standing(system: System) -> int:
    found = system.rows("SELECT max(last_line) FROM turnmill.batches")
    return found[0][0] or 0


def _is_of(reply: str, messages: list[dict[str, str]]) -> bool:
    """Tell whether the mock has answered this line: what it was told, and how much before."""
    return messages[-1]["content"][:40] in reply and f"[{2 * (len(messages) - 1)} before]" in reply

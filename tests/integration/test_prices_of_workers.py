"""A client without prices, and a worker that has them: a batch with a limit runs within it."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.workers import client_beside_one
from turnmill import Client
from turnmill.domain.errors import InvalidBatchFile
from turnmill.sync.batches import Batch
from turnmill_worker.stack.process import wait_until

SOON = timedelta(seconds=60)


@pytest.fixture
def client(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Client]:
    """Return a client beside a worker, which alone is told of prices."""
    prices = tmp_path / "prices.json"
    prices.write_text('{"mock/ours-*": {"call": 0.01}}')
    told = {"TURNMILL_PRICES": str(prices)}
    options = ("--concurrency=20", "--loglevel=WARNING")
    with client_beside_one(database_url, broker_url, tmp_path, *options, **told) as client:
        yield client


def submit(client: Client, folder: Path, model: str, *, limit: str) -> Batch | None:
    path = folder / "jobs.jsonl"
    lines = [{"text": f"{n}", "user_id": f"user-{n}"} for n in range(10)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    try:
        return client.batches.create(
            path, provider="mock", model=model, max_cost_usd=limit, name=f"{model} {limit}"
        )
    except InvalidBatchFile as error:
        if {one[1] for one in error.problems} != {"price_unknown"}:
            raise
        return None


@pytest.mark.long
def test_what_a_worker_has_a_price_of_is_taken_from_a_client_without_prices(
    client: Client, tmp_path: Path
) -> None:
    submitted: list[Batch | None] = []

    def is_taken() -> bool:  # as soon as the worker is up, and has told
        submitted.append(submit(client, tmp_path, "ours-1", limit="1"))
        return submitted[-1] is not None

    assert wait_until(is_taken, timeout=SOON)
    batch = submitted[-1]
    assert batch is not None
    assert wait_until(lambda: batch.counts.is_done, timeout=SOON)
    assert batch.counts.cost_usd == Decimal("0.10")
    assert submit(client, tmp_path, "theirs", limit="1") is None
    small = submit(client, tmp_path, "ours-2", limit="0.05")
    assert small is not None
    assert wait_until(lambda: small.counts.paused_because == "max_cost_usd", timeout=SOON)
    assert small.counts.cost_usd == Decimal("0.05")

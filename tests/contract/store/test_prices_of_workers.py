"""Which models workers have prices of: what a client goes by that has none of its own."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from tests.batch_clients import batches_of
from turnmill.domain.errors import InvalidBatchFile
from turnmill.domain.price_names import names_model
from turnmill.store.database import Database
from turnmill.store.nouns import price_lists as noted_lists
from turnmill.store.schema.limit_tables import price_lists
from turnmill.store.types import db_after
from turnmill_worker.process.telling_prices import tell_prices, tend_prices

PRICE = {"input": 1, "output": 2}


def file_of(folder: Path, *models: str) -> Path:
    path = folder / "prices.json"
    path.write_text(json.dumps(dict.fromkeys(models, PRICE)))
    return path


def jobs(folder: Path, *models: str) -> Path:
    path = folder / "jobs.jsonl"
    lines = [{"text": "hi", "model": model, "user_id": "ada"} for model in models]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def grow_older(store: Database, by: timedelta) -> None:
    with store.begin() as conn:
        conn.execute(update(price_lists).values(seen_at=db_after(-by.total_seconds())))


def test_a_line_is_taken_that_workers_have_a_price_of_and_refused_where_nobody_has(
    store: Database, tmp_path: Path
) -> None:
    tell_prices(store, file_of(tmp_path, "openai/ours*", "openai/fast@flex"))
    made = batches_of(store)
    path = jobs(tmp_path, "ours-2", "fast", "gpt-4.1-mini", "theirs")
    with pytest.raises(InvalidBatchFile) as caught:
        made.create(path, max_cost_usd=1, provider="openai")
    assert [one[:2] for one in caught.value.problems] == [(4, "price_unknown")]
    batch = made.create(jobs(tmp_path, "ours-2", "fast"), max_cost_usd=1, provider="openai")
    assert batch.counts.total == 2


def test_a_list_that_no_worker_has_told_of_for_two_days_is_nobodys(
    store: Database, tmp_path: Path
) -> None:
    file = file_of(tmp_path, "openai/ours")
    tell_prices(store, file)
    grow_older(store, timedelta(days=2, seconds=1))
    with pytest.raises(InvalidBatchFile):
        batches_of(store).create(jobs(tmp_path, "ours"), max_cost_usd=1, provider="openai")
    tell_prices(store, file)
    batches_of(store).create(jobs(tmp_path, "ours"), max_cost_usd=1, provider="openai")


def test_workers_of_one_list_share_a_row_and_old_lists_are_forgotten(
    store: Database, tmp_path: Path
) -> None:
    for _ in range(3):
        tell_prices(store, file_of(tmp_path, "openai/b", "openai/a"))
    grow_older(store, timedelta(days=3))
    tend_prices(store, file_of(tmp_path, "openai/a", "openai/c"))
    tell_prices(store, None)  # has none, and says nothing
    with store.begin() as conn:
        assert noted_lists.noted(conn) == {"openai/a", "openai/c"}
        assert conn.scalar(select(func.count()).select_from(price_lists)) == 1


def test_a_list_without_end_is_told_of_so_far_and_that_is_said(
    store: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = [f"openai/m{n}" for n in range(noted_lists.MOST + 10)]
    tell_prices(store, file_of(tmp_path, *many))
    assert "more than 2000 models" in caplog.text
    with store.begin() as conn:
        assert len(noted_lists.noted(conn)) == noted_lists.MOST


@pytest.mark.parametrize(
    ("pattern", "model", "is_named"),
    [
        ("openai/*", "a", True),
        ("*", "a", True),
        ("openai/a[1m]", "a[1m]", True),
        ("openai/a[1m]", "a1", False),
        ("openai/a?", "ab", False),
        ("Openai/a", "a", False),
    ],
)
def test_a_star_alone_stands_for_anything(pattern: str, model: str, *, is_named: bool) -> None:
    assert names_model(pattern, "openai", model) is is_named

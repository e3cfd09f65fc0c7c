"""A mode is chosen for a batch, or refused."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.native import submit
from turnmill import Client
from turnmill.domain.errors import InvalidInput
from turnmill.store.database import Database
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.tables import batches, sessions, turns


@pytest.mark.parametrize(
    ("n", "provider", "given", "mode"),
    [
        (60, "openai", {}, "native"),
        (60, "anthropic", {"deadline": timedelta(hours=30)}, "native"),
        (60, "anthropic", {"deadline": timedelta(hours=20)}, "live"),
        (10, "openai", {}, "live"),
        (60, "mock", {}, "live"),
    ],
)
@pytest.mark.long
def test_auto_chooses_by_size_deadline_and_provider_and_says_why(
    database_url: str, n: int, provider: str, given: dict[str, Any], mode: str
) -> None:
    batch = submit(database_url, n, provider=provider, mode="auto", **given)
    with Client(database_url=database_url) as client:
        record = client.batches.get(batch).record
    assert record.mode == mode
    assert record.mode_because


@pytest.mark.long
def test_flex_asks_for_the_tier_and_waits_longer(database: Database, database_url: str) -> None:
    submit(database_url, 2, provider="openai", mode="flex", settings={"temperature": 1})
    with database.single() as conn:
        settings = conn.scalars(select(sessions.c.settings)).all()
        states_ = conn.scalars(select(turns.c.state)).all()
    assert settings == [{"service_tier": "flex", "timeout": 900, "temperature": 1}] * 2
    assert states_ == ["queued"] * 2


@pytest.mark.parametrize(("mode", "provider"), [("native", "mock"), ("flex", "anthropic")])
@pytest.mark.long
def test_a_mode_that_nobody_has_is_refused_and_nothing_is_stored(
    database: Database, database_url: str, mode: str, provider: str
) -> None:
    with pytest.raises(InvalidInput, match=f"mode {mode}"):
        submit(database_url, 3, provider=provider, mode=mode)
    with database.single() as conn:
        assert conn.execute(select(batches.c.id)).all() == []
        assert conn.execute(select(batch_lines.c.line)).all() == []

"""The form of a reply to a line of a vendor's batch: what is promised of one in a call."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.doubles.anthropic_batches import AnthropicBatchesDouble
from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.native import MODELS, Stage, spent
from turnmill import Client
from turnmill.domain.ids import BatchId
from turnmill.store.database import Database
from turnmill.store.schema.tables import turns

pytestmark = pytest.mark.anyio

FORM = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 3}},
    "required": ["city"],
    "additionalProperties": False,
}
NONSENSE = {"type": "object", "properties": {"city": {"type": "nonsense"}}}
SAID = ('{"city": "Rome"}', '{"city": ""}', '{"city": "Ro', "In Rome.")


@pytest.fixture(params=["openai", "anthropic"])
async def stage(
    request: pytest.FixtureRequest, database: Database, database_url: str
) -> AsyncIterator[Stage]:
    kind = OpenAIBatchesDouble if request.param == "openai" else AnthropicBatchesDouble
    async with kind() as double:
        yield Stage(database, double, request.param, database_url)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A line for each of what is said."""
    asked = [[{"role": "user", "content": f"answer: {one}"}] for one in SAID]
    written = [{"user_id": "ada", "messages": one} for one in asked]
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(map(json.dumps, written)))
    return path


def begin(stage: Stage, lines: Path, form: Any) -> BatchId:
    with Client(database_url=stage.url) as client:
        return client.batches.create(
            lines,
            provider=stage.name,
            model=MODELS[stage.name],
            mode="native",
            settings={"response_format": form},
        ).id


def codes(database: Database, batch: BatchId) -> list[str | None]:
    """Return with which code each line has failed, in their order; None: it has its reply."""
    asked = select(turns.c.state, turns.c.error_code).where(turns.c.batch_id == batch)
    with database.single() as conn:
        rows = conn.execute(asked.order_by(turns.c.batch_line)).all()
    return [None if state == "succeeded" else code or state for state, code in rows]


async def test_a_reply_has_the_form_that_is_asked_for_or_its_line_fails(
    stage: Stage, lines: Path
) -> None:
    batch = begin(stage, lines, FORM)
    await stage.polled()
    assert codes(stage.database, batch) == [None, *["output_invalid"] * 3]
    assert spent(stage.database, batch)[1] == 4  # it was paid for all the same


async def test_a_form_to_which_nothing_can_be_held_fails_its_lines_before_anybody_is_asked(
    stage: Stage, lines: Path
) -> None:
    batch = begin(stage, lines, NONSENSE)
    await stage.polled()
    assert codes(stage.database, batch) == ["setting_refused"] * 4
    assert not stage.double.desk.paid

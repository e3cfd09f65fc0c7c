"""A trial in a vendor's own batch: turns are asked again there, once, at half the price."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select

from tests.doubles.anthropic_batches import AnthropicBatchesDouble
from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.native import MODELS, Stage, states
from tests.trying import had, stepped, trials_of
from turnmill.domain.ids import BatchId
from turnmill.store.database import Database
from turnmill.store.schema.tables import attempts, messages, sessions, turns

pytestmark = [pytest.mark.anyio, pytest.mark.long]

_DOUBLES = {"openai": OpenAIBatchesDouble, "anthropic": AnthropicBatchesDouble}


@pytest.fixture(params=_DOUBLES)
async def stage(
    database: Database, database_url: str, request: pytest.FixtureRequest
) -> AsyncIterator[Stage]:
    async with _DOUBLES[request.param]() as double:
        yield Stage(database, double, request.param, database_url)


def counted(database: Database) -> tuple[int, int]:
    """Return how many messages and turns there are in sessions that people have."""
    with database.single() as conn:
        own = select(sessions.c.id).where(sessions.c.provider == "mock")
        said = select(func.count()).where(messages.c.session_id.in_(own))
        done = select(func.count()).where(turns.c.session_id.in_(own))
        return conn.scalars(said).one(), conn.scalars(done).one()


async def test_a_trial_at_a_vendor_asks_each_turn_once_and_touches_no_session(
    stage: Stage,
) -> None:
    for n in range(10):
        had(stage.database, f"first {n}", f"second {n}", user_id=f"user-{n}")
    before = counted(stage.database)
    trials = trials_of(stage.database)
    target = f"{stage.name}/{MODELS[stage.name]}"
    trial = trials.start(target, mode="native", judge="exact", name="halved")
    await stage.polled()
    assert trial.batch_id is not None
    assert stage.tended(BatchId(trial.batch_id)) == "completed"
    stepped(stage.database, trial)
    shown, summary = trials.get("halved"), trials.summary("halved")
    assert shown.is_over
    assert (summary.asked, summary.answered, summary.judged) == (20, 20, 20)
    batch = BatchId(trial.batch_id)
    assert states(stage.database, batch) == {"succeeded": 20}
    assert set(stage.double.desk.paid.values()) == {1}
    with stage.database.single() as conn:
        mine = select(turns.c.id).where(turns.c.batch_id == batch)
        asked = conn.execute(
            select(attempts.c.kind, attempts.c.service_tier, func.count())
            .where(attempts.c.turn_id.in_(mine))
            .group_by(attempts.c.kind, attempts.c.service_tier)
        ).all()
        cost = conn.scalars(select(func.sum(turns.c.cost_usd)).where(turns.c.id.in_(mine))).one()
    assert [tuple(one) for one in asked] == [("batch", "batch", 20)]
    assert summary.spent_usd == cost > 0
    assert summary.cost_usd.is_clear
    assert counted(stage.database) == before, "nobody's own session is touched"

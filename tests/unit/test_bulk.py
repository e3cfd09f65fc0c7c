"""A task of many turns: it claims on while there is much to claim, and no other one is needed."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from turnmill.domain.states import Lane
from turnmill_worker.turn import bulk
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.slots import Slots

pytestmark = pytest.mark.anyio

SLOTS = 40


class Rows:
    """A store whose claims get such a share of what they want, one after the other."""

    def __init__(self, *shares: float) -> None:
        self._shares = iter(shares)
        self.asked: list[int] = []

    async def claim_due(self, lane: Lane, *, limit: int) -> Sequence[Any]:
        assert lane is Lane.BULK
        self.asked.append(limit)
        got = int(limit * next(self._shares, 0))
        return [SimpleNamespace(turn_id=n, batch_id=None) for n in range(got)]


@pytest.fixture(autouse=True)
def turns_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_one(claim: Any, deps: Deps) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(bulk, "run_one", run_one)


async def ran(rows: Rows) -> bulk.Ran:
    deps = SimpleNamespace(slots=Slots(SLOTS), ledger=rows, accepting=lambda: True)
    return await bulk.run_bulk(cast(Deps, deps))


async def test_a_claim_that_is_a_little_short_is_followed_by_another() -> None:
    rows = Rows(1, 0.6, 0.4, 1)  # others had locked the rest
    await ran(rows)
    assert len(rows.asked) == 3  # the last one got less than half of what it wanted


async def test_where_nothing_is_due_one_look_is_all() -> None:
    rows = Rows()
    assert (await ran(rows)).turns == []
    assert len(rows.asked) == 1


async def test_a_task_ends_after_so_many_claims_though_there_is_more() -> None:
    rows = Rows(*[1] * 1_000)
    await ran(rows)
    assert len(rows.asked) == 20

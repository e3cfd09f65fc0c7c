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


async def test_turns_of_a_claim_begin_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    rounds = asyncio.create_task(count_rounds(begun))

    async def run_one(claim: Any, deps: Deps) -> None:
        begun[-1] += 1

    monkeypatch.setattr(bulk, "run_one", run_one)
    deps = SimpleNamespace(slots=Slots(200), ledger=Rows(1), accepting=lambda: True)
    ran = await bulk.run_bulk(cast(Deps, deps))
    rounds.cancel()
    assert sum(begun) == len(ran.turns) == 100
    assert max(begun) < 50  # whoever else has something to do had his turn between


async def test_a_task_that_is_cancelled_while_its_turns_begin_leaves_no_claim_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots, over = Slots(200), list[int]()

    async def run_one(claim: Any, deps: Deps) -> None:
        asyncio.get_running_loop().call_soon(task.cancel)
        try:
            await asyncio.sleep(10)
        finally:
            over.append(claim.turn_id)

    monkeypatch.setattr(bulk, "run_one", run_one)
    deps = SimpleNamespace(slots=slots, ledger=Rows(1), accepting=lambda: True)
    task = asyncio.create_task(bulk.run_bulk(cast(Deps, deps)))
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert over  # some had begun
    assert slots.in_use == 0


async def count_rounds(begun: list[int]) -> None:
    while True:
        begun.append(0)
        await asyncio.sleep(0)

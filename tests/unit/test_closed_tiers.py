"""A tier of service that has room of its own: told "later", it alone is closed."""

import time
from typing import Any

import pytest

from tests.unit.gates_rig import LATER, Rig
from turnmill.domain.errors import RateLimited
from turnmill.store.nouns.accounts import list_closed, read_closed
from turnmill_worker.providers.port import Done, NotNow, Usage

pytestmark = pytest.mark.anyio


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_tier_that_has_no_room_closes_that_tier_and_one_that_is_closed_closes_all(
    rig: Rig,
) -> None:
    flex: dict[str, Any] = {"settings": {"service_tier": "flex"}}
    rig.answer = LATER
    assert await rig.ask(**flex) is LATER
    assert isinstance(await rig.ask(**flex), NotNow)
    assert isinstance(await rig.ask(model="small", **flex), RateLimited)
    rig.answer = Done(text="hi", usage=Usage())
    assert isinstance(await rig.ask(), Done)
    assert isinstance(await rig.ask(settings={"service_tier": "priority"}), Done)
    with rig.store.begin() as conn:
        (small, large) = sorted(list_closed(conn), key=lambda one: one.model or "")[::-1]
    assert (small.tier, large.tier, large.account) == ("flex", "flex", "ab12")
    rig.let_time_come()
    assert isinstance(await rig.ask(**flex), Done)
    rig.answer = LATER
    assert await rig.ask() is LATER
    assert isinstance(await rig.ask(**flex), NotNow)  # of what is said to all, it is told too


async def test_another_process_knows_of_which_tier_an_account_is_closed(rig: Rig) -> None:
    flex: dict[str, Any] = {"settings": {"service_tier": "flex"}}
    rig.answer = LATER
    await rig.ask(**flex)
    other = Rig()
    other.store, other.rows = rig.store, rig.rows
    with rig.store.begin() as conn:
        other.accounts.look(read_closed(conn), began=time.monotonic())
    assert isinstance(await other.ask(**flex), NotNow)
    assert isinstance(await other.ask(), Done)

"""The gate of an account whose vendor says odd times, or whose key was changed."""

import asyncio
import time
from datetime import timedelta

import pytest

from tests.unit.gates_rig import Rig
from turnmill.domain.errors import RateLimited
from turnmill.store.nouns.accounts import AccountKey, close
from turnmill_worker.providers.port import Done, Usage

pytestmark = pytest.mark.anyio


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(("code", "come"), [("invalid_api_key", 1), ("rate_limited", 0)])
async def test_who_waits_for_a_key_that_was_changed_comes_as_soon_as_the_new_one_is_answered(
    rig: Rig, code: str, come: int
) -> None:
    old = AccountKey(kind="account", provider="theirs", account="0123")
    with rig.store.begin() as conn:
        wait, permanent = timedelta(hours=1), bool(come)
        closed = close(conn, old, wait=lambda _: wait, code=code, permanent=permanent)
    rig.accounts.look([closed], began=time.monotonic())
    assert isinstance(await rig.ask(), Done)
    assert rig.recalled == [("account", "theirs", "large")] * come
    assert len(rig.closed()) == 1  # of the old key nobody has learnt anything


@pytest.mark.parametrize("told", [0, 0.001])
async def test_a_vendor_that_says_at_once_and_refuses_is_asked_once_a_second(
    rig: Rig, told: float
) -> None:
    rig.answer = RateLimited("rate_limit_exceeded", retry_after=timedelta(seconds=told))
    began = time.monotonic()
    for _ in range(30):
        await rig.ask()
        await asyncio.sleep(0.01)
    assert 2 <= rig.calls <= 2 + time.monotonic() - began  # the first one, and those that tried it
    rig.let_time_come()
    rig.answer = Done(text="hi", usage=Usage())
    await rig.ask()
    assert rig.closed() == []

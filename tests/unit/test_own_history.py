"""When a turn is asked with our own history, and why its verdict says so."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.claims import a_claim
from tests.ledgers import SAID, FakeLedger, deps_of
from turnmill.domain.errors import Overloaded, ThreadLocked, ThreadLost
from turnmill.domain.states import TurnState
from turnmill.store.records import Settlement
from turnmill_worker.providers.port import Done, Request
from turnmill_worker.turn.run import run_claim

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


async def verdict_of(error: Exception, **of_claim: Any) -> tuple[Settlement, list[Request]]:
    """Return the verdict where every call in a thread meets this, and what was asked."""
    asked: list[Request] = []

    async def send(request: Request) -> Done:
        asked.append(request)
        if request.thread_ref:
            raise error
        return Done(text="Here.")

    ledger = FakeLedger()
    claim = a_claim(**{"provider_ref": "thread"} | of_claim)
    await asyncio.wait_for(run_claim(claim, deps_of(ledger, send, check=send)), 5.0)
    return ledger.settled[-1], asked


async def test_a_lost_thread_is_done_without_at_once() -> None:
    verdict, asked = await verdict_of(ThreadLost("previous_response_not_found"))
    assert (verdict.state, verdict.own_history) == (TurnState.SUCCEEDED, "lost")
    assert [len(one.history) for one in asked] == [0, len(SAID)]


async def test_a_thread_that_was_left_on_purpose_is_no_loss() -> None:
    verdict, _ = await verdict_of(ThreadLost("thread_kept_elsewhere"))
    assert (verdict.state, verdict.own_history) == (TurnState.SUCCEEDED, None)


@pytest.mark.parametrize(
    ("attempt", "most", "wait", "tries"),
    [
        (1, 5, None, 1),
        (2, 5, None, 1),
        (3, 5, None, 2),
        (1, 1, None, 2),
        (2, 2, None, 2),
        (1, 5, MINUTE, 2),
        (1, 5, timedelta(seconds=3), 1),
    ],
)
async def test_a_locked_thread_is_done_without_when_it_is_so_for_long(
    attempt: int, most: int, wait: timedelta | None, tries: int
) -> None:
    error = ThreadLocked("conversation_locked", retry_after=wait)
    verdict, asked = await verdict_of(error, attempt=attempt, max_attempts=most)
    assert len(asked) == tries
    if tries == 2:
        assert (verdict.state, verdict.own_history) == (TurnState.SUCCEEDED, "locked")
        return
    assert (verdict.state, verdict.own_history) == (TurnState.RETRYING, None)
    floor = max(wait or timedelta(0), timedelta(seconds=4 if attempt > 1 else 1))
    assert verdict.delay >= floor


async def test_a_lock_where_no_thread_was_named_is_an_error_like_any_other() -> None:
    async def send(request: Request) -> Done:
        raise ThreadLocked("conversation_locked")

    ledger = FakeLedger()
    await asyncio.wait_for(run_claim(a_claim(attempt=5), deps_of(ledger, send)), 5.0)
    assert (ledger.settled[-1].state, ledger.settled[-1].own_history) == (TurnState.DEAD, None)


async def test_a_vendor_that_is_overloaded_keeps_its_thread() -> None:
    verdict, asked = await verdict_of(Overloaded(), attempt=4)
    assert (verdict.state, len(asked)) == (TurnState.RETRYING, 1)

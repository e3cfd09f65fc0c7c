"""Giving things up at vendors: a provider that misbehaves holds nobody up."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from turnmill.domain.ids import SessionId
from turnmill.store.database import Database
from turnmill.store.kept import KeptRef
from turnmill_worker.process import closing
from turnmill_worker.process.closing import Closing
from turnmill_worker.providers import calls

pytestmark = pytest.mark.anyio


def a_kept_ref(ref: str = "resp_1") -> KeptRef:
    return KeptRef(
        session_id=SessionId(uuid4()),
        ref=ref,
        provider="theirs",
        stored=True,
        running=False,
        tries=1,
    )


def closing_at(close: Any) -> Closing:
    provider = cast(Any, SimpleNamespace(close=close))
    return Closing(cast(Database, None), lambda _: provider)


async def test_a_provider_that_refuses_to_be_cancelled_is_left_behind_and_counts_as_not_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closing, "_TIMEOUT", timedelta(seconds=0.05))
    monkeypatch.setattr(calls.Call.close, "__kwdefaults__", {"patience": timedelta(seconds=0.05)})
    enough = asyncio.Event()

    async def close(ref: str) -> None:
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                continue

    async with asyncio.timeout(10):
        error = await closing_at(close)._one(a_kept_ref())
    enough.set()
    assert error is not None and error.error_code == "timeout"


async def test_what_a_plain_function_gives_up_is_given_up() -> None:
    closed: list[str] = []
    assert await closing_at(closed.append)._one(a_kept_ref("resp_7")) is None
    assert closed == ["resp_7"]


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_whatever_a_provider_raises_is_one_error(raised: type[BaseException]) -> None:
    async def close(ref: str) -> None:
        raise raised("secret")

    error = await closing_at(close)._one(a_kept_ref())
    assert error is not None
    assert error.error_code == f"bug:{raised.__name__}"


async def test_a_process_that_ends_waits_for_the_page_in_hand_and_takes_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, answered, noted = asyncio.Event(), asyncio.Event(), list[Any]()

    async def close(ref: str) -> None:
        begun.set()
        await answered.wait()

    under_test = closing_at(close)
    pages = iter([[a_kept_ref()], [a_kept_ref()]])
    monkeypatch.setattr(under_test, "_take", lambda: next(pages))
    monkeypatch.setattr(under_test, "_note", noted.append)
    run = asyncio.create_task(under_test.run())
    await asyncio.wait_for(begun.wait(), 5)
    stop = asyncio.create_task(under_test.stop())
    await asyncio.sleep(0)
    assert not stop.done()
    answered.set()
    await asyncio.wait_for(stop, 5)
    assert (await run)["closed"] == 1
    assert len(noted) == 1


async def test_a_page_that_does_not_end_holds_no_process_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closing, "_LAST_PAGE", timedelta(seconds=0.05))
    under_test = closing_at(None)
    async with under_test._running:
        await asyncio.wait_for(under_test.stop(), 5)

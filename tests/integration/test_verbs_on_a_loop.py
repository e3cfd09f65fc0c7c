"""Verbs of the client for event loops, from the first to the last of a job."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_verbs import jobs as jobs
from turnmill import AsyncClient, InvalidBatchFile, InvalidInput
from turnmill.domain.states import Lane


@pytest.fixture(params=["postgres", "memory"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "sqlite://"
    return str(request.getfixturevalue("database_url"))


def on_a_loop(url: str, work: Callable[[AsyncClient], Any]) -> Any:
    async def run() -> Any:
        async with AsyncClient(database_url=url) as client:
            return await asyncio.wait_for(work(client), timeout=60)

    return asyncio.run(run())


def test_a_batch_is_submitted_awaited_and_read_on_a_loop(url: str, jobs: Path) -> None:
    out, told = jobs.with_name("out.jsonl"), list[tuple[int, int]]()

    async def work(client: AsyncClient) -> None:
        batch = await client.batches.create(
            jobs, name="nightly", on_accepted=lambda *done: told.append(done)
        )
        assert (await batch.counts).accepted == 3
        assert (await client.batches.get("nightly")).id == batch.id
        assert [one.id for one in await client.batches.list()] == [batch.id]
        if url == "sqlite://":
            assert (await batch.wait(timeout=30)).succeeded == 3
        else:
            with pytest.raises(TimeoutError):
                await batch.wait(timeout=0)
        assert [one.line async for one in batch.iter_results()] == [1, 2, 3]
        assert await batch.results(out) == 3
        assert await batch.retry_failed() == 0
        assert await batch.cancel() == (0 if url == "sqlite://" else 3)

    on_a_loop(url, work)
    assert told == [(3, 3)]
    assert len(out.read_text(encoding="utf-8").splitlines()) == 3
    assert [path.name for path in jobs.parent.iterdir() if ".part" in path.name] == []


def test_a_wrong_file_is_refused_whole_on_a_loop(url: str, jobs: Path) -> None:
    with jobs.open("a", encoding="utf-8") as file:
        file.write('{"session": "nobody", "text": "hi"}\nno JSON\n')

    async def work(client: AsyncClient) -> None:
        with pytest.raises(InvalidBatchFile) as caught:
            await client.batches.create(jobs)
        assert [number for number, _, _ in caught.value.problems] == [4, 5]
        assert await client.batches.list() == []

    on_a_loop(url, work)


def test_lanes_are_looked_at_and_paused_on_a_loop(url: str) -> None:
    async def work(client: AsyncClient) -> None:
        with pytest.raises(InvalidInput, match="neither installed"):
            await client.lanes.pause(provider="nobody")
        await client.lanes.pause(lane="bulk", provider="mock")
        paused = await client.lanes.paused()
        assert (set(paused.lanes), set(paused.providers)) == ({Lane.BULK}, {"mock"})
        await client.send(await client.sessions.create(user_id="ada"), "hello")
        (load,) = await client.lanes.loads()
        assert (load.lane, load.provider, load.running) == (Lane.INTERACTIVE, "mock", 0)
        await client.lanes.resume(lane="bulk", provider="mock")
        assert not (await client.lanes.paused()).lanes

    on_a_loop(url, work)


def test_usage_is_reported_on_a_loop(url: str) -> None:
    async def work(client: AsyncClient) -> None:
        turn = await client.send(await client.sessions.create(user_id="ada"), "hello")
        await turn.cancel()
        report = await client.analytics.report(days=1)
        assert sum(line.cancelled + line.succeeded for line in report.lines) <= 1
        assert report.first == report.last

    on_a_loop(url, work)

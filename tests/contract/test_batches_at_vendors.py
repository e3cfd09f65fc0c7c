"""Batches at vendors: what is sent, found again, read and told apart."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.doubles.anthropic_batches import AnthropicBatchesDouble
from tests.doubles.batch_desk import Fate
from tests.doubles.openai_batches import OpenAIBatchesDouble
from turnmill.domain.content import Message
from turnmill.domain.errors import MaybeSent, ProviderError, Rejected
from turnmill.domain.ids import SessionId, TurnId
from turnmill_worker.providers import batch_calls
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.batch_port import Answered, Batches, Line, VendorBatch
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Done, Request

pytestmark = pytest.mark.anyio

_LONG = timedelta(days=2)


@dataclass
class Rig:
    """A vendor's double, and how its batches are spoken to."""

    double: Any
    batches: Batches
    model: str

    def lines(self, n: int, **settings: Any) -> list[Line]:
        made = []
        for number in range(n):
            request = self.request(f"say {number}", **settings)
            custom_id = str(uuid4())
            made.append(Line(custom_id, self.batches.body_of(request, custom_id)))
        return made

    def request(self, text: str, **settings: Any) -> Request:
        return Request(
            turn_id=TurnId(uuid4()),
            session_id=SessionId(uuid4()),
            attempt=1,
            fence=1,
            model=self.model,
            messages=[Message.of("user", text)],
            settings=settings,
        )

    async def begun(self, lines: list[Line], mark: str = "mark") -> VendorBatch:
        stored = await self.batches.store("mark.jsonl", lines) if self.batches.stores else ""
        endpoint = self.batches.endpoint_of(self.request(""))
        return await self.batches.begin(mark, endpoint=endpoint, stored=stored, lines=lines)

    async def results(self, batch: VendorBatch) -> dict[str, Done | ProviderError]:
        found: dict[str, Done | ProviderError] = {}

        async def take(some: Any) -> None:
            for one in some:
                assert isinstance(one, Answered)
                found[one.custom_id] = one.said

        await self.batches.read(await self.batches.look(batch.ref), take)
        return found


@pytest.fixture(params=["openai", "anthropic"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "openai":
        async with OpenAIBatchesDouble() as double:
            sdk = AsyncOpenAI(api_key="sk-double", base_url=double.base_url, max_retries=0)
            provider = OpenAIProvider(sdk)
            yield Rig(double, provider.batches, "gpt-4.1-mini")
            await provider.aclose()
        return
    async with AnthropicBatchesDouble() as claude:
        theirs = AsyncAnthropic(api_key="sk-ant-double", base_url=claude.base_url, max_retries=0)
        anthropic = AnthropicProvider(theirs)
        yield Rig(claude, anthropic.batches, "claude-sonnet-4-5")
        await anthropic.aclose()


async def test_each_line_of_a_batch_has_its_answer_in_whatever_order_they_come(rig: Rig) -> None:
    lines = rig.lines(30)
    batch = await rig.begun(lines)
    found = await rig.results(batch)
    for number, line in enumerate(lines):
        said = found[line.custom_id]
        assert isinstance(said, Done)
        assert said.text == f"echo: say {number}"
        assert said.usage.service_tier == "batch"
        assert said.usage.input_tokens == 100
    assert (await rig.batches.look(batch.ref)).is_over


async def test_lines_that_are_refused_expired_or_broken_are_told_apart(rig: Rig) -> None:
    outcomes = ["", "bad_request", "server_error", "rate_limited", "expired", "canceled"]
    rig.double.desk.fates.append(
        Fate(ends="expired", of_line=lambda n: outcomes[n % 6], empty_names=True)
    )
    lines = rig.lines(12)
    found = await rig.results(await rig.begun(lines))
    kinds = [type(found[line.custom_id]) for line in lines]
    assert kinds[:2] == [Done, Rejected]
    assert isinstance(found[lines[2].custom_id], MaybeSent)
    codes = [getattr(found[line.custom_id], "error_code", "") for line in lines[3:6]]
    assert "rate_limit" in codes[0]
    assert codes[1] == "batch_expired"
    assert codes[2] in ("batch_cancelled", "batch_canceled")


async def test_a_batch_whose_answer_was_lost_is_found_again(rig: Rig) -> None:
    lines = rig.lines(3)
    if rig.batches.stores:
        stored = await rig.batches.store("shard-1.jsonl", lines)
        assert await rig.batches.stored("shard-1.jsonl", within=_LONG) == [stored]
        assert await rig.batches.stored("shard-2.jsonl", within=_LONG) == []
        rig.double.meet("drop")
    else:
        stored = ""
        rig.double.meet("drop")
    endpoint = rig.batches.endpoint_of(rig.request(""))
    with pytest.raises(MaybeSent):
        await rig.batches.begin("mark-1", endpoint=endpoint, stored=stored, lines=lines)
    (found,) = await rig.batches.find("mark-1", stored="", within=_LONG)
    assert {*await rig.results(found)} == {line.custom_id for line in lines}


async def test_where_what_is_listed_has_no_name_nobody_says_that_ours_is_not_there(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await rig.begun(rig.lines(1), "mark-1")
    shown = rig.double._shown
    monkeypatch.setattr(rig.double, "_shown", lambda one: {**shown(one), "id": 7})
    with pytest.raises(ProviderError, match="unreadable_reply"):
        await rig.batches.find("mark-1", stored="", within=_LONG)
    monkeypatch.undo()
    assert [one.ref for one in await rig.batches.find("mark-1", stored="", within=_LONG)] == [
        batch.ref
    ]


async def test_a_batch_is_found_on_whatever_page_it_is_and_none_that_is_older_is_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_calls, "_PAGE", 2)
    first, *_, last = [await rig.begun(rig.lines(1), f"mark-{n}") for n in range(5)]

    async def found(mark: str) -> tuple[list[str], int]:
        asked = len(rig.double.calls)
        batches = await rig.batches.find(mark, stored="", within=_LONG)
        return [one.ref for one in batches], len(rig.double.calls) - asked

    refs, pages = await found("mark-0")
    assert (refs[-1], pages) == (first.ref, 3)
    assert len(refs) == (1 if rig.batches.knows_marks else 5)
    shown = rig.double._shown
    old = {"created_at": 1_700_000_000}
    monkeypatch.setattr(
        rig.double, "_shown", lambda one: shown(one) | (old if one.id != last.ref else {})
    )
    assert await found("mark-4") == ([last.ref], 1)


async def test_a_batch_that_is_cancelled_keeps_what_was_run(rig: Rig) -> None:
    rig.double.desk.takes = 3600.0
    batch = await rig.begun(rig.lines(10))
    assert not (await rig.batches.look(batch.ref)).is_over
    await rig.batches.cancel(batch.ref)
    await rig.batches.cancel(batch.ref)  # that it is over counts as success
    found = await rig.results(batch)
    assert sum(isinstance(one, Done) for one in found.values()) == 5


async def test_what_a_vendor_keeps_of_a_batch_is_deleted_more_than_once_without_harm(
    rig: Rig,
) -> None:
    batch = await rig.begun(rig.lines(3))
    over = await rig.batches.look(batch.ref)
    for _ in range(2):
        await rig.batches.clear(over, stored=[batch.stored] if batch.stored else [])
    left = await rig.batches.find("mark", stored="", within=_LONG)
    assert rig.double.name == "OpenAI" or left == []
    if rig.double.name == "OpenAI":
        assert not rig.double.inputs
        assert not rig.double.outputs


async def test_settings_that_no_batch_takes_are_left_out(rig: Rig) -> None:
    line = rig.batches.body_of(rig.request("x", service_tier="flex", timeout=3), str(uuid4()))
    assert b"flex" not in line
    assert b"timeout" not in line


async def test_a_failed_batch_tells_why_and_which_lines_are_wrong() -> None:
    async with OpenAIBatchesDouble(window=10) as double:
        sdk = AsyncOpenAI(api_key="sk-double", base_url=double.base_url, max_retries=0)
        rig = Rig(double, OpenAIProvider(sdk).batches, "gpt-4.1-mini")
        batch = await rig.begun(rig.lines(3))
        assert (batch.is_over, batch.error_code) == (True, "token_limit_exceeded")
        double.desk.window = None
        twice = rig.lines(2)
        batch = await rig.begun([*twice, twice[0]])
        assert batch.bad_lines == {3: "duplicate_custom_id"}
        assert batch.outputs == ()
        await sdk.close()

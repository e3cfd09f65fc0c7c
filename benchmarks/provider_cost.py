"""CPU of one provider call in the worker's process: ours, the SDK's two ways, and aiohttp alone.

python -m benchmarks.provider_cost [--calls 1000] [--rounds 5] [--json]

A stand-in for the vendor answers in a process of its own, so only the caller's CPU is counted.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock
from uuid import uuid4

import aiohttp
import httpx2
import openai
from anthropic import AsyncAnthropic

from tests.doubles import anthropic_server, openai_server
from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId, TurnId
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.openai import responses
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Request

IN_FLIGHT = 50
HISTORIES = (20, 80)
DOCUMENTED = "openai: as documented"

Ask = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of CPU for one call, over several rounds."""

    way: str
    messages: int
    median: float
    least: float
    most: float


def a_request(messages: int) -> Request:
    text = "A durable queue decouples the moment of sending from that of answering. " * 3
    history = [Message.of(("user", "assistant")[n % 2], text) for n in range(messages)]
    return Request(
        turn_id=TurnId(uuid4()),
        session_id=SessionId(uuid4()),
        attempt=1,
        fence=1,
        model="gpt-5-mini",
        messages=(Message.of("user", "Hello"),),
        history=history,
        settings={"thread": "client"},
    )


@contextmanager
def vendor(module: str) -> Iterator[str]:
    """Run a stand-in and yield its URL."""
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


async def measure(way: str, ask: Ask, *, messages: int, calls: int, rounds: int) -> Cost:
    async def one_after_another() -> None:
        for _ in range(calls // IN_FLIGHT):
            await ask()

    spent = []
    for _ in range(rounds + 1):  # the first opens connections and fills caches
        started = time.process_time()
        await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
        spent.append((time.process_time() - started) * 1000 / (calls // IN_FLIGHT * IN_FLIGHT))
    kept = spent[1:]
    return Cost(way, messages, statistics.median(kept), min(kept), max(kept))


async def openai_costs(url: str, *, messages: int, calls: int, rounds: int) -> list[Cost]:
    client = openai.AsyncOpenAI(
        api_key=openai_server.KEY,
        base_url=f"{url}/v1",
        max_retries=0,
        http_client=openai.DefaultAioHttpClient(),
    )
    provider, request = OpenAIProvider(client), a_request(messages)
    proxied = OpenAIProvider(client)
    with mock.patch.dict(os.environ, {"http_proxy": url}):  # asked when it first connects
        await proxied.send(request)
    body = responses.body_of(request, chain=False)
    headers = {**client.auth_headers, "Content-Type": "application/json"}
    session = aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0))

    async def aiohttp_alone() -> object:
        async with session.post(f"{url}/v1/responses", data=json.dumps(body).encode()) as answer:
            return json.loads(await answer.read())

    async def post() -> object:
        answer = await client.post("/responses", cast_to=httpx2.Response, body=body)
        return json.loads(answer.content)

    ways: dict[str, Ask] = {
        DOCUMENTED: lambda: client.responses.create(**body),
        "openai: the SDK's post, raw cast": post,
        "openai: this adapter": lambda: provider.send(request),
        "openai: this adapter, through a proxy": lambda: proxied.send(request),
        "openai: aiohttp alone": aiohttp_alone,
    }
    costs = []
    for way, ask in ways.items():
        fewer = calls // 10 if way == DOCUMENTED else calls  # it takes that much longer
        costs.append(await measure(way, ask, messages=messages, calls=fewer, rounds=rounds))
    await session.close()
    await proxied.aclose()
    await provider.aclose()
    return costs


async def anthropic_costs(url: str, *, messages: int, calls: int, rounds: int) -> list[Cost]:
    client = AsyncAnthropic(api_key=anthropic_server.KEY, base_url=url, max_retries=0)
    provider, request = AnthropicProvider(client), a_request(messages)
    cost = await measure(
        "anthropic: this adapter",
        lambda: provider.send(request),
        messages=messages,
        calls=calls,
        rounds=rounds,
    )
    await provider.aclose()
    return [cost]


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of one provider call")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    costs = []
    for module, measured in (
        ("tests.doubles.openai_server", openai_costs),
        ("tests.doubles.anthropic_server", anthropic_costs),
    ):
        with vendor(module) as url:
            for messages in HISTORIES:
                costs += asyncio.run(
                    measured(url, messages=messages, calls=given.calls, rounds=given.rounds)
                )
    for cost in costs:
        row = {name: getattr(cost, name) for name in Cost.__slots__}
        line = f"{cost.way:36}{cost.messages:>4} messages {cost.median:8.3f} ms"
        print(json.dumps(row) if given.json else f"{line}   [{cost.least:.3f} … {cost.most:.3f}]")


if __name__ == "__main__":
    main()

"""One way to speak to every provider, so that the same promise can be put to each."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.doubles import anthropic_server, openai_server
from tests.doubles.vendor_double import VendorDouble
from turnmill.domain.ids import SessionId, TurnId
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.mock.executions import Executions
from turnmill_worker.providers.mock.provider import MockProvider
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Part, Provider, Request


def a_request(text: str = "Hello", **given: Any) -> Request:
    """Return a request of a new turn in a new session."""
    defaults: dict[str, Any] = {
        "turn_id": TurnId(uuid4()),
        "session_id": SessionId(uuid4()),
        "attempt": 1,
        "fence": 1,
        "model": "gpt-5-mini",
    }
    return Request(text=text, **{**defaults, **given})


def a_history(turns: int) -> list[Part]:
    """Return the messages of that many earlier turns, oldest first."""
    return [
        part
        for number in range(turns)
        for part in (Part("user", f"question {number}"), Part("assistant", f"answer {number}"))
    ]


@dataclass(slots=True, kw_only=True)
class Rig:
    """A provider with its vendor, and how the promises are put to it."""

    provider: Provider
    settings: dict[str, Any]
    executed: Callable[[], int]  #: how many calls the vendor would have charged for
    double: VendorDouble | None = None  #: None for the mock, which is told by the turn itself
    keeps_threads: bool = False
    _metadata: dict[str, Any] = field(default_factory=dict)

    def meet(self, *faults: str) -> None:
        """Let the next request meet these faults."""
        if self.double is not None:
            self.double.meet(*faults)
        else:
            self._metadata = {"mock": {"faults": list(faults), "retry_after": 7}}

    def request(self, text: str = "Hello", **given: Any) -> Request:
        """Return a request with the settings of this rig."""
        settings = {**self.settings, **given.pop("settings", {})}
        metadata, self._metadata = self._metadata, {}
        return a_request(text, settings=settings, metadata=metadata, **given)


async def _mock(stack: AsyncExitStack, folder: Path, **settings: str) -> Rig:
    ledger = Executions(folder / "ledger")
    return Rig(
        provider=MockProvider(ledger=folder / "ledger"),
        settings=dict(settings),
        executed=lambda: sum(call.ended_at is not None for call in ledger.calls()),
        keeps_threads=settings.get("thread") == "chain",
    )


async def _openai(stack: AsyncExitStack, folder: Path, **settings: str) -> Rig:
    double = await stack.enter_async_context(openai_server.OpenAIDouble())
    sdk = AsyncOpenAI(api_key=openai_server.KEY, base_url=double.base_url, max_retries=0)
    return Rig(
        provider=_closed_by(stack, OpenAIProvider(sdk)),
        double=double,
        settings=dict(settings),
        executed=lambda: sum(call.executed for call in double.calls),
        keeps_threads=not settings,
    )


async def _anthropic(stack: AsyncExitStack, folder: Path) -> Rig:
    double = await stack.enter_async_context(anthropic_server.AnthropicDouble())
    sdk = AsyncAnthropic(api_key=anthropic_server.KEY, base_url=double.base_url, max_retries=0)
    return Rig(
        provider=_closed_by(stack, AnthropicProvider(sdk)),
        double=double,
        settings={},
        executed=lambda: sum(call.executed for call in double.calls),
    )


def _closed_by(stack: AsyncExitStack, provider: Provider) -> Provider:
    stack.push_async_callback(provider.aclose)
    return provider


#: Every provider that is part of the package, in every way that it keeps a thread.
RIGS: Mapping[str, Callable[[AsyncExitStack, Path], Awaitable[Rig]]] = MappingProxyType(
    {
        "mock": _mock,
        "mock-chain": partial(_mock, thread="chain"),
        "openai": _openai,
        "openai-client": partial(_openai, thread="client"),
        "openai-chat": partial(_openai, api="chat"),
        "anthropic": _anthropic,
    }
)

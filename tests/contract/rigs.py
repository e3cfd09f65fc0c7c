"""Every provider of the package with the stand-in for its vendor, for the suite of the package."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.doubles import anthropic_server, openai_server
from tests.doubles.vendor_double import VendorDouble
from turnmill.testing.provider_contract import Fault, Rig
from turnmill.testing.provider_contract import a_history as a_history
from turnmill.testing.provider_contract import a_request as a_request_of_any
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.mock.executions import Executions
from turnmill_worker.providers.mock.provider import MockProvider, messages_seen
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Done, Provider, Request

MODEL = "gpt-5-mini"


def a_request(text: str = "Hello", **given: Any) -> Request:
    """Return a request for the model of these tests."""
    return a_request_of_any(text, **{"model": MODEL, **given})


#: What the doubles and the mock call the faults, where they have another word for it.
_AT_DOUBLES = {Fault.REFUSED: "no_such_model", Fault.UNREADABLE: "bad_json"}
_AT_THE_MOCK = {
    Fault.REFUSED: "rejected",
    Fault.UNREADABLE: "bad_json",
    Fault.SERVER_ERROR: "maybe_sent",
    Fault.BACKGROUND: "running",
}

_OF_ALL = frozenset(Fault) - {Fault.THREAD_LOST, Fault.BACKGROUND}


@dataclass(kw_only=True)
class MockRig(Rig):
    """The mock, which is told by the turn itself what to do."""

    ledger: Executions
    _told: dict[str, Any] = field(default_factory=dict)

    async def meet(self, fault: Fault | None) -> None:
        word = "ok" if fault is None else _AT_THE_MOCK.get(fault, str(fault))
        self._told = {"mock": {"faults": word, "retry_after": 7}}

    def request(self, text: str = "Hello", **given: Any) -> Request:
        return super().request(text, metadata=self._told, **given)

    def executed(self) -> int:
        return sum(call.ended_at is not None for call in self.ledger.calls())

    def messages_seen(self, reply: Done) -> int:
        return messages_seen(reply.text)


@dataclass(kw_only=True)
class DoubleRig(Rig):
    """A provider whose vendor is a server on 127.0.0.1."""

    double: VendorDouble
    _background: bool = False

    async def meet(self, fault: Fault | None) -> None:
        self._background = fault is Fault.BACKGROUND
        self.double.always = ""
        if fault is Fault.UNREACHABLE:
            await self.double.stop()
        elif fault is Fault.THREAD_LOST:
            forgets = openai_server.OpenAIDouble | anthropic_server.AnthropicDouble
            assert isinstance(self.double, forgets)
            self.double.forget()
        elif fault is not None and not self._background:
            self.double.always = _AT_DOUBLES.get(fault, str(fault))

    def request(self, text: str = "Hello", **given: Any) -> Request:
        if self._background:
            given["settings"] = {"background": True, **given.get("settings", {})}
        return super().request(text, **given)

    def requests(self) -> int:
        return len(self.double.calls)

    def executed(self) -> int:
        return sum(call.executed and call.method == "POST" for call in self.double.calls)

    def kept(self) -> Collection[str] | None:
        double = self.double
        return list(double.kept) if isinstance(double, openai_server.OpenAIDouble) else None

    def messages_seen(self, reply: Done) -> int:
        return messages_seen(reply.text)


async def _mock(stack: AsyncExitStack, folder: Path, **settings: str) -> Rig:
    ledger = folder / "ledger"
    faults = frozenset(Fault) - {Fault.NO_USAGE}
    return MockRig(
        provider=MockProvider(ledger=ledger),
        model=MODEL,
        settings=settings,
        faults=faults if settings else faults - {Fault.THREAD_LOST},
        impatient=None,
        unusable={"mock": {"faults": ["no such fault"]}},
        environment={},
        another=partial(MockProvider, ledger=ledger),
        ledger=Executions(ledger),
    )


async def _openai(stack: AsyncExitStack, folder: Path, **settings: str) -> Rig:
    double = await stack.enter_async_context(openai_server.OpenAIDouble())

    def made() -> OpenAIProvider:
        sdk = AsyncOpenAI(api_key=openai_server.KEY, base_url=double.base_url, max_retries=0)
        return OpenAIProvider(sdk)

    return DoubleRig(
        provider=_closed_by(stack, made()),
        model=MODEL,
        double=double,
        settings=settings,
        faults=_OF_ALL if settings else frozenset(Fault),
        unusable={"thread": "no such kind"},
        environment={"OPENAI_API_KEY": openai_server.KEY},
        another=made,
    )


async def _anthropic(stack: AsyncExitStack, folder: Path, **settings: str) -> Rig:
    double = await stack.enter_async_context(anthropic_server.AnthropicDouble())
    sdk = AsyncAnthropic(api_key=anthropic_server.KEY, base_url=double.base_url, max_retries=0)
    return DoubleRig(
        provider=_closed_by(stack, AnthropicProvider(sdk)),
        model=MODEL,
        double=double,
        settings=settings,
        faults=_OF_ALL | {Fault.THREAD_LOST} if settings else _OF_ALL,
        unusable={"thread": "no such kind"},
        environment={"ANTHROPIC_API_KEY": anthropic_server.KEY},
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
        "anthropic-chain": partial(_anthropic, thread="chain"),
    }
)


@asynccontextmanager
async def rig_of(name: str) -> AsyncIterator[Rig]:
    """Yield one of them, and take it down in the end."""
    with TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            yield await RIGS[name](stack, Path(folder))

"""What outlives the examples of the machine: vendors, their providers, tools, and who dies when."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.doubles import anthropic_server, openai_server
from tests.doubles.modelled import Model, ModelledAnthropic, ModelledOpenAI
from turnmill import ToolContext, tool
from turnmill.domain.retry import RetryPolicy
from turnmill.store.database import Database
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Provider
from turnmill_worker.providers.pricing import price
from turnmill_worker.tools.offered import Tools
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.ledger import GroupedLedger
from turnmill_worker.turn.slots import Slots


class Died(BaseException):
    """The process is gone; nobody catches it who would write anything down."""


@dataclass(slots=True)
class Life:
    """One process: what it does comes to points, at one of which it may die."""

    dies_at: int | None = None
    at: dict[int, Callable[[], None]] = field(default_factory=dict)  #: what others do meanwhile
    passed: int = 0
    is_dead: bool = False

    def point(self) -> None:
        """Pass a point, or raise Died."""
        self.passed += 1
        if self.passed == self.dies_at:
            self.is_dead = True
        if self.is_dead:
            raise Died
        if happens := self.at.pop(self.passed, None):
            happens()


class Mortal:
    """A store or a vendor as a process sees it: a point before all that is done, and one behind."""

    def __init__(self, inner: Any, life: Life) -> None:
        self._inner = inner
        self._life = life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def do(*args: Any, **given: Any) -> Any:
            self._life.point()
            result = await found(*args, **given)
            self._life.point()
            return result

        return do


class Stage:
    """What outlives the examples: a loop, both vendors, and their providers."""

    def __init__(self, store: Database) -> None:
        self.store = store
        self.model = Model()
        self.loop = asyncio.new_event_loop()
        self.life = Life()  #: of the process that runs at the moment
        self.struck: Counter[str] = Counter()  #: by the keys of calls that are made once at most
        self.played: Counter[str] = Counter()  #: histories, and what happened in them all
        self.tools = Tools({one.name: one for one in self._tools()})
        self.vendors = ModelledOpenAI(self.model), ModelledAnthropic(self.model)
        self.ledger = GroupedLedger(store, owner="one", lease=timedelta(minutes=10))
        self.providers: dict[str, Provider] = self.do(self._start())

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        self.do(self._stop())
        self.ledger.stop()
        self.loop.close()

    def _tools(self) -> list[Any]:
        @tool(effects="none")
        async def look() -> str:
            self.life.point()
            return "it is there"

        @tool(effects="idempotent")
        async def book(context: ToolContext) -> str:
            self.life.point()
            return f"booked as {context.idempotency_key}"

        @tool(effects="at_most_once")
        async def strike(context: ToolContext) -> str:
            self.life.point()
            self.struck[context.idempotency_key] += 1
            self.life.point()
            return "struck"

        @tool(effects="none")
        async def breaks() -> str:
            raise ValueError

        @tool(effects="none", timeout=timedelta(seconds=0.01))
        async def dawdles() -> str:
            await asyncio.sleep(10)
            return "too late"

        @tool(effects="at_most_once")
        async def pays(context: ToolContext) -> str:
            self.life.point()
            self.struck[context.idempotency_key] += 1
            self.life.point()
            return "paid"

        return [look, book, strike, breaks, dawdles, pays]

    def deps(self, life: Life, in_hand: InHand) -> Deps:
        """Return what a process has that lives this life."""
        self.life = life
        providers = {name: Mortal(one, life) for name, one in self.providers.items()}
        found: Any = Mortal(self.ledger, life)
        return Deps(
            ledger=found,
            step_ledger=Mortal(self.ledger.steps, life),  # type: ignore[arg-type]
            in_hand=in_hand,
            slots=Slots(10),
            provider=lambda name: providers[name],
            announce=lambda _: None,
            announce_at=lambda *_: None,
            price=price,
            policy=RetryPolicy(base=timedelta(0)),
            tools=self.tools,
            jitter=lambda: 0.0,
        )

    async def _start(self) -> dict[str, Provider]:
        openai, anthropic = [await one.start() for one in self.vendors]
        os.environ["OPENAI_API_KEY"] = openai_server.KEY
        os.environ["OPENAI_BASE_URL"] = openai.base_url
        os.environ["ANTHROPIC_API_KEY"] = anthropic_server.KEY
        os.environ["ANTHROPIC_BASE_URL"] = anthropic.base_url
        return {"openai": OpenAIProvider.from_env(), "anthropic": AnthropicProvider.from_env()}

    async def _stop(self) -> None:
        for provider in self.providers.values():
            await provider.aclose()
        for vendor in self.vendors:
            await vendor.stop()

"""A worker inside of a test whose provider says its reply piece by piece, as the turn asks."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from turnmill import Turn
from turnmill.domain.errors import MaybeSent, Overloaded
from turnmill.domain.retry import RetryPolicy
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill_worker.providers.port import Done, Emit, Request, Unknowable
from turnmill_worker.streams.carriers import carrier_for
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.ledger import GroupedLedger
from turnmill_worker.turn.run import run_claim, run_turn
from turnmill_worker.turn.slots import Slots

_LEASE = timedelta(minutes=5)


def drip(pieces: int, *, pause: float = 0.0, fails: int = 0, at: int = 0) -> Mapping[str, Any]:
    """Return metadata: so many pieces, and that the first attempts fail after `at` of them."""
    return {"drip": {"pieces": pieces, "pause": pause, "fails": fails, "at": at}}


class Drip:
    """Says `0 `, `1 `, … with a snowman now and then; stops in the middle where it is told to."""

    name = "drip"

    def __init__(self) -> None:
        self.held: dict[int, asyncio.Event] = {}
        self.said = 0  #: pieces, of all turns

    async def send(self, request: Request, emit: Emit | None = None) -> Done:
        told = request.metadata["drip"]
        fails = request.attempt <= told["fails"]
        pieces = [f"{n}\N{SNOWMAN} " for n in range(told["pieces"])]
        for piece in pieces[: told["at"]] if fails else pieces:
            if emit is not None:
                await emit(piece)
            self.said += 1
            await asyncio.sleep(told["pause"])
        if fails:
            raise Overloaded("drip")
        return Done(text="".join(pieces))

    async def check(self, request: Request) -> Unknowable:
        return Unknowable()

    async def close(self, thread_ref: str) -> None:
        raise MaybeSent

    async def aclose(self) -> None:
        pass


class Dripping:
    """A loop on a thread that runs the turns that it is told to."""

    def __init__(
        self, deps: Deps, ledger: GroupedLedger, loop: asyncio.AbstractEventLoop, provider: Drip
    ) -> None:
        self.deps = deps
        self.provider = provider
        self.ledger = ledger
        self.loop = loop
        self._background: Future[None] | None = None

    def stop(self) -> None:
        """Look for no suspects any more."""
        if self._background is not None:
            self._background.cancel()

    def run(self, *turns: Turn) -> None:
        """Begin to run them, as often as each comes back."""
        for turn in turns:
            asyncio.run_coroutine_threadsafe(self._to_its_end(turn), self.loop)

    def run_suspects(self) -> None:
        """Run turns whose worker was lost, as they become due, for as long as the loop does."""

        async def run() -> None:
            while True:
                for claim in await self.ledger.claim_suspects(lost=1, limit=10):
                    await run_claim(claim, self.deps)
                await asyncio.sleep(0.02)

        self._background = asyncio.run_coroutine_threadsafe(run(), self.loop)

    async def _to_its_end(self, turn: Turn) -> None:
        async with asyncio.timeout(1500):
            while (outcome := await run_turn(turn.id, self.deps)) is not None:
                if getattr(outcome, "due_at", None) is None:
                    return
                await asyncio.sleep(0.01)


@contextmanager
def dripping(settings: Settings) -> Iterator[Dripping]:
    """Run such a worker for a while."""
    store = Database(settings.database_url)
    ledger = GroupedLedger(store, owner="drip", lease=_LEASE)
    provider = Drip()
    carrier = carrier_for(settings)
    deps = Deps(
        ledger=ledger,
        in_hand=InHand(),
        slots=Slots(2000),
        provider=lambda _: provider,
        announce=lambda _: None,
        announce_at=lambda *_: None,
        price=lambda *_: None,
        policy=RetryPolicy(base=timedelta(milliseconds=1), ceiling=timedelta(milliseconds=2)),
        carrier=carrier,
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="dripping", daemon=True)
    thread.start()
    try:
        worker = Dripping(deps, ledger, loop, provider)
        yield worker
    finally:
        worker.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        carrier.close()
        ledger.stop()
        store.close()
        loop.close()

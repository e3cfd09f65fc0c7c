"""Giving up at vendors what nobody needs any more: stop what runs, delete what is stored."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from turnmill.domain.errors import NotSent, ProviderError, StoreError
from turnmill.store import kept
from turnmill.store.database import Database
from turnmill.store.kept import KeptRef
from turnmill.store.line.late import book_work
from turnmill.store.records import Settlement
from turnmill_worker.providers import boundary
from turnmill_worker.providers.calls import Call
from turnmill_worker.providers.own_prices import Prices
from turnmill_worker.providers.port import Cancels, Done, Provider
from turnmill_worker.turn.paid_ledger import spent_on

logger = logging.getLogger("turnmill.closing")

#: A run ends after so many pages: what is left is due, and the next run takes it.
MOST_PAGES = 200

_PAGE = 40
_AT_ONCE = 20
_TIMEOUT = timedelta(seconds=30)
#: What a process that ends gives its last page; then providers are closed under it.
_LAST_PAGE = timedelta(seconds=2)
#: Longer than a page can take: whoever took it is gone.
_AGAIN_AFTER = timedelta(minutes=2)
_FIRST_PAUSE = timedelta(seconds=10)
_LONGEST_PAUSE = timedelta(hours=1)
#: A provider of which nothing of a page could be given up is left alone for so long.
_REST = timedelta(seconds=30)

Counts = Mapping[str, int]


class Closing:
    """Works through what is due. One run at a time in a process; any number of processes."""

    def __init__(
        self,
        database: Database,
        provider: Callable[[str], Provider],
        prices: Prices | None = None,
    ) -> None:
        """`prices` are what work is priced by that is stopped; without them nobody knows."""
        self._database = database
        self._prices = prices or Prices()
        self._provider = provider
        self._running = asyncio.Lock()
        self._resting: dict[str, float] = {}  #: providers, and until when
        self._stopped = False

    async def run(self) -> Counts:
        """Give up what is due and return how much was closed, and how much was not."""
        if self._running.locked():
            return {"closed": 0, "not_closed": 0}
        closed, failures = 0, Counter[tuple[str, str]]()
        async with self._running:
            for _ in range(MOST_PAGES):
                if self._stopped:
                    break  # what is left is due, in another process
                page = await asyncio.to_thread(self._take)
                if not page:
                    break
                errors = await self._give_up(page)
                failed = {id(one) for one, error in errors if error}
                closed += len(page) - len(failed)
                failures.update((one.provider, error.error_code) for one, error in errors if error)
                self._let_rest(page, failed)
                await asyncio.to_thread(self._note, errors)
        _tell(failures)
        return {"closed": closed, "not_closed": failures.total()}

    async def stop(self) -> None:
        """Take no further page; wait a little for the one in hand, while providers still answer."""
        self._stopped = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_PAGE.total_seconds()), self._running:
                pass

    async def run_in_background(self) -> None:
        """Do the same where nobody waits for it: the store may be away."""
        try:
            await self.run()
        except StoreError as error:
            logger.warning("cannot close what vendors keep: %s; trying again", error.code)

    def _take(self) -> Sequence[KeptRef]:
        now = time.monotonic()
        self._resting = {name: end for name, end in self._resting.items() if end > now}
        with self._database.begin() as conn:
            return kept.take_due(
                conn, again_after=_AGAIN_AFTER, resting=list(self._resting), limit=_PAGE
            )

    async def _give_up(self, page: Sequence[KeptRef]) -> list[tuple[KeptRef, ProviderError | None]]:
        room = asyncio.Semaphore(_AT_ONCE)

        async def give_up(one: KeptRef) -> tuple[KeptRef, ProviderError | None]:
            async with room:
                return one, await self._one(one)

        return await asyncio.gather(*(give_up(one) for one in page))

    async def _one(self, one: KeptRef) -> ProviderError | None:
        """Give it up and return None, or what stood in the way; one that does not end is left."""
        try:
            return await Call(self._asked(one)).within(_TIMEOUT)
        except TimeoutError:
            return NotSent("timeout")

    async def _asked(self, one: KeptRef) -> ProviderError | None:
        """Ask the provider, which may be a user's own: whatever it raises is told, as one error."""
        provider = boundary.provided(self._provider, one.provider)
        if isinstance(provider, ProviderError):
            return provider
        error = None
        if one.running and isinstance(provider, Cancels):
            error = await self._let_stop(one, provider)
        if error is None and one.stored:
            error = await boundary.done(lambda: provider.close(one.ref))
        return error

    async def _let_stop(self, one: KeptRef, provider: Cancels) -> ProviderError | None:
        """Stop it; what it had used by then is paid for, whoever its turn was."""
        used = await boundary.stopped(lambda: provider.cancel(one.ref))
        if not isinstance(used, Done) or one.turn_id is None:
            return used if isinstance(used, ProviderError) else None
        said = spent_on(one.turn_id, one.session_id, one.provider, used, self._prices)
        try:
            await asyncio.to_thread(self._book, said)
        except StoreError as error:
            return NotSent(error.code)  # it is asked again, before it is deleted there
        return None

    def _book(self, said: Settlement) -> None:
        with self._database.begin() as conn:
            book_work(conn, said)

    def _let_rest(self, page: Sequence[KeptRef], failed: set[int]) -> None:
        answered = {one.provider for one in page if id(one) not in failed}
        for name in {one.provider for one in page} - answered:
            self._resting[name] = time.monotonic() + _REST.total_seconds()

    def _note(self, errors: Sequence[tuple[KeptRef, ProviderError | None]]) -> None:
        with self._database.begin() as conn:
            kept.forget(conn, [one for one, error in errors if error is None])
            for one, error in errors:
                if error is not None:
                    kept.put_off(conn, one, error_code=error.error_code, delay=_pause(one, error))


def _pause(one: KeptRef, error: ProviderError) -> timedelta:
    """Return when it is tried again: ever later, never earlier than the vendor asked, never not."""
    pause: timedelta = _FIRST_PAUSE * 2 ** min(one.tries - 1, 20)
    return max(min(pause, _LONGEST_PAUSE), error.retry_after or timedelta(0))


def _tell(failures: Mapping[tuple[str, str], int]) -> None:
    for (provider, error), count in failures.items():
        logger.warning(
            "%d threads or answers could not be closed at %s: %s; trying again",
            count,
            provider,
            error,
            extra={"action": "close_failed", "provider": provider, "error_code": error},
        )

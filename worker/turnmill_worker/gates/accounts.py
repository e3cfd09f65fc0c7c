"""Accounts: one that has said later, or never, is called by nobody; then one call tries it.

What was refused is judged here, too: the first one closes it for all workers.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from turnmill.domain.closing import FIRST_WAIT, rest, wait_for
from turnmill.domain.errors import (
    MaybeSent,
    Overloaded,
    ProviderError,
    RateLimited,
    StoreError,
    Unreachable,
)
from turnmill.domain.ids import TurnId
from turnmill.domain.states import FOR_ACCOUNT
from turnmill.store.nouns.accounts import (
    ACCOUNT,
    BREAKER,
    AccountKey,
    Closed,
    close,
    give_probe_back,
    open_again,
    probe,
)
from turnmill_worker.gates.breakers import FAILS, HANGS, Breakers, Flight
from turnmill_worker.gates.closures import WAITS_FOR, Closures, Known, named, tell
from turnmill_worker.gates.recalling import Recalling
from turnmill_worker.gates.rows import Rows
from turnmill_worker.layers.call import Call, Go
from turnmill_worker.layers.holding import Stop
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.port import NotNow

logger = logging.getLogger("turnmill.gates")

#: Who tries a closed account says so again before this is over; who is gone does not.
PROBE_LEASE = timedelta(seconds=5)
#: So many refusals in a row without a word of how long to wait.
_IN_A_ROW = 3
#: Seconds after which a call that was not refused was accepted, and one that hangs tells nothing.
_ACCEPTED = 5.0
_HANGS = 30.0
#: With each answer to a new key, of those who wait for the old one.
_COME = 4
#: Whoever has lost the race to try it looks again after this.
_LOST = 1.0
#: A vendor has what is left over for it: none of it says nothing of calls at the usual price.
_FLEX = "flex"


class Accounts:
    """The gate of one process."""

    def __init__(
        self,
        rows: Rows,
        recalling: Recalling,
        *,
        account_of: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`account_of` tells under which account this process calls a provider."""
        self._rows = rows
        self._recalling = recalling
        self._account_of = account_of
        self._clock = clock
        self.closures = Closures(clock)
        self.breakers = Breakers(clock)
        self._refusals: Counter[AccountKey] = Counter()  # in a row, without a time to wait
        self._trying: dict[AccountKey, float] = {}  #: since when
        self._tasks: set[asyncio.Task[Any]] = set()

    def refused(self, call: Call) -> NotNow | None:
        """Return for how long the call has to wait, as far as is known here."""
        known = self._known(call)
        if known is None:
            return None
        now = self._clock()
        if now >= known.until and not known.tried:
            return None  # it may be tried: see `layer`
        return self._put_off(known)

    def layer(self, call: Call, go: Go) -> Awaitable[Answer]:
        """Let the call through, unless its account is closed."""
        if call.kind == "check" and not call.request.native_ref:
            return go(call)  # its vendor names no work of it: there is nothing to be called
        return self._watched(call, go)

    async def _watched(self, call: Call, go: Go) -> Answer:
        known: Known | None = None
        if self.closures:
            if (refused := self.refused(call)) is not None:
                return refused
            known = self._known(call)
            if known is not None and not await self._may_try(known):
                return self._put_off(known)
        flight = self.breakers.begin(call.claim.provider, call.request.model)
        try:
            answer = await go(call)
        except ProviderError as error:
            if (refused := await self._refused(call, error, known, flight)) is not None:
                return refused
            raise
        except BaseException:
            self._stopped(call, known, flight)
            raise
        if isinstance(answer, NotNow):
            flight.over()
            self._give_back(known)
        else:
            flight.answered()
            await self._answered(call, known)
        return answer

    async def tick(self) -> None:
        """Keep what we try, and look for what hangs; about once a second."""
        for known in self.closures:
            if (began := self._trying.get(known.key)) is not None:
                await self._keep_trying(known, self._clock() - began)
        for provider, model in self.breakers.hanging():
            key = AccountKey(kind=BREAKER, provider=provider, model=model)
            if not self.closures.is_closed(key):
                await self._close(key, code=HANGS, wait=rest)

    async def _keep_trying(self, known: Known, spent: float) -> None:
        """Go on with a try, unless it has told enough, or takes too long to tell anything.

        Vendors refuse at once: what has not been refused for a while is being answered. Of a model
        that hangs, nothing is known before it has answered: others try it beside this call.
        """
        if known.key.kind == ACCOUNT and spent > _ACCEPTED:
            await self._open(known.key, n=known.closed.n)
        elif spent > _HANGS:
            self._give_back(known)
        else:
            n, owner = known.closed.n, self._rows.owner
            await self._rows.write(probe, known.key, n=n, owner=owner, lease=PROBE_LEASE)

    def look(self, closed: Sequence[Closed], *, began: float) -> None:
        """Take over what the rows say, and have those come who wait for what was opened."""
        for key in self.closures.look(closed, began=began):
            self.breakers.opened(key.provider, key.model)
            if key.kind == BREAKER:
                self.breakers.works(key.provider, key.model)
            self._recall(key)
        for known in self.closures:
            self._await(known)

    def _known(self, call: Call) -> Known | None:
        if not self.closures:
            return None
        provider = call.claim.provider
        account, model = self._account_of(provider), call.request.model
        return self.closures.of(provider, account, model, _tier_of(call))

    def _put_off(self, known: Known) -> NotNow:
        return NotNow(until=known.next_place(now=self._clock()), waits_for=known.waits_for)

    def _put_back(self, call: Call, known: Known) -> NotNow:
        call.holding.sent = False  # it was refused: the vendor has executed nothing
        return self._put_off(known)

    async def _may_try(self, known: Known) -> bool:
        """Tell whether this call is the one that tries it."""
        if known.tried or known.closed.n < 0:
            return False
        known.tried, won = True, False
        try:
            won = await self._rows.write(
                probe,
                known.key,
                n=known.closed.n,
                owner=self._rows.owner,
                lease=PROBE_LEASE,
            )
        except StoreError as error:
            logger.warning("cannot try what is closed: %s", error.code)
        finally:
            if won:
                self._trying[known.key] = self._clock()
            else:
                known.tried, known.until = False, self._clock() + _LOST
        return won

    async def _answered(self, call: Call, known: Known | None) -> None:
        provider, model = call.claim.provider, call.request.model
        if self._refusals:
            self._refusals.pop(self._key(provider, model, _tier_of(call)), None)
        if known is not None:
            await self._open(known.key, n=known.closed.n)
        elif self.closures:
            breaker = AccountKey(kind=BREAKER, provider=provider, model=model)
            if self.closures.is_closed(breaker):  # whatever was said of it, it answers
                await self._open(breaker, n=None)
            if self.closures.is_elsewhere(provider, self._account_of(provider), model):
                self._recalling.once((FOR_ACCOUNT,), provider=provider, model=model, limit=_COME)

    async def _refused(
        self, call: Call, error: ProviderError, known: Known | None, flight: Flight
    ) -> NotNow | None:
        """Close what has refused the call; NotNow where that is no fault of the turn's."""
        provider, model, turn_id = call.claim.provider, call.request.model, call.claim.turn_id
        if isinstance(error, MaybeSent | Unreachable):
            trips = flight.failed(turn_id)
            key = AccountKey(kind=BREAKER, provider=provider, model=model)
            if trips or (known is not None and known.key == key):
                self.breakers.forgive(provider, model)
                await self._close(key, code=FAILS, wait=rest, turn_id=turn_id, known=known)
            else:
                self._give_back(known)
            return None
        if isinstance(error, RateLimited | Overloaded):
            flight.over()
            await self._said_later(call, error, known)
            return None
        if error.of_account:
            flight.over()
            key = self._key(provider, "")
            waits = self.closures.is_closed(key)
            wait = partial(_wait, error.retry_after, permanent=True)
            closed = await self._close(
                key, code=error.error_code, wait=wait, permanent=True, turn_id=turn_id, known=known
            )
            return self._put_back(call, closed) if waits and closed is not None else None
        if call.holding.sent or error.answered:
            flight.answered()  # it refuses this request, and so it works
            await self._answered(call, known)
        else:
            flight.over()
            self._give_back(known)
        return None

    async def _said_later(self, call: Call, error: ProviderError, known: Known | None) -> None:
        key = self._key(call.claim.provider, call.request.model, _tier_of(call))
        if error.retry_after is None:
            self._refusals[key] += 1
            if self._refusals[key] < _IN_A_ROW and known is None:
                return
        told = error.retry_after
        if known is not None and told is not None:
            told = max(told, FIRST_WAIT)  # it has not held what it said: no more than one a second
        wait = partial(_wait, told, permanent=False)
        turn_id = call.claim.turn_id
        await self._close(key, code=error.error_code, wait=wait, turn_id=turn_id, known=known)

    async def _close(
        self,
        key: AccountKey,
        *,
        code: str,
        wait: Callable[[int], timedelta],
        permanent: bool = False,
        turn_id: TurnId | None = None,
        known: Known | None = None,
    ) -> Known | None:
        """Close it for all; None where the rows do not take it, and it is closed here alone."""
        was, told_at = self.closures.is_closed(key), self._clock()
        self.closures.close_here(key, code=code, wait=wait(1))
        seen = known.closed.n if known is not None and known.key == key else 0
        if known is not None and known.key != key:
            self._give_back(known)
        self._trying.pop(key, None)
        try:
            closed = await self._rows.write(
                close,
                key,
                # From when it was said, however long the store takes to hear of it.
                wait=lambda times: wait(times) - timedelta(seconds=self._clock() - told_at),
                code=code[:200],
                permanent=permanent,
                turn_id=turn_id,
                seen=seen,
                answered=self.breakers.answers_of(key.provider, key.model),
            )
        except StoreError as error:
            logger.warning("cannot tell others what is closed: %s", error.code)
            return None
        if not was:
            tell(key, code, closed.left, permanent=permanent)
        learnt = self.closures.learn(closed)
        self._await(learnt)
        return learnt

    def _await(self, known: Known) -> None:
        """Have one turn come right when its time has come: it is the one that tries it."""
        if not known.awaited and known.closed.n >= 0:
            known.awaited = True
            self._later(self._come_in_time(known))

    async def _come_in_time(self, known: Known) -> None:
        key, n = known.key, known.closed.n
        left = known.until - self._clock()
        if left > 0:
            await asyncio.sleep(left)
        if known.until > self._clock():  # it was closed for longer meanwhile
            self._later(self._come_in_time(known))
        elif self.closures.is_closed(key, n=n) and not known.tried:
            await self._recalling.some(
                (known.waits_for,), provider=key.provider, model=key.model, limit=1
            )

    async def _open(self, key: AccountKey, *, n: int | None) -> None:
        self._trying.pop(key, None)
        standing = [one for one in self.closures if one.key == key]
        try:
            opened = await self._rows.write(open_again, key, seen=n)
        except StoreError as error:
            logger.warning("cannot open what is closed: %s", error.code)
            self._give_back(*standing)
            return
        for one in standing:
            self.closures.forget(key, n=one.closed.n)
        self.breakers.opened(key.provider, key.model)
        if opened:
            logger.warning(
                "%s %s is open again",
                key.kind,
                named(key),
                extra={"action": "account_opened", "provider": key.provider},
            )
            self._recall(key)

    def _stopped(self, call: Call, known: Known | None, flight: Flight) -> None:
        """A call was closed: by a timeout, which tells of its model, or by somebody."""
        self._give_back(known)
        provider, model, turn_id = call.claim.provider, call.request.model, call.claim.turn_id
        if call.holding.stop is not Stop.TIMED_OUT:
            flight.over()
        elif flight.failed(turn_id):
            self.breakers.forgive(provider, model)
            key = AccountKey(kind=BREAKER, provider=provider, model=model)
            self._later(self._close(key, code=FAILS, wait=rest, turn_id=turn_id))

    async def stop(self) -> None:
        """Leave what is closed to others."""
        for task in list(self._tasks):
            task.cancel()

    def _give_back(self, *tried: Known | None) -> None:
        """Let somebody else try it: our call has told nothing."""
        for known in tried:
            if known is not None and known.tried:
                known.tried = False
                self._trying.pop(known.key, None)
                self._later(self._giving_back(known))

    async def _giving_back(self, known: Known) -> None:
        try:
            await self._rows.write(
                give_probe_back, known.key, n=known.closed.n, owner=self._rows.owner
            )
        except StoreError:
            return  # its lease ends

    def _later(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _recall(self, key: AccountKey) -> None:
        self._recalling.all(
            (WAITS_FOR[key.kind],),
            provider=key.provider,
            model=key.model,
            goes_on=lambda: not self.closures.is_closed(key),
        )

    def _key(self, provider: str, model: str, tier: str = "") -> AccountKey:
        account = self._account_of(provider)
        return AccountKey(kind=ACCOUNT, provider=provider, account=account, model=model, tier=tier)


def _tier_of(call: Call) -> str:
    """Return the tier that a call asks for, where that has room of its own: else ""."""
    return _FLEX if call.request.settings.get("service_tier") == _FLEX else ""


def _wait(retry_after: timedelta | None, times: int, *, permanent: bool) -> timedelta:
    return wait_for(retry_after, times=times, permanent=permanent)

"""Learning: what a vendor's answers say of its limits becomes a row that all workers go by."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from turnmill.domain.errors import StoreError
from turnmill.domain.pacing import Rates
from turnmill.store.nouns.limits import LimitKey, learn
from turnmill_worker.gates.rows import Rows
from turnmill_worker.providers.allowances import Allowance, Headers, allowances_in, hearing

logger = logging.getLogger("turnmill.gates")

T = TypeVar("T")

#: An answer is heard so often, of each model.
_EVERY = 0.25
#: Models whose times are remembered.
_MOST_MODELS = 1_000
#: What was said is written anew so often, unless it has changed.
_WRITTEN_EVERY = 1.0
#: While more than this part is left, calls are not paced.
_PLENTY = 0.5
#: What was said so long ago tells nothing.
_OLD = 60.0
#: Where no more than this part is left, nobody calls before it is filled up again.
_NOTHING = 0.01
_LONGEST_HOLD = 60.0


@dataclass(slots=True, eq=False)
class _Heard:
    """What an account has said of a model."""

    at: float = -_OLD
    written_at: float = -_OLD
    rates: Rates | None = None
    is_short: bool = False


class Learning:
    """What this process has heard. Used on one event loop."""

    def __init__(self, rows: Rows, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows = rows
        self._clock = clock
        self._heard: dict[LimitKey, _Heard] = {}
        self._due: dict[tuple[str, str], float] = {}  #: when an answer of a model is heard again
        self._writing: set[asyncio.Task[None]] = set()

    def begins(self, provider: str, model: str) -> bool:
        """Tell whether it is time to hear an answer, once for each time: most say the same."""
        now = self._clock()
        if now < self._due.get((provider, model), 0.0):
            return False
        if len(self._due) >= _MOST_MODELS:
            self._due.clear()
        self._due[provider, model] = now + _EVERY
        return True

    async def heard(self, key: LimitKey, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask, and hear the answers."""
        with hearing(partial(self._hear, key)):
            return await ask()

    def is_short(self, key: LimitKey) -> bool:
        """Tell whether calls are to be paced: not much is left, or nobody has said lately."""
        heard = self._heard.get(key)
        return heard is None or heard.is_short or self._clock() - heard.at > _OLD

    def _hear(self, key: LimitKey, headers: Headers) -> None:
        now = self._clock()
        heard = self._heard.get(key)
        if heard is None:
            heard = self._heard[key] = _Heard()
        said = allowances_in(headers)
        if said.requests is None and said.tokens is None:
            return
        heard.at = now
        all_said = [one for one in (said.requests, said.tokens) if one is not None]
        heard.is_short = any(_left(one) < _PLENTY for one in all_said)
        rates = Rates(
            requests_per_minute=None if said.requests is None else said.requests.limit,
            tokens_per_minute=None if said.tokens is None else said.tokens.limit,
        )
        holds = [_hold(one) for one in all_said if _left(one) <= _NOTHING]
        changed = rates != heard.rates or bool(holds)
        if changed and (heard.rates is None or now - heard.written_at >= _WRITTEN_EVERY):
            heard.rates, heard.written_at = rates, now
            self._write(key, rates, hold=max(holds, default=None))

    def _write(self, key: LimitKey, rates: Rates, *, hold: float | None) -> None:
        task = asyncio.get_running_loop().create_task(self._written(key, rates, hold))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _written(self, key: LimitKey, rates: Rates, hold: float | None) -> None:
        try:
            await self._rows.write(learn, key, rates, hold=hold)
        except StoreError as error:
            logger.warning("cannot note what a vendor allows: %s", error.code)


def _left(one: Allowance) -> float:
    return 1.0 if one.left is None else one.left / one.limit


def _hold(one: Allowance) -> float:
    """Return for how long nothing is left."""
    return min(one.resets_in if one.resets_in is not None else 1.0, _LONGEST_HOLD)

"""Learning: what a vendor's answers say of its limits becomes a row that all workers go by."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from turnmill.domain.errors import StoreError
from turnmill.domain.pacing import Rates
from turnmill.store.nouns.limits import LimitKey, learn
from turnmill_worker.gates.rows import Rows
from turnmill_worker.providers.allowances import Allowance, Headers, allowances_in

logger = logging.getLogger("turnmill.gates")

#: Headers are read so often, of each account and model, while much is left.
_EVERY = 0.25
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
    looked_at: float = -_OLD  #: at an answer's headers, whatever they said
    written_at: float = -_OLD
    held_until: float = -_OLD  #: nothing is left until then, as was written
    rates: Rates | None = None
    is_short: bool = False


class Learning:
    """What this process has heard. Used on one event loop."""

    def __init__(self, rows: Rows, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows = rows
        self._clock = clock
        self._heard: dict[LimitKey, _Heard] = {}
        self._writing: set[asyncio.Task[None]] = set()

    def hears(self, key: LimitKey) -> Callable[[Headers], None]:
        """Return what is told the headers of each answer that this account gives of a model."""
        return partial(self._hear, key)

    def is_short(self, key: LimitKey) -> bool:
        """Tell whether calls are to be paced: not much is left, or nobody has said lately."""
        heard = self._heard.get(key)
        return heard is None or heard.is_short or self._clock() - heard.at > _OLD

    def _hear(self, key: LimitKey, headers: Headers) -> None:
        now = self._clock()
        heard = self._heard.get(key)
        if heard is None:
            heard = self._heard[key] = _Heard()
        if now - heard.looked_at < _EVERY and not heard.is_short:
            return
        heard.looked_at = now
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
        hold = max(holds, default=None)
        begins = hold is not None and now >= heard.held_until
        changed = rates != heard.rates or hold is not None
        is_due = heard.rates is None or now - heard.written_at >= _WRITTEN_EVERY
        if begins or (changed and is_due):
            heard.rates, heard.written_at, heard.held_until = rates, now, now + (hold or 0.0)
            self._write(key, rates, hold=hold)

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

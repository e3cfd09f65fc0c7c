"""Limits: a call goes when there is room for it, in its minute and among those in flight."""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import NamedTuple

from turnmill.domain.pacing import Rates, line_of
from turnmill.domain.reply_limits import LIMITS_OF_REPLIES
from turnmill.domain.states import FOR_LIMIT, Lane
from turnmill.store.nouns.limits import SET, Limit, LimitKey
from turnmill_worker.gates.bulkheads import Bulkhead
from turnmill_worker.gates.learning import Learning
from turnmill_worker.gates.limiters import Limiter
from turnmill_worker.gates.put_off import PutOff
from turnmill_worker.gates.recalling import Recalling
from turnmill_worker.gates.rows import Rows
from turnmill_worker.layers.call import Call, Go
from turnmill_worker.providers.allowances import Headers, hear
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.port import Done, NotNow

#: Of a process with fewer slots, no provider is held back for others.
_FEW_SLOTS = 8
#: A part of the slots that one provider leaves to the others.
_LEFT = 4
#: Tokens of an output of which nothing is known.
_OUTPUT = 500
_BYTES_PER_TOKEN = 4
#: Models that are remembered between two looks.
_MOST_MODELS = 1_000


class _Found(NamedTuple):
    """What the calls to one model count to."""

    limiters: tuple[Limiter, ...]
    bulkheads: tuple[Bulkhead, ...]
    learned: Limiter | None  #: what the vendor has said, where nobody has set anything
    hears: Callable[[Headers], None] | None  #: is told what the vendor says of its limits


class Limits:
    """The gate of one process."""

    def __init__(
        self,
        rows: Rows,
        recalling: Recalling,
        *,
        account_of: Callable[[str], str],
        closed: Callable[[Call], NotNow | None],
        slots: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`closed` tells of a call that has to wait for something else in any case."""
        self._rows = rows
        self._recalling = recalling
        self._account_of = account_of
        self._closed = closed
        self._slots = slots
        self._clock = clock
        self._limiters: dict[LimitKey, Limiter] = {}
        self._bulkheads: dict[LimitKey, Bulkhead] = {}
        self._own: dict[str, Bulkhead] = {}  #: of this process, by provider
        self._found: dict[tuple[str, str], _Found] = {}  #: by provider and model, until a look
        self._others: frozenset[str] = frozenset()  #: providers in use, if there are several
        self.learning = Learning(rows, clock)

    def layer(self, call: Call, go: Go) -> Awaitable[Answer]:
        """Let the call through as soon as there is room; put its turn off where that takes long."""
        if call.kind != "send":
            return go(call)
        named = (call.claim.provider, call.request.model)
        found = self._found.get(named) or self._find(*named)
        limiters = found.limiters
        if found.learned is not None and self.learning.is_short(found.learned.key):
            limiters = (found.learned,)
        hear(found.hears)  # for the task that the call is made in, which is its own
        if not limiters and not found.bulkheads:
            return go(call)
        return self._counted(call, go, limiters, found.bulkheads)

    async def _counted(
        self, call: Call, go: Go, limiters: Sequence[Limiter], bulkheads: Sequence[Bulkhead]
    ) -> Answer:
        if (closed := self._closed(call)) is not None:
            return closed
        async with AsyncExitStack() as stack:
            for one in bulkheads:
                entered = await one.enter()
                if isinstance(entered, PutOff):
                    return _later(entered)
                stack.callback(one.leave, entered)
            return await self._paced(call, go, limiters)

    def look(self, found: Sequence[Limit], providers: Iterable[str]) -> None:
        """Take over what the rows say, and who is in use."""
        self._found.clear()
        named = frozenset(providers)
        self._others = named if len(named) > 1 else frozenset()
        standing = {one.key: one for one in found}
        for key in [key for key in (*self._limiters, *self._bulkheads) if key not in standing]:
            self._limiters.pop(key, None)
            self._bulkheads.pop(key, None)
            self._recalling.all((FOR_LIMIT,), provider=key.provider, model=key.model)
        for one in found:
            self._take_over(one)

    async def tick(self) -> None:
        """Hold the permits of what is in flight."""
        for one in list(self._bulkheads.values()):
            await one.tick()

    async def stop(self) -> None:
        """Give all permits back."""
        for one in list(self._bulkheads.values()):
            await one.stop()

    def _take_over(self, limit: Limit) -> None:
        """Go by the limit; where it is higher now, who waits has a place that is too late."""
        if any((self._take_rates(limit), self._take_concurrent(limit))):
            self._recalling.all((FOR_LIMIT,), provider=limit.key.provider, model=limit.key.model)
        self._recall_where_idle(limit)

    def _take_rates(self, limit: Limit) -> bool:
        """Return whether more may be asked than before."""
        key, rates = limit.key, limit.rates
        if rates == Rates():
            return self._limiters.pop(key, None) is not None
        if (limiter := self._limiters.get(key)) is not None:
            return limiter.change(rates)
        self._limiters[key] = Limiter(key, rates, self._rows, self._clock)
        return False

    def _take_concurrent(self, limit: Limit) -> bool:
        key, most = limit.key, limit.concurrent
        if most is None:
            return self._bulkheads.pop(key, None) is not None
        if (bulkhead := self._bulkheads.get(key)) is not None:
            before, bulkhead.most = bulkhead.most, most
            return most > before
        self._bulkheads[key] = Bulkhead(key, self._recalling, most, self._rows, self._clock)
        return False

    def _recall_where_idle(self, limit: Limit) -> None:
        """Turns wait for places in a line that has room before them: some are recalled."""
        each = limit.rates.seconds_of(0)
        if limit.is_waited_for and limit.idle > 0.5:
            count = max(1, round(1.0 / max(each, 0.01)))
            self._recalling.once(
                (FOR_LIMIT,), provider=limit.key.provider, model=limit.key.model, limit=count
            )

    def _find(self, provider: str, model: str) -> _Found:
        """Look up what the calls to a model count to: it is kept until the next look."""
        keys = (LimitKey(provider=provider), LimitKey(provider=provider, model=model))
        limiters = [limiter for key in keys if (limiter := self._limiters.get(key)) is not None]
        bulkheads = [one for key in keys if (one := self._bulkheads.get(key)) is not None]
        if provider in self._others and (own := self._bulkhead_of(provider)) is not None:
            bulkheads.append(own)
        account = self._account_of(provider)
        key = LimitKey(provider=provider, account=account, model=model)
        learns = account != SET
        if len(self._found) >= _MOST_MODELS:
            self._found.clear()
        found = self._found[provider, model] = _Found(
            limiters=tuple(limiters),
            bulkheads=tuple(bulkheads),
            learned=self._limiters.get(key) if learns and not limiters else None,
            hears=self.learning.hears(key) if learns else None,
        )
        return found

    def _bulkhead_of(self, provider: str) -> Bulkhead | None:
        """Return the one that keeps a provider which hangs from taking all slots."""
        slots = self._slots()
        if slots < _FEW_SLOTS:
            return None
        found = self._own.get(provider)
        if found is None:
            key = LimitKey(provider=provider)
            found = self._own[provider] = Bulkhead(key, self._recalling, slots, clock=self._clock)
        found.most = slots - slots // _LEFT
        return found

    async def _paced(self, call: Call, go: Go, limiters: Sequence[Limiter]) -> Answer:
        tokens = _tokens_of(call) if any(one.rates.tokens_per_minute for one in limiters) else 0
        claim = call.claim
        line = line_of(claim.user_id, interactive=claim.lane is not Lane.BULK)
        is_back = claim.waits_for == FOR_LIMIT or claim.step > 1
        entered: list[Limiter] = []
        for one in limiters:
            found = await one.enter(line, tokens=tokens, is_back=is_back)
            if isinstance(found, PutOff):
                for before in entered:
                    before.not_used(tokens=tokens)
                return _later(found)
            entered.append(one)
        answer = await go(call)
        if isinstance(answer, NotNow):
            for one in entered:
                one.not_used(tokens=tokens)
        elif tokens and isinstance(answer, Done):
            for one in entered:
                one.used(asked=tokens, used=_used(answer))
        return answer


def _later(put_off: PutOff) -> NotNow:
    return NotNow(until=timedelta(seconds=put_off.seconds), waits_for=FOR_LIMIT)


def _tokens_of(call: Call) -> int:
    """Return about how many tokens the call takes: what is sent, and what may come."""
    request = call.request
    said = sum(len(one.text) for one in (*request.history, *request.messages))
    said += len(request.system_prompt or "")
    limits = (request.settings.get(name) for name in LIMITS_OF_REPLIES)
    output = next((one for one in limits if type(one) is int), _OUTPUT)
    return max(1, said // _BYTES_PER_TOKEN + output)


def _used(answer: Done) -> int | None:
    usage = answer.usage
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    return usage.input_tokens + usage.output_tokens

"""Closures: what nobody calls for a while, as this process knows it. The rows are what counts."""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from turnmill.domain.states import FOR_ACCOUNT, FOR_BREAKER
from turnmill.store.nouns.accounts import ACCOUNT, BREAKER, AccountKey, Closed

logger = logging.getLogger("turnmill.gates")

WAITS_FOR = {ACCOUNT: FOR_ACCOUNT, BREAKER: FOR_BREAKER}

#: Those who wait come back one after the other, the first of them as it opens.
_APART = timedelta(milliseconds=20)
#: While somebody tries it, the others wait for that.
_TRIED = timedelta(seconds=5)
#: The row's own clock has to say that it is time, too.
_SLACK = 0.01
#: Later than this nobody is put off at once: what is closed may be opened at any time.
_LATEST = timedelta(hours=1)


@dataclass(slots=True, eq=False)
class Known:
    """Something that is closed."""

    closed: Closed
    until: float  #: on our clock: from then on one call may try it
    noted_at: float  #: on our clock
    tried: bool = False  #: by a call of this process, now
    awaited: bool = False  #: somebody is recalled when its time has come
    put_off: int = 0  #: turns, since it was closed, or since it was last tried

    @property
    def key(self) -> AccountKey:
        return self.closed.key

    @property
    def waits_for(self) -> str:
        return WAITS_FOR[self.key.kind]

    def next_place(self, *, now: float) -> timedelta:
        """Return when the next turn that is put off comes back; no two come at once."""
        after = timedelta(seconds=max(self.until - now, 0.0))
        if after <= timedelta(0):
            after = _TRIED + _APART * random.random()
        place = after + _APART * self.put_off
        self.put_off += 1
        return min(place, _LATEST)


class Closures:
    """All that is closed. Used on one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[AccountKey, Known] = {}
        self._opened: dict[AccountKey, int] = {}  #: by us: a look may have begun before

    def __bool__(self) -> bool:
        return bool(self._known)

    def __iter__(self) -> Iterator[Known]:
        return iter(list(self._known.values()))

    def of(self, provider: str, account: str, model: str, tier: str = "") -> Known | None:
        """Return what stands in the way of a call; of several, what does for longest.

        Who has said later to a tier of its own has said nothing of the others.
        """
        keys = [
            AccountKey(kind=ACCOUNT, provider=provider, account=account),
            AccountKey(kind=ACCOUNT, provider=provider, account=account, model=model),
            AccountKey(kind=BREAKER, provider=provider, model=model),
        ]
        if tier:
            keys.append(
                AccountKey(kind=ACCOUNT, provider=provider, account=account, model=model, tier=tier)
            )
        found = [known for key in keys if (known := self._known.get(key)) is not None]
        return max(found, key=lambda one: one.until, default=None)

    def is_closed(self, key: AccountKey, *, n: int | None = None) -> bool:
        """Tell whether it is closed, as far as we know; with `n`, still by that closing."""
        known = self._known.get(key)
        return known is not None and (n is None or known.closed.n == n)

    def is_elsewhere(self, provider: str, account: str, model: str) -> bool:
        """Tell whether another account of the provider is closed until somebody sets it right.

        Its key may have been changed since, which opens no row.
        """
        return any(
            key.provider == provider and key.account not in ("", account)
            for key, known in self._known.items()
            if known.closed.permanent and key.model in ("", model)
        )

    def learn(self, closed: Closed) -> Known:
        """Note what a row says."""
        known, now = self._known.get(closed.key), self._clock()
        until = now + closed.left.total_seconds() + _SLACK
        if known is None or known.closed.n < closed.n:
            known = self._known[closed.key] = Known(closed, until, now)
        elif known.closed.n == closed.n:
            known.closed, known.until, known.noted_at = closed, max(known.until, until), now
        return known

    def close_here(self, key: AccountKey, *, code: str, wait: timedelta) -> None:
        """Begin no call of ours any more, while the row is still being written."""
        if key not in self._known:
            self.learn(Closed(key=key, n=-1, code=code, permanent=False, left=wait))

    def forget(self, key: AccountKey, *, n: int) -> None:
        """Note that we have opened it ourselves."""
        known = self._known.get(key)
        if known is not None and known.closed.n <= n:
            del self._known[key]
            self._opened[key] = n

    def look(self, found: Sequence[Closed], *, began: float) -> list[AccountKey]:
        """Take over what all rows say; return what has been opened since the look before.

        The look began then: what we have learned since may not be in it.
        """
        for one in found:
            if self._opened.get(one.key, -1) < one.n:
                self.learn(one)
        standing = {one.key for one in found}
        opened = [
            key
            for key, known in self._known.items()
            if key not in standing and known.noted_at < began
        ]
        for key in opened:
            del self._known[key]
        self._opened = {key: n for key, n in self._opened.items() if key in standing}
        return opened


def named(key: AccountKey) -> str:
    """Return what a log calls it."""
    return " ".join(one for one in (key.provider, key.model, key.tier, key.account) if one)


def tell(key: AccountKey, code: str, left: timedelta, *, permanent: bool) -> None:
    """Say in the log that it is closed."""
    log = logger.error if permanent else logger.warning
    log(
        "%s %s is closed: %s; turns wait, and one call tries it in %.0f s%s",
        key.kind,
        named(key),
        code,
        left.total_seconds(),
        f". Set it right, then: turnmill accounts open {key.provider}" if permanent else "",
        extra={"action": "account_closed", "provider": key.provider, "error_code": code},
    )

"""Sharing: how many requests may go to which webhook at once, so that none holds up the others."""

import time
from collections import Counter
from collections.abc import Callable
from uuid import UUID

from turnmill.store.hook_records import Room, Sent

#: Requests of this process at once, and to one webhook.
AT_ONCE = 32
_EACH = 8
#: Of all at once, so many may wait for webhooks that are slow, or have not answered well so far.
_FOR_OTHERS = AT_ONCE // 2
#: Webhooks of which something is remembered, those that are gone by now included.
_MOST_REMEMBERED = 1_000
#: An answer that takes longer is slow.
_SLOW_MS = 1_000
#: One that asks for a pause is sent nothing for as long, or for this: then a request asks again.
_LONGEST_REST_S = 60.0


class Sharing:
    """Counts what is under way, and remembers how each webhook took what was sent before.

    One that answers is sent more at once, up to eight; one that has not is sent one at a time.
    Those that are slow, or have failed, or that nobody has heard of yet, share half of the places:
    so however many hang, one that answers has the other half. One that says when to come again is
    left alone meanwhile.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._busy: Counter[UUID] = Counter()
        self._each: dict[UUID, int] = {}  #: of those that took what was sent last
        self._slow: set[UUID] = set()
        self._rests: dict[UUID, float] = {}  #: until when

    def begun(self, webhook: UUID) -> None:
        """Note that a request is under way."""
        self._busy[webhook] += 1

    def ended(self, webhook: UUID, sent: Sent | None) -> None:
        """Note what came of it; None: nobody knows."""
        self._busy[webhook] -= 1
        self._busy += Counter()  # those of none are forgotten
        self._rests.pop(webhook, None)
        if sent is None or not sent.ok:
            if sent is not None and sent.wait:
                rest = min(sent.wait.total_seconds(), _LONGEST_REST_S)
                self._rests[webhook] = self._clock() + rest
            self._each.pop(webhook, None)
            self._slow.discard(webhook)
            return
        if len(self._each) > _MOST_REMEMBERED:
            self._each.clear()
        self._each[webhook] = min(self._each.get(webhook, 1) * 2, _EACH)
        if sent.took_ms > _SLOW_MS:
            self._slow.add(webhook)
        else:
            self._slow.discard(webhook)

    def room(self, most: int) -> Room:
        """Return what may be begun now, `most` in all."""
        now = self._clock()
        self._rests = {one: until for one, until in self._rests.items() if until > now}
        quick = self._each.keys() - self._slow
        waiting = sum(count for one, count in self._busy.items() if one not in quick)
        return Room(
            most=most,
            quick={one: self._left(one) for one in quick},
            others={one: self._left(one) for one in (self._busy.keys() | self._slow) - quick}
            | dict.fromkeys(self._rests, 0),
            most_of_others=max(_FOR_OTHERS - waiting, 0),
        )

    def _left(self, webhook: UUID) -> int:
        return max(self._each.get(webhook, 1) - self._busy[webhook], 0)

"""Chains: the layers of a process, put together once for each choice of them."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from turnmill.domain.errors import Rejected
from turnmill.store.records import Claim
from turnmill_worker.layers.ask import asking
from turnmill_worker.layers.call import Go, Layer, around
from turnmill_worker.layers.compaction import Shortening, compaction
from turnmill_worker.layers.guard import guarded_layer, guarded_provider
from turnmill_worker.layers.history import ReadHistory, history
from turnmill_worker.layers.hold import hold
from turnmill_worker.layers.registered import Named
from turnmill_worker.layers.repair import repair
from turnmill_worker.layers.thread_lost import thread_lost
from turnmill_worker.layers.timeout import timeout
from turnmill_worker.providers.port import Provider

#: Choices whose chains are kept; beyond it, they are put together anew.
_MOST_CHOICES = 100


class Chains:
    """All around the providers of one process: ours, and those that its operator registered.

    From the outside in: timeout, measure, history, compaction, repair, thread_lost, the operator's
    in his order, hold, the provider. Around each of the operator's, and around the provider, stands
    a guard.
    """

    def __init__(
        self,
        *,
        find: Callable[[str], Provider],
        read_history: ReadHistory,
        shortening: Shortening,
        mark_sent: Callable[[Claim], Awaitable[bool]],
        turn_timeout: timedelta,
        max_reply_bytes: int,
        theirs: Sequence[Named] = (),
        measure: Layer | None = None,
    ) -> None:
        measuring = () if measure is None else (measure,)
        self._outer: Sequence[Layer] = (
            timeout(turn_timeout),
            *measuring,
            history(read_history),
            compaction(shortening),
            repair(read_history),
            thread_lost(read_history),
        )
        self._theirs = theirs
        self._known = frozenset(one.name for one in theirs)
        self._max_bytes = max_reply_bytes
        provider = guarded_provider(asking(find), max_bytes=max_reply_bytes)
        self._inner = around(hold(mark_sent), provider)
        self._usual = self._put_together(frozenset())
        self._chosen: dict[frozenset[str], Go] = {}

    def of(self, chosen: object) -> Go:
        """Return the chain for a session whose setting `layers` is this, or None.

        Raises Rejected for names that are not registered here: nothing is ever imported for them.
        """
        if not chosen:
            return self._usual
        names = _names(chosen)
        found = self._chosen.get(names)
        if found is None:
            self._refuse_unknown(names)
            if len(self._chosen) >= _MOST_CHOICES:
                self._chosen.clear()
            found = self._chosen[names] = self._put_together(names)
        return found

    def _refuse_unknown(self, names: frozenset[str]) -> None:
        if unknown := sorted(names - self._known):
            raise Rejected(
                "unknown_layer",
                detail=f"no layer is named {unknown[0]!r} in this worker",
                hint="name it in TURNMILL_LAYERS of every worker, or update the session's settings,"
                " then `turnmill turns retry`",
            )

    def _put_together(self, names: frozenset[str]) -> Go:
        go = self._inner
        for one in reversed(self._theirs):
            if not one.opt_in or one.name in names:
                go = guarded_layer(one.layer, go, max_bytes=self._max_bytes)
        for layer in reversed(self._outer):
            go = around(layer, go)
        return go


def _names(chosen: object) -> frozenset[str]:
    if isinstance(chosen, list) and all(isinstance(one, str) for one in chosen):
        return frozenset(chosen)
    raise Rejected(
        "setting_refused",
        detail="setting 'layers': it must be a list of names",
        hint="`turnmill sessions show` shows a session's settings; update or leave out this one",
    )

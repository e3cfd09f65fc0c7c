"""Chains: the layers of a process, put together once for each choice of them."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from turnmill.domain.errors import HistoryRefused, Rejected
from turnmill.store.records import Claim
from turnmill_worker.layers.ask import asking
from turnmill_worker.layers.budget import Budgeting, budget
from turnmill_worker.layers.call import Go, Layer, around
from turnmill_worker.layers.compaction import Shortening, compaction
from turnmill_worker.layers.guard import guarded_layer, guarded_provider
from turnmill_worker.layers.history import ReadHistory, history
from turnmill_worker.layers.hold import hold
from turnmill_worker.layers.registered import Named
from turnmill_worker.layers.repair import repair
from turnmill_worker.layers.shortening import kind_of
from turnmill_worker.layers.thread_lost import thread_lost
from turnmill_worker.layers.timeout import timeout
from turnmill_worker.providers.port import Provider

#: Choices whose chains are kept; beyond it, they are put together anew.
_MOST_CHOICES = 100


class Chains:
    """All around the providers of one process: ours, and those that its operator registered.

    From the outside in: timeout, measure, history, compaction, repair, thread_lost, the operator's
    in his order, budget, hold, the provider. Around each of the operator's, and around the
    provider, stands a guard. Compaction and repair are left out where a turn has no use for them.
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
        budgeting: Budgeting | None = None,
    ) -> None:
        measuring = () if measure is None else (measure,)
        self._outermost = (timeout(turn_timeout), *measuring, history(read_history))
        self._mending = (compaction(shortening), repair(read_history))
        self._outer = (thread_lost(read_history),)
        self._theirs = theirs
        self._known = frozenset(one.name for one in theirs)
        self._max_bytes = max_reply_bytes
        provider = guarded_provider(asking(find), max_bytes=max_reply_bytes)
        held = around(hold(mark_sent), provider)
        self._inner = held if budgeting is None else around(budget(budgeting), held)
        self._usual = self._put_together(frozenset(), ())
        self._chosen: dict[tuple[frozenset[str], bool], Go] = {}

    def of(self, claim: Claim) -> Go:
        """Return the chain for a turn, with the layers that its session's settings name.

        Raises Rejected for names that are not registered here: nothing is ever imported for them.
        """
        chosen, mends = claim.settings.get("layers"), _is_to_be_mended(claim)
        if not (chosen or mends):
            return self._usual
        choice = _names(chosen) if chosen else frozenset(), mends
        found = self._chosen.get(choice)
        if found is None:
            self._refuse_unknown(choice[0])
            if len(self._chosen) >= _MOST_CHOICES:
                self._chosen.clear()
            mending = self._mending if mends else ()
            found = self._chosen[choice] = self._put_together(choice[0], mending)
        return found

    def _refuse_unknown(self, names: frozenset[str]) -> None:
        if unknown := sorted(names - self._known):
            raise Rejected(
                "unknown_layer",
                detail=f"no layer is named {unknown[0]!r} in this worker",
                hint="name it in TURNMILL_LAYERS of every worker, or update the session's settings,"
                " then `turnmill turns retry`",
            )

    def _put_together(self, names: frozenset[str], mending: Sequence[Layer]) -> Go:
        go = self._inner
        for one in reversed(self._theirs):
            if not one.opt_in or one.name in names:
                go = guarded_layer(one.layer, go, max_bytes=self._max_bytes)
        for layer in reversed((*self._outermost, *mending, *self._outer)):
            go = around(layer, go)
        return go


def _is_to_be_mended(claim: Claim) -> bool:
    """Tell whether its history may be shortened, or was refused when it was last sent."""
    return kind_of(claim.settings) is not None or claim.error_code == HistoryRefused.code


def _names(chosen: object) -> frozenset[str]:
    if isinstance(chosen, list) and all(isinstance(one, str) for one in chosen):
        return frozenset(chosen)
    raise Rejected(
        "setting_refused",
        detail="setting 'layers': it must be a list of names",
        hint="`turnmill sessions show` shows a session's settings; update or leave out this one",
    )

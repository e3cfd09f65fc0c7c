"""Chains: the layers of a process, put together once for each choice of them."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol

from turnmill.domain.adoption import AS_CONVERSATION, THREAD
from turnmill.domain.errors import HistoryRefused, Rejected
from turnmill.store.records import Claim
from turnmill_worker.layers.adoption import AdoptionLedger, adoption
from turnmill_worker.layers.ask import asking
from turnmill_worker.layers.budget import Budgeting, budget
from turnmill_worker.layers.call import Go, Layer, around
from turnmill_worker.layers.compaction import Shortening, compaction
from turnmill_worker.layers.fallback import Paused, fallback, noted
from turnmill_worker.layers.guard import guarded_layer, guarded_provider
from turnmill_worker.layers.history import ReadHistory, history
from turnmill_worker.layers.hold import hold
from turnmill_worker.layers.lending import LendingLedger, lending
from turnmill_worker.layers.registered import Named
from turnmill_worker.layers.repair import repair
from turnmill_worker.layers.shortening import kind_of
from turnmill_worker.layers.targets import has_targets
from turnmill_worker.layers.thread_lost import thread_lost
from turnmill_worker.layers.timeout import timeout
from turnmill_worker.layers.uploading import UploadLedger, uploading
from turnmill_worker.providers.files import Files
from turnmill_worker.providers.port import Provider

#: Choices whose chains are kept; beyond it, they are put together anew.
_MOST_CHOICES = 100


class ThreadStore(AdoptionLedger, LendingLedger, Protocol):
    """What threads of vendors need of the store."""


class _Choice(NamedTuple):
    """What a turn has use for, besides what every turn has around its calls."""

    layers: frozenset[str] = frozenset()  #: of the operator's, by their names
    mends: bool = False  #: its history may be shortened, or was refused when it was last sent
    threads: bool = False  #: it is one of a thread that cannot fork, or adopts one
    falls_back: bool = False  #: others may answer it


class Chains:
    """All around the providers of one process: ours, and those that its operator registered.

    From the outside in: timeout, fallback, measure, defaults, history, adoption, compaction,
    repair, thread_lost, the operator's in his order, the gates, budget, uploading, lending, hold,
    noted, the provider. Around each of the operator's, and around the provider, stands a guard.
    Fallback and noted, adoption and lending, compaction and repair are left out where a turn has no
    use for them.
    """

    def __init__(
        self,
        *,
        find: Callable[[str], Provider],
        read_history: ReadHistory,
        shortening: Shortening,
        mark_sent: Callable[[Claim], Awaitable[bool]],
        mark_target: Callable[[Claim], Awaitable[bool]],
        paused: Paused,
        turn_timeout: timedelta,
        max_reply_bytes: int,
        theirs: Sequence[Named] = (),
        measure: Layer | None = None,
        threads: ThreadStore | None = None,
        files: Files | None = None,
        uploads: UploadLedger | None = None,
        gates: Sequence[Layer] = (),
        defaults: Layer | None = None,
        budgeting: Budgeting | None = None,
    ) -> None:
        """`gates` see each request as it is sent, and put off what may not be sent now."""
        given = [one for one in (measure, defaults) if one is not None]
        self._theirs = theirs
        self._outermost = timeout(turn_timeout)
        self._falling_back = fallback(find, paused)
        self._reading = (*given, history(read_history, is_seen_once=self.is_seen_once))
        self._mending = (compaction(shortening), repair(read_history))
        self._outer = thread_lost(read_history)
        self._known = frozenset(one.name for one in theirs)
        self._max_bytes = max_reply_bytes
        self._provider = guarded_provider(asking(find), max_bytes=max_reply_bytes)
        self._hold, self._noted = hold(mark_sent), noted(mark_target)
        self._gates = (*gates, *(() if budgeting is None else (budget(budgeting),)))
        self._uploading = () if files is None else (uploading(find, files, uploads),)
        self._adoption = () if threads is None else (adoption(find, threads),)
        self._lending = None if threads is None else lending(find, threads)
        self._usual = self._put_together(_Choice())
        self._chosen: dict[_Choice, Go] = {}

    def of(self, claim: Claim) -> Go:
        """Return the chain for a turn, with the layers that its session's settings name.

        Raises Rejected for names that are not registered here: nothing is ever imported for them.
        """
        chosen, mends = claim.settings.get("layers"), _is_to_be_mended(claim)
        threads = claim.settings.get(THREAD) == AS_CONVERSATION or claim.adopted is not None
        falls_back = has_targets(claim)
        if not (chosen or mends or threads or falls_back):
            return self._usual
        names = _names(chosen) if chosen else frozenset()
        choice = _Choice(names, mends, threads, falls_back)
        found = self._chosen.get(choice)
        if found is None:
            self._refuse_unknown(choice.layers)
            if len(self._chosen) >= _MOST_CHOICES:
                self._chosen.clear()
            found = self._chosen[choice] = self._put_together(choice)
        return found

    def is_seen_once(self, claim: Claim) -> bool:
        """Tell whether nobody around the provider looks at a history once it was sent."""
        return not self._theirs and not (has_targets(claim) or _is_to_be_mended(claim))

    def _refuse_unknown(self, names: frozenset[str]) -> None:
        if unknown := sorted(names - self._known):
            raise Rejected(
                "unknown_layer",
                detail=f"no layer is named {unknown[0]!r} in this worker",
                hint="name it in TURNMILL_LAYERS of every worker, or update the session's settings,"
                " then `turnmill turns retry`",
            )

    def _innermost(self, choice: _Choice) -> Go:
        """Return what stands right around the provider. No thread is begun before a gate."""
        noted_ = (self._noted,) if choice.falls_back else ()
        lent = () if self._lending is None or not choice.threads else (self._lending,)
        go = self._provider
        for layer in reversed((*self._gates, *self._uploading, *lent, self._hold, *noted_)):
            go = around(layer, go)
        return go

    def _put_together(self, choice: _Choice) -> Go:
        go = self._innermost(choice)
        for one in reversed(self._theirs):
            if not one.opt_in or one.name in choice.layers:
                go = guarded_layer(one.layer, go, max_bytes=self._max_bytes)
        falling_back = (self._falling_back,) if choice.falls_back else ()
        adopting = self._adoption if choice.threads else ()
        mending = self._mending if choice.mends else ()
        ours = (self._outermost, *falling_back, *self._reading, *adopting, *mending, self._outer)
        for layer in reversed(ours):
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

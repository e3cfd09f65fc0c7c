"""The assembly: the one place where what running turns needs is put together.

A worker, a child in quarantine and the runner inside an application differ in what they announce
and whom; what stands around a provider's call, and how long it may take, is the same for all.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from turnmill.settings import Settings
from turnmill.store.records import Head
from turnmill_worker.layers.call import Layer
from turnmill_worker.layers.registered import registered
from turnmill_worker.providers.port import Provider
from turnmill_worker.providers.pricing import price
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.ledger import Ledger
from turnmill_worker.turn.observers import Observer
from turnmill_worker.turn.run import Deps
from turnmill_worker.turn.slots import Slots


def assemble(
    settings: Settings,
    *,
    ledger: Ledger,
    in_hand: InHand,
    slots: Slots,
    provider: Callable[[str], Provider],
    announce: Callable[[Head], None],
    announce_at: Callable[[Head, datetime], None],
    accepting: Callable[[], bool] = lambda: True,
    measure: Layer | None = None,
    observers: Sequence[Observer] = (),
) -> Deps:
    """Return what a process runs turns with. Raises InvalidSetting for unknown layers."""
    return Deps(
        ledger=ledger,
        in_hand=in_hand,
        slots=slots,
        provider=provider,
        announce=announce,
        announce_at=announce_at,
        price=price,
        accepting=accepting,
        layers=registered(settings.layers),
        measure=measure,
        observers=observers,
        turn_timeout=settings.turn_timeout,
        max_reply_bytes=settings.max_reply_bytes,
        background_timeout=settings.background_timeout,
    )

"""Works: what a process sees to batches with, as its environment says."""

import os
import socket
from collections.abc import Callable

from turnmill.settings import Settings, batch_poll
from turnmill.store.database import Database
from turnmill_worker.layers.defaults import parameters_in
from turnmill_worker.native.pace import Pace
from turnmill_worker.native.polling import Polling
from turnmill_worker.native.saying import Saying
from turnmill_worker.native.taking import Prices
from turnmill_worker.providers.own_prices import Prices as Listed
from turnmill_worker.providers.own_prices import prices_in
from turnmill_worker.providers.port import Provider


def polling_of(
    database: Database, provider: Callable[[str], Provider], settings: Settings
) -> Polling:
    """Return what sees to batches in this process. Raises ConfigurationError."""
    listed = prices_in(settings.prices, Listed())
    saying = Saying(
        provider,
        layered=bool(settings.layers),
        parameters=parameters_in(settings.defaults),
    )
    return Polling(
        database,
        provider,
        Prices(price=listed.price, source=listed.source),
        owner=f"batches@{socket.gethostname()}:{os.getpid()}"[:200],
        pace=Pace.of(batch_poll()),
        tags=settings.tags,
        saying=saying,
    )

"""What finds work for a process: the dispatcher, the feeder of the queues, and the poller."""

import asyncio
from dataclasses import replace

from turnmill.broker.publisher import Publisher
from turnmill.crypto.data_keys import DataKeys
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill_worker.process.cancelling import Cancelling
from turnmill_worker.process.dispatcher import Dispatcher, Reactions
from turnmill_worker.process.feeder import Feeder
from turnmill_worker.process.poller import Hints, Poller
from turnmill_worker.process.quarantine import Quarantine
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.ledger import GroupedLedger


class Dispatching:
    """The three of them, started and stopped together."""

    def __init__(
        self,
        settings: Settings,
        hints: Hints,
        deps: Deps,
        *,
        keys: DataKeys | None,
        ledger: GroupedLedger,
        quarantine: Quarantine,
        cancelling: Cancelling,
        reactions: Reactions,
    ) -> None:
        """To what the dispatcher hears, `reactions` are those of others than these three."""
        # One connection for the dispatcher, one for the feeder.
        self._database = Database(
            settings.database_url,
            schema=settings.schema,
            pool_size=2,
            overflow=0,
            listen_url=settings.listen_url,
            keys=keys,
        )
        self._poller = Poller(deps, ledger, hints, quarantine=quarantine.run)
        self._feeder = Feeder(
            self._database,
            Publisher(settings.broker_url, hints_max=settings.hints_max),
            slots=deps.slots.total,
            bulk_places=deps.slots.bulk_places,
            on_long_queue=ledger.crowds.note_queue,
        )
        ours = replace(
            reactions,
            on_cancel=cancelling.told,
            on_deaf=cancelling.look_at_all,
            listen=self._poller.listen,
            on_due=self._poller.wake,
        )
        self._dispatcher = Dispatcher(
            self._database, lease=settings.lease, tell=self._feeder.tell, reactions=ours
        )
        self._polling: asyncio.Task[None] | None = None

    @property
    def looked_at(self) -> float | None:
        """When the database last said what is due; None: not yet."""
        return self._dispatcher.looked_at

    @property
    def obstacle(self) -> str:
        """Why it did not say so when it was asked last, in a word; empty where nobody knows."""
        return self._dispatcher.obstacle

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start, on the loop's thread."""
        self._polling = loop.create_task(self._poller.run())
        self._feeder.start()
        self._dispatcher.start()

    def resize(self, slots: int) -> None:
        """Have as much told as keeps so many slots busy."""
        self._feeder.resize(slots)

    def drain(self) -> None:
        """Have nothing told any more. Lost leases are still looked for."""
        self._dispatcher.drain()
        self._feeder.drain()

    def stop_polling(self) -> None:
        """Take nothing any more, on the loop's thread."""
        if self._polling is not None:
            self._polling.cancel()

    def stop(self) -> None:
        """End the threads."""
        self._dispatcher.stop()
        self._feeder.stop()
        self._database.close()

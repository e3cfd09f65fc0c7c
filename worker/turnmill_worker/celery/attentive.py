"""Flower's ears: open before it counts as ready, and each worker that comes is asked at once."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import flower.events
from celery.events import EventReceiver

from turnmill_worker.celery import readiness

#: Flower counts as ready when its broker is away for longer than this: its pages are there.
_CONNECTED_WITHIN = timedelta(seconds=3)
#: Workers that have come and are yet to be asked about themselves.
_MOST_NEW = 1000


class AttentiveReceiver(EventReceiver):
    """Has workers send events as soon as it hears them.

    Flower by itself asks for them five seconds after its start, and every five seconds again: what
    a worker did that was started in between, nobody would see. It asks workers about themselves
    when it starts, and never those who come later; here, `look` is called with their names.
    """

    def __init__(self, look: Callable[[str], object], *args: Any, **options: Any) -> None:
        readiness.tell_within(_CONNECTED_WITHIN)
        self._look = look
        self._new: set[str] = set()
        super().__init__(*args, **options)

    def on_consume_ready(
        self, connection: Any, channel: Any, consumers: Any, wakeup: bool = True, **options: Any
    ) -> None:
        """Ask all workers for events; from here on nothing that they say is missed."""
        super().on_consume_ready(connection, channel, consumers, wakeup=wakeup, **options)
        self.app.control.enable_events(connection=self.connection, channel=channel)
        readiness.tell()

    def process(self, type: str, event: Mapping[str, Any]) -> None:  # noqa: A002  Celery's name
        """Ask a worker that has just come.

        Again at its first heartbeat: when a worker says that it is there, it does not yet listen.
        """
        super().process(type, event)
        name = str(event.get("hostname"))
        if type == "worker-online" and len(self._new) < _MOST_NEW:
            self._new.add(name)
            self._ask(name)
        elif type == "worker-heartbeat" and name in self._new:
            self._new.discard(name)
            self._ask(name)

    def _ask(self, name: str) -> None:
        to = {"connection": self.connection, "channel": self.channel}
        self.app.control.enable_events(destination=[name], **to)
        self._look(name)


def listen_at_once(program: Any) -> None:
    """Let this Flower hear with these ears, once it starts to listen."""

    def look(name: str) -> None:
        program.io_loop.add_callback(program.update_workers, name)

    flower.events.EventReceiver = partial(AttentiveReceiver, look)

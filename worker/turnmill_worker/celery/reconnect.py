"""Celery's messaging where it would wait for a broker longer than a worker can afford to."""

from typing import Any

from celery.app.amqp import AMQP
from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher
from kombu.connection import Connection

from turnmill.connections.shown import shown


class PromptConnection(Connection):
    """Tries again after 0.8 seconds. Kombu's waits two seconds longer each time, up to thirty."""

    def _ensure_connection(  # type: ignore[override]
        self,
        errback: Any = None,
        max_retries: int | None = None,
        interval_start: float = 0.8,
        interval_step: float = 0,
        interval_max: float = 0.8,
        **options: Any,
    ) -> Any:
        return super()._ensure_connection(
            errback, max_retries, interval_start, interval_step, interval_max, **options
        )

    def info(self) -> dict[str, Any]:
        """Return what workers tell of it to whoever asks, and Flower shows.

        Celery leaves the password out, and nothing of the others: of alternates, of Sentinels, of
        a socket's URL.
        """
        found: dict[str, Any] = super().info()
        if "://" in (found["hostname"] or ""):
            found["hostname"] = shown(found["hostname"])
        found["alternates"] = [shown(url) for url in found["alternates"]]
        options = found["transport_options"] or {}
        found["transport_options"] = {
            name: value for name, value in options.items() if name != "sentinel_kwargs"
        }
        return found


class PromptAMQP(AMQP):
    """Celery's messages, over such connections."""

    Connection = PromptConnection


class PromptDispatcher(EventDispatcher):
    """Tries once. Celery's holds the main thread, deaf to signals, until a heartbeat is sent."""

    def _publish(self, *args: Any, **options: Any) -> Any:
        return super()._publish(*args, **options | {"retry": False})


class PromptEvents(Events):
    """Celery's events, by such a dispatcher."""

    dispatcher_cls = f"{__name__}:PromptDispatcher"

"""Connections to the broker that are tried again every second, for as long as it takes."""

from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection


class PromptConnection(Connection):
    """Kombu's, which would wait two seconds longer each time, up to thirty."""

    def _ensure_connection(  # type: ignore[override]
        self,
        errback: Any = None,
        max_retries: int | None = None,
        interval_start: float = 1,
        interval_step: float = 0,
        interval_max: float = 1,
        **options: Any,
    ) -> Any:
        return super()._ensure_connection(
            errback, max_retries, interval_start, interval_step, interval_max, **options
        )


class PromptAMQP(AMQP):
    """Celery's messaging over such connections: `Celery(amqp=PromptAMQP)`."""

    Connection = PromptConnection

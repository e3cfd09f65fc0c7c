"""Turnmill's worker: what operators run, and `install` for those who have a Celery app already."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery

    from turnmill.settings import Settings

__all__ = ["install"]


def install(app: "Celery", settings: "Settings | None" = None) -> None:
    """Put tasks, queues, schedule and pool into a Celery app, whose own tasks stay as they were.

    Call it once, beside the app, wherever workers, beat and Flower find that. Settings are read
    from TURNMILL_* unless given; without a broker URL among them, the app's own is used.
    See docs/applications.md.
    """
    from turnmill_worker.celery import installing  # noqa: PLC0415  importing us stays light

    installing.install(app, settings)

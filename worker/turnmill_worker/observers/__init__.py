"""Observers, told of every event in the order of its session; here what others write one with.

An observer is a function of one `Event`, plain or `async def`. docs/events.md has a whole example.
"""

from turnmill.store.nouns.events import Event as Event
from turnmill_worker.observers.celery_task import CeleryTask as CeleryTask
from turnmill_worker.observers.port import Observer as Observer

"""Stores in memory, as an application without servers has them."""

from turnmill.store.database import Database
from turnmill.store.schema.revision import create_all


def in_memory() -> Database:
    """Return a new one that has its tables; whoever asks for it closes it."""
    store = Database("sqlite://")
    with store.begin() as conn:
        create_all(conn)
    return store

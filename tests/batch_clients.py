"""`client.batches` over a store that is there already, and told of what is due by a function."""

from collections.abc import Callable, Sequence

from turnmill.executor.thread import Executor
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.records import Head
from turnmill.streams.copies import NoCopies
from turnmill.sync.batches import Batches


class Told:
    """Passes hints to a function."""

    def __init__(self, publish: Callable[[Sequence[Head]], object]) -> None:
        self._publish = publish

    def announce(self, heads: Sequence[Head]) -> int:
        self._publish(heads)
        return len(heads)

    def close(self) -> None:
        pass


def batches_of(
    store: Database,
    publish: Callable[[Sequence[Head]], object] = lambda _: None,
    *,
    max_text_bytes: int = 1_000_000,
    settings: Settings | None = None,
) -> Batches:
    """Return what a client of this store would have."""
    settings = settings or Settings(max_text_bytes=max_text_bytes)
    return Batches(Executor(store, Told(publish), NoCopies(), settings))

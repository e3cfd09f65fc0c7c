"""The rows of a shard, as whoever sees to it reads and writes them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from turnmill.store.database import Database
from turnmill.store.nouns import shards as rows
from turnmill.store.nouns.batch_pauses import pause
from turnmill.store.nouns.shards import Native, Shard


class Outrun(Exception):
    """Somebody else has the shard by now: nothing more is done."""


class ShardRows:
    """Each call is a transaction of its own. To be used beside the event loop."""

    def __init__(self, database: Database, *, lease: timedelta) -> None:
        self._database = database
        self._lease = lease

    def holds(self, shard: Shard) -> bool:
        """Keep the shard; False: somebody else has it by now."""
        with self._database.begin() as conn:
            return rows.holds(conn, shard, lease=self._lease)

    def write(self, shard: Shard, due_in: timedelta | None, values: dict[str, Any]) -> Shard | None:
        """Note how far it is; None: it is not ours."""
        with self._database.begin() as conn:
            return rows.note(conn, shard, due_in=due_in, **values)

    def let_wait(self, shard: Shard, due_in: timedelta) -> bool:
        """Leave one of a paused batch until then, and hold nothing for it; False: not ours."""
        with self._database.begin() as conn:
            return rows.let_wait(conn, shard, due_in=due_in)

    def dissolve(self, shard: Shard, code: str | None) -> bool:
        """Park its turns again; False: it is not ours."""
        with self._database.begin() as conn:
            return rows.dissolve(conn, shard, error_code=code)

    def discard(self, shard: Shard) -> None:
        """Remove one that nothing is left in, unless it is somebody else's by now."""
        with self._database.begin() as conn:
            rows.discard(conn, shard)

    def run_alone(self, shard: Shard) -> None:
        """Let its batch run call by call."""
        with self._database.begin() as conn:
            rows.run_alone(conn, shard.batch_id, because=f"{shard.provider} takes no batches here")

    def pause(self, shard: Shard, code: str) -> None:
        """Let its batch stop, because of this."""
        with self._database.begin() as conn:
            pause(conn, shard.batch_id, code)

    def batch(self, shard: Shard) -> Native:
        """Return its batch. Raises Outrun."""
        with self._database.single() as conn:
            batch = rows.native(conn, shard.batch_id)
        if batch is None:
            raise Outrun  # it went, and its shards with it
        return batch

    def known(self, refs: Sequence[str]) -> set[str]:
        """Return which of these batches of a vendor are of a shard."""
        with self._database.single() as conn:
            return rows.known_refs(conn, refs)

    def holds_any(self, shard: Shard, ids: Sequence[str]) -> bool:
        """Tell whether one of these is a line of it."""
        with self._database.single() as conn:
            return rows.holds_any(conn, shard, ids)

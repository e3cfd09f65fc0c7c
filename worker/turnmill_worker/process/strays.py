"""Copies of attachments at vendors that no row knows: found by listing, and deleted there.

An upload is noted before it is made, so there are none while the rows stand. They come from rows
that are gone: an older state of the database was put back, or somebody has removed them by hand.
Only what bears the mark of this store is looked at: an account may be that of several.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from turnmill.domain.errors import ProviderError, Rejected
from turnmill.domain.uploads import UPLOAD_WITHIN, begun_at
from turnmill.store.database import Database
from turnmill.store.line import uploads
from turnmill_worker.providers import boundary
from turnmill_worker.providers.calls import Call
from turnmill_worker.providers.installed import KEYS
from turnmill_worker.providers.port import ListsFiles, Provider

logger = logging.getLogger("turnmill.strays")

T = TypeVar("T")

#: Longer than an upload can take, with clocks that differ.
_SPARED_FOR = 12 * UPLOAD_WITHIN
#: What one run takes at one vendor; the next goes on.
_WITHIN = timedelta(minutes=2)
_MOST = 1000


class Strays:
    """Looks through the files of those vendors that a key is there for."""

    def __init__(self, database: Database, provider: Callable[[str], Provider]) -> None:
        self._database = database
        self._provider = provider

    async def run(self) -> Mapping[str, int]:
        """Delete what no row knows, and return how much that was."""
        mark = await asyncio.to_thread(self._ask, uploads.mark)
        deleted = Counter[str]()
        for name in KEYS if mark else ():
            provider = boundary.provided(self._provider, name)
            if isinstance(provider, ListsFiles):
                _tell(name, deleted, await self._swept(provider, name, mark, deleted))
        return {"copies_orphaned": deleted.total()}

    async def _swept(
        self, provider: ListsFiles, name: str, mark: str, deleted: Counter[str]
    ) -> ProviderError | None:
        """Sweep for a while, and return what stood in the way; what is left is there tomorrow."""
        sweep = Call(boundary.done(lambda: self._sweep(provider, name, mark, deleted)))
        try:
            return await sweep.within(_WITHIN)
        except TimeoutError:
            return None

    async def _sweep(
        self, provider: ListsFiles, name: str, mark: str, deleted: Counter[str]
    ) -> None:
        """Delete what bears the mark, is old enough, and is known to no row; page by page."""
        before = datetime.now(UTC) - _SPARED_FOR
        async with aclosing(provider.files_of(mark)) as pages:
            async for page in pages:
                old = {ref: ours for ref, ours in page.items() if _is_before(before, ours)}
                for ref in await asyncio.to_thread(self._ask, uploads.unknown_among, old):
                    if deleted[name] == _MOST:
                        return
                    await provider.close(ref)
                    deleted[name] += 1

    def _ask(self, step: Callable[..., T], *given: object) -> T:
        with self._database.single() as conn:
            return step(conn, *given)


def _is_before(moment: datetime, name: str) -> bool:
    begun = begun_at(name)
    return begun is not None and begun < moment


def _tell(name: str, deleted: Mapping[str, int], error: ProviderError | None) -> None:
    """Log what was found; a key that may not list files is nothing to be warned of every day."""
    if found := deleted.get(name):
        told = {"action": "strays_deleted", "provider": name, "count": found}
        logger.warning("%d copies at %s were known to no row: deleted", found, name, extra=told)
    if error is not None:
        level = logging.INFO if isinstance(error, Rejected) else logging.WARNING
        told = {"action": "strays_unseen", "provider": name, "error_code": error.error_code}
        code = error.error_code
        logger.log(level, "files at %s cannot be looked through: %s", name, code, extra=told)

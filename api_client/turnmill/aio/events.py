"""Events: what happened to turns, read in order."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta

from turnmill.domain.arguments import wait_seconds
from turnmill.domain.errors import SessionBusy, StoreUnavailable
from turnmill.domain.states import EventKind
from turnmill.executor.task import AsyncExecutor, async_pause
from turnmill.listening.watchlist import Deadline
from turnmill.store.nouns.events import Event, EventReader, Page
from turnmill.verbs import events
from turnmill.verbs.events import Wanted
from turnmill.verbs.refs import SessionRef

_POLL_SECONDS = 0.5
_AT_ONCE = 100


class AsyncEvents:
    """`client.events`: what happened to turns, by ids, and who reads it."""

    def __init__(self, executor: AsyncExecutor) -> None:
        self._executor = executor

    async def read(
        self,
        *,
        after: int | None = None,
        reader: str | None = None,
        session: SessionRef | None = None,
        kinds: Sequence[EventKind | str] = (),
        limit: int = 100,
    ) -> list[Event]:
        """Return up to `limit` events, those of a session in the order in which they happened.

        They begin after the `place` of the last one of the page before, after what a `reader` has
        passed, or with the oldest that is kept. Where events after that are gone, the first one is
        a `gap`, whatever is asked for. A session that was deleted is named by its id. Of `kinds`
        none stands for all. Raises InvalidInput, and SessionNotFound for the key of no session.
        """
        wanted = events.wanted(after=after, reader=reader, session=session, kinds=kinds)
        page = await self._executor.run(events.page(wanted, after=None, limit=limit))
        return page.events

    def follow(
        self,
        *,
        after: int | None = None,
        reader: str | None = None,
        session: SessionRef | None = None,
        kinds: Sequence[EventKind | str] = (),
        timeout: float | timedelta | None = None,
    ) -> AsyncIterator[Event]:
        """Yield events as `read` does, then those to come, within about a second of each.

        With a `reader`, it has passed an event when the next one is asked for: whoever breaks off
        before is given it again the next time. Ends when `timeout` (seconds or timedelta; None:
        never) is over and nothing is left. A database that goes away meanwhile is waited for.
        """
        wanted = events.wanted(after=after, reader=reader, session=session, kinds=kinds, moves=True)
        return self._follow(wanted, Deadline(wait_seconds(timeout)))

    async def passed(self, reader: str, event: Event) -> None:
        """Note that the reader is done with this event and all before it."""
        await self._executor.run(events.passed(reader, event))

    async def readers(self) -> list[EventReader]:
        """Return for whom events are kept, observers of workers too, and how far each is."""
        return await self._executor.run(events.readers())

    async def add_reader(self, reader: str) -> None:
        """Have events kept until this reader has passed them, beginning with the oldest there is.

        A second time changes nothing. One process at a time is to read for it: that is yours to
        see to.
        """
        await self._executor.run(events.add_reader(reader))

    async def park_reader(self, reader: str, *, parked: bool = True) -> bool:
        """Keep nothing for this reader alone any more, or again; what it misses will be a gap.

        An observer that is parked is not told. Returns False where it is so already.
        """
        return await self._executor.run(events.park_reader(reader, parked=parked))

    async def remove_reader(self, reader: str) -> None:
        """Forget the reader. An observer that a worker still has begins again, with the oldest."""
        await self._executor.run(events.remove_reader(reader))

    async def _follow(self, wanted: Wanted, deadline: Deadline) -> AsyncIterator[Event]:
        page = await self._executor.run(events.page(wanted, after=None, limit=_AT_ONCE))
        while True:
            for event in page.events:
                yield event
                await self._pass(wanted, event)
            await self._pass(wanted, page.upto)
            if not page.events:
                if deadline.passed:
                    return
                await async_pause(min(_POLL_SECONDS, deadline.left))
            page = Page(events=[], upto=page.upto)
            with suppress(StoreUnavailable, SessionBusy):
                verb = events.page(wanted, after=page.upto, limit=_AT_ONCE)
                page = await self._executor.run(verb)

    async def _pass(self, wanted: Wanted, upto: Event | int) -> None:
        """Move the reader, if there is one; where the store is away, the next time does it too."""
        if wanted.reader is not None:
            with suppress(StoreUnavailable, SessionBusy):
                await self._executor.run(events.moved(wanted.reader, upto))

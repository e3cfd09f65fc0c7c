"""Doing verbs on an event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from turnmill.broker.announcing import Announcer, announcer_for
from turnmill.crypto.wanted import KeyWanted
from turnmill.domain.errors import InvalidInput, TurnmillError
from turnmill.domain.ids import TurnId
from turnmill.executor.staying import Staying
from turnmill.grouping import Grouped, Stopped
from turnmill.listening.task import AsyncWaiter
from turnmill.listening.watchlist import Deadline
from turnmill.settings import Reads, Settings
from turnmill.store.async_database import AsyncDatabase, ThreadedDatabase
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.records import Head
from turnmill.store.turn_records import Watched
from turnmill.store.vaults import attach_given, fetch
from turnmill.streams.carrying import copies_for
from turnmill.streams.copies import Copies, Copy, Nothing
from turnmill.verbs import turns
from turnmill.verbs.backpressure import Backpressure
from turnmill.verbs.intake import options_of, refuse_unknown_arguments
from turnmill.verbs.verb import Verb

if TYPE_CHECKING:
    from turnmill.domain.streaming import Place
    from turnmill.files.port import FileStore

P = ParamSpec("P")
T = TypeVar("T")


class AsyncExecutor(Staying):
    """A store, and whom to tell. What a client and all its handles share, on any event loop."""

    def __init__(
        self,
        database: AsyncDatabase | ThreadedDatabase,
        blocking: Database,
        announcer: Announcer,
        copies: Copies,
        settings: Settings,
    ) -> None:
        """`blocking` is the same store, for those who write to it on threads of their own."""
        self.database = database
        self.announcer = announcer
        self.copies = copies
        self.settings = settings
        self.backpressure = Backpressure(settings)
        self.schema = blocking.schema
        self.audits_reads = settings.audit_reads is Reads.ALL
        #: Whoever writes has the whole store: do it in small steps.
        self.has_one_writer = not blocking.can(Capability.ROW_LOCKS)
        self.waiter = AsyncWaiter(database)
        #: The same store, for what takes its time on a thread.
        self.blocking = blocking
        # The broker's client blocks, and may block for a second: it has a thread of its own.
        self._hints: Grouped[Head, None] = Grouped("hints", self._publish, most=1000)
        self._looks: Grouped[TurnId, Watched] = Grouped("looks", self._look, most=1000)

    @classmethod
    def opened(cls, settings: Settings, *, database_url: str, broker_url: str) -> Self:
        """Make one for these URLs; raises UnsafeSetting for what production forbids."""
        chosen = replace(settings, database_url=database_url, broker_url=broker_url)
        chosen.check()
        keys = None
        if chosen.is_encrypted:
            from turnmill.store.encryption import keys_for  # noqa: PLC0415  not everybody does

            keys = keys_for(chosen)
        blocking = Database(database_url, schema=settings.schema, pool_size=1, keys=keys)
        listen_url = settings.listen_url if database_url == settings.database_url else ""
        database = (
            AsyncDatabase(
                database_url,
                schema=settings.schema,
                listen_url=listen_url,
                keys=keys,
            )
            if blocking.can(Capability.SHARED)
            else ThreadedDatabase(blocking)
        )
        copies = copies_for(blocking, chosen)
        announcer = announcer_for(blocking, broker_url, settings, copies)
        return cls(database, blocking, announcer, copies, settings)

    async def run(self, verb: Verb[T]) -> T:
        """Do it, on the kind of connection that it asks for, and tell a worker what is due."""
        if verb.shows is not None and self.audits_reads:
            verb = self._noting(verb)
        if verb.does is not None and (self.settings.by_hand or verb.does.of_anybody):
            verb = self._writing_down(verb)
        run = self.database.run if verb.atomic else self.database.run_single
        effect = await run(verb.on)
        if effect.heads:
            await self._tell(effect.heads)
        return effect.result

    def _noting(self, verb: Verb[T]) -> Verb[T]:
        from turnmill.verbs.auditing import noted  # noqa: PLC0415  few have reads written down

        return noted(verb, self.settings)

    def _writing_down(self, verb: Verb[T]) -> Verb[T]:
        from turnmill.actor import actor_of  # noqa: PLC0415  seldom done
        from turnmill.verbs.auditing import written_down  # noqa: PLC0415

        return written_down(verb, actor=actor_of(self.settings))

    async def look_out(self) -> None:
        """Let something become due by itself later: in a store of this process alone, here."""
        if self.has_one_writer:
            self.announcer.announce(())

    async def run_joined(self, connection: object, on: Callable[[Any], T]) -> T:
        """Do it on a connection of the caller's, who commits, or does not."""
        within: Any = connection  # both kinds have the verb, each gives what it wraps
        if not callable(getattr(within, "run_sync", None)):
            raise InvalidInput(
                "connection must be an AsyncConnection or AsyncSession",
                hint="async with engine.begin() as connection: …",
            )
        keys = self.blocking.keys

        def joined(conn: Any) -> T:
            attach_given(conn, keys)
            return on(conn)

        while True:
            try:
                found: T = await within.run_sync(joined)
            except KeyWanted as wanted:
                await asyncio.to_thread(fetch, keys, wanted)
            else:
                return found

    def run_at_once(self, verb: Verb[T]) -> T:
        """Raise InvalidInput: a property cannot wait for the store."""
        raise InvalidInput("the turn has not been looked at", hint="await turn.refresh()")

    def expecting(
        self, turn_id: TurnId, deadline: Deadline
    ) -> AbstractAsyncContextManager[asyncio.Event]:
        """Give an event that is set whenever the turn may have ended. See `Waiter.expecting`."""
        return self.waiter.expecting(turn_id, deadline)

    async def watched(self, turn_id: TurnId) -> Watched:
        """Read what whoever watches the turn has to know of it; raises TurnNotFound.

        Thousands who look at once are told by one statement.
        """
        return await self._looks.submit(turn_id)

    @asynccontextmanager
    async def watching(
        self, turn_id: TurnId, behind: "Place | None", deadline: Deadline
    ) -> AsyncIterator[tuple[asyncio.Event, Copy]]:
        """Give the turn's stream behind a place, and an event that is set when there is more of it.

        It is set, too, when the turn may have ended. Behind None is nothing.
        """
        async with self.waiter.expecting(turn_id, deadline) as woken:
            if behind is None:
                yield woken, Nothing()
                return
            wake = partial(_wake, asyncio.get_running_loop(), woken)
            with self.copies.watching(turn_id, behind, wake) as copy:
                yield woken, copy

    @cached_property
    def files(self) -> "FileStore":
        """Where attachments lie; raises InvalidSetting, or MissingExtra."""
        from turnmill.files.opened import file_store  # noqa: PLC0415  few send any

        lasting = self.blocking.can(Capability.LASTING)
        return file_store(self.settings, beside=self.blocking, lasting=lasting)

    async def close(self) -> None:
        """Stop waiting and give all connections back."""
        await self.waiter.close()
        await asyncio.to_thread(self.copies.close)
        await asyncio.to_thread(self._hints.stop)
        await asyncio.to_thread(self._looks.stop)
        await asyncio.to_thread(self.announcer.close)
        await self.database.close()
        self.blocking.close()

    async def _tell(self, heads: Sequence[Head]) -> None:
        with suppress(Stopped):  # the messages stand, and a dispatcher finds them
            await asyncio.gather(*(self._hints.submit(head) for head in heads))

    def _look(self, turn_ids: Sequence[TurnId]) -> list[Watched | TurnmillError]:
        return self.blocking.run_single(turns.watched(turn_ids).on).result

    def _publish(self, heads: Sequence[Head]) -> list[None]:
        self.announcer.announce(heads)
        return [None] * len(heads)


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
        loop.call_soon_threadsafe(event.set)


def async_knowing(
    verb: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let the verb refuse an option that it does not have as any other bad input."""
    known = options_of(verb)

    @wraps(verb)
    async def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        if not known.issuperset(kwargs):
            refuse_unknown_arguments(kwargs, known=known, verb=verb.__name__)
        return await verb(*args, **kwargs)

    return checked


async def async_aside(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do what takes its time, on a thread."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def async_pause(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)

"""Doing verbs on the caller's thread."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property, wraps
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from turnmill.broker.announcing import Announcer, announcer_for
from turnmill.crypto.wanted import KeyWanted
from turnmill.domain.errors import TurnmillError
from turnmill.domain.ids import TurnId
from turnmill.executor.staying import Staying
from turnmill.listening.thread import Waiter
from turnmill.listening.watchlist import Deadline
from turnmill.settings import Reads, Settings
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
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
C = TypeVar("C")


class Executor(Staying):
    """A store, and whom to tell. What a client and all its handles share; thread-safe."""

    def __init__(
        self, database: Database, announcer: Announcer, copies: Copies, settings: Settings
    ) -> None:
        self.database = self.blocking = database
        self.copies = copies
        self.announcer = announcer
        self.settings = settings
        self.backpressure = Backpressure(settings)
        self.schema = database.schema
        self.audits_reads = settings.audit_reads is Reads.ALL
        #: Whoever writes has the whole store: do it in small steps.
        self.has_one_writer = not database.can(Capability.ROW_LOCKS)
        self.waiter = Waiter(database)

    @classmethod
    def opened(cls, settings: Settings, *, database_url: str, broker_url: str) -> Self:
        """Make one for these URLs; raises UnsafeSetting for what production forbids."""
        chosen = replace(settings, database_url=database_url, broker_url=broker_url)
        chosen.check()
        listen_url = settings.listen_url if database_url == settings.database_url else ""
        keys = None
        if chosen.is_encrypted:
            from turnmill.store.encryption import keys_for  # noqa: PLC0415  not everybody does

            keys = keys_for(chosen)
        database = Database(database_url, schema=settings.schema, listen_url=listen_url, keys=keys)
        copies = copies_for(database, chosen)
        announcer = announcer_for(database, broker_url, settings, copies)
        return cls(database, announcer, copies, settings)

    def run(self, verb: Verb[T]) -> T:
        """Do it, on the kind of connection that it asks for, and tell a worker what is due."""
        if verb.shows is not None and self.audits_reads:
            verb = self._noting(verb)
        if verb.does is not None and (self.settings.by_hand or verb.does.of_anybody):
            verb = self._writing_down(verb)
        run = self.database.run if verb.atomic else self.database.run_single
        effect = run(verb.on)
        if effect.heads:
            self.announcer.announce(effect.heads)
        return effect.result

    def _noting(self, verb: Verb[T]) -> Verb[T]:
        from turnmill.verbs.auditing import noted  # noqa: PLC0415  few have reads written down

        return noted(verb, self.settings)

    def _writing_down(self, verb: Verb[T]) -> Verb[T]:
        from turnmill.actor import actor_of  # noqa: PLC0415  seldom done
        from turnmill.verbs.auditing import written_down  # noqa: PLC0415

        return written_down(verb, actor=actor_of(self.settings))

    def look_out(self) -> None:
        """Let something become due by itself later: in a store of this process alone, here."""
        if self.has_one_writer:
            self.announcer.announce(())

    def run_joined(self, connection: C, on: Callable[[C], T]) -> T:
        """Do it on a connection of the caller's, who commits, or does not.

        A data key that is needed is fetched while the caller's transaction waits.
        """
        attach_given(connection, self.database.keys)
        while True:
            try:
                return on(connection)
            except KeyWanted as wanted:
                fetch(self.database.keys, wanted)

    def run_at_once(self, verb: Verb[T]) -> T:
        """Do it for a property."""
        return self.run(verb)

    def expecting(
        self, turn_id: TurnId, deadline: Deadline
    ) -> AbstractContextManager[threading.Event]:
        """Give an event that is set whenever the turn may have ended. See `Waiter.expecting`."""
        return self.waiter.expecting(turn_id, deadline)

    def watched(self, turn_id: TurnId) -> Watched:
        """Read what whoever watches the turn has to know of it; raises TurnNotFound."""
        (found,) = self.run(turns.watched([turn_id]))
        if isinstance(found, TurnmillError):
            raise found
        return found

    @contextmanager
    def watching(
        self, turn_id: TurnId, behind: "Place | None", deadline: Deadline
    ) -> Iterator[tuple[threading.Event, Copy]]:
        """Give the turn's stream behind a place, and an event that is set when there is more of it.

        It is set, too, when the turn may have ended. Behind None is nothing.
        """
        with self.waiter.expecting(turn_id, deadline) as woken:
            if behind is None:
                yield woken, Nothing()
                return
            with self.copies.watching(turn_id, behind, woken.set) as copy:
                yield woken, copy

    @cached_property
    def files(self) -> "FileStore":
        """Where attachments lie; raises InvalidSetting, or MissingExtra."""
        from turnmill.files.opened import file_store  # noqa: PLC0415  few send any

        lasting = self.database.can(Capability.LASTING)
        return file_store(self.settings, beside=self.database, lasting=lasting)

    def close(self) -> None:
        """Stop waiting and give all connections back."""
        self.waiter.close()
        self.copies.close()
        self.announcer.close()
        self.database.close()


def knowing(verb: Callable[P, T]) -> Callable[P, T]:
    """Let the verb refuse an option that it does not have as any other bad input."""
    known = options_of(verb)

    @wraps(verb)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        if not known.issuperset(kwargs):
            refuse_unknown_arguments(kwargs, known=known, verb=verb.__name__)
        return verb(*args, **kwargs)

    return checked


def aside(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do what takes its time."""
    return function(*args, **kwargs)


def pause(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)

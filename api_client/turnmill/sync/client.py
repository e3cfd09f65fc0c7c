"""The client: what an application calls. It writes to the store, tells a worker, and goes on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack
from uuid import UUID

from sqlalchemy import Connection

from turnmill.broker.announcing import Announcer, announcer_for
from turnmill.domain.arguments import one_of, wait_seconds
from turnmill.domain.content import Said
from turnmill.domain.errors import InvalidInput, SessionBusy, StoreUnavailable, TurnTimeout
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, SessionStatus, TurnState
from turnmill.listening.thread import Waiter
from turnmill.listening.watchlist import Deadline
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.kept import Keeping, kept_of
from turnmill.store.line.accept import accept
from turnmill.store.nouns import sessions as session_rows
from turnmill.store.nouns import turns as turn_rows
from turnmill.store.records import (
    Accepted,
    AttemptRecord,
    MessageRecord,
    SessionRecord,
    TurnRecord,
)
from turnmill.verbs import intake
from turnmill.verbs.backpressure import Backpressure
from turnmill.verbs.options import MessageOptions, SendOptions, SessionOptions, SessionRules
from turnmill.verbs.refs import SessionRef, accept_items, accept_joined, head_of, session_id
from turnmill.verbs.reply import Reply, read_reply

if TYPE_CHECKING:
    from sqlalchemy.orm import Session as OrmSession

    from turnmill.verbs.analytics import Analytics
    from turnmill.verbs.batches import Batches
    from turnmill.verbs.lanes import Lanes


class Client:
    """Sends messages and reads what became of them. Thread-safe; close it, or use it in `with`."""

    def __init__(
        self, *, database_url: str = "", broker_url: str = "", settings: Settings | None = None
    ) -> None:
        """Connect to nothing yet. Raises InvalidSetting for a URL that cannot be understood.

        Without a broker nobody is told at once: workers find the message within about a second.
        A sqlite: URL runs turns inside this process.
        """
        self.settings = settings or Settings()
        self._database = Database(
            database_url or self.settings.database_url, schema=self.settings.schema
        )
        self._announcer: Announcer = announcer_for(
            self._database, broker_url or self.settings.broker_url, self.settings
        )
        self._backpressure = Backpressure(self.settings)
        self._waiter = Waiter(self._database)
        self.sessions = Sessions(self)
        self.turns = Turns(self)

    @classmethod
    def from_env(cls) -> Self:
        """Read TURNMILL_DATABASE_URL, TURNMILL_BROKER_URL and the other TURNMILL_* variables."""
        return cls(settings=Settings.from_env())

    def send(
        self,
        session: SessionRef,
        text: Said,
        *,
        connection: "Connection | OrmSession | None" = None,
        **options: Unpack[SendOptions],
    ) -> "Turn":
        """Accept a message and return at once; the reply is written when a worker got it.

        The message counts as accepted when it stands in the store. A broker that is down only
        delays it: the dispatcher publishes it later. With `idempotency_key`, sending again
        returns the turn that exists. With `connection` (a SQLAlchemy Connection or ORM Session),
        the message belongs to the caller's transaction, and is sent when the caller commits.

        Raises InvalidInput, SessionNotFound, SessionArchived, IdempotencyConflict, QueueFull or
        StoreError; after an error nothing was written.
        """
        new = intake.new_turn(text, max_text_bytes=self.settings.max_text_bytes, **options)
        if connection is not None:
            schema = self._database.schema
            return Turn(self, accept_joined(connection, session, new, schema))
        scope = self._database.single if new.idempotency_key is None else self._database.begin
        with scope() as conn:
            target = session_id(conn, session)
            self._backpressure.take(conn, target)
            accepted = accept(conn, target, new)
        self._announce(accepted, lane=new.lane)
        return Turn(self, accepted)

    def send_many(
        self,
        messages: Iterable[tuple[SessionRef, Said]],
        *,
        lane: str = Lane.BULK,
        **options: Unpack[MessageOptions],
    ) -> list["Turn"]:
        """Accept up to 100,000 messages in one transaction: all, or none after an error."""
        refs, texts = intake.pairs(messages)
        limit = self.settings.max_text_bytes
        new = intake.new_turns(texts, max_text_bytes=limit, lane=lane, **options)
        with self._database.begin() as conn:
            accepted = accept_items(
                conn, refs, new, self._backpressure, keyed="idempotency_key" in options
            )
        self._announcer.announce([head_of(one, Lane(lane)) for one in accepted if one.announce])
        return [Turn(self, one) for one in accepted]

    @cached_property
    def batches(self) -> "Batches":
        """Jobs of many turns, from a file and back into one."""
        from turnmill.verbs.batches import Batches  # noqa: PLC0415

        return Batches(
            self._database,
            self._announcer.announce,
            max_text_bytes=self.settings.max_text_bytes,
        )

    @cached_property
    def analytics(self) -> "Analytics":
        """What all the turns came to, by day, provider and model."""
        from turnmill.verbs.analytics import Analytics  # noqa: PLC0415

        return Analytics(self._database)

    @cached_property
    def lanes(self) -> "Lanes":
        """What waits and runs in each lane; lanes and providers can be paused."""
        from turnmill.verbs.lanes import Lanes  # noqa: PLC0415

        return Lanes(self._database)

    def close(self) -> None:
        """Stop waiting and give all connections back."""
        self._waiter.close()
        self._announcer.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _announce(self, accepted: Accepted, *, lane: Lane) -> None:
        if accepted.announce:
            self._announcer.announce([head_of(accepted, lane)])


class Turn:
    """One message on its way to a reply. `state` is as last seen: `refresh` looks again."""

    def __init__(self, client: Client, accepted: Accepted) -> None:
        self._client = client
        self.id: TurnId = accepted.turn_id
        self.session_id: SessionId = accepted.session_id
        self.created = accepted.created  #: False: the idempotency key already stood for it
        self._record: TurnRecord | None = None

    def __repr__(self) -> str:
        return f"Turn(id={str(self.id)!r})"

    @property
    def record(self) -> TurnRecord:
        """All columns of the turn, as last seen."""
        if self._record is None:
            self.refresh()
        assert self._record is not None
        return self._record

    @property
    def state(self) -> TurnState:
        """Where the turn stood when it was last looked at."""
        return self.record.state

    def refresh(self) -> Self:
        """Look at the turn now. Raises TurnNotFound when its session was deleted."""
        with self._client._database.single() as conn:
            self._record = turn_rows.get(conn, self.id)
        return self

    def result(self, timeout: float | timedelta | None = None) -> Reply:
        """Wait for the reply, at most `timeout` (seconds or timedelta; None: without end; 0: look).

        A database that goes away meanwhile is waited for too. Raises TurnTimeout, which leaves the
        turn running; TurnFailed, TurnDead, TurnCancelled or TurnExpired, each with `error_code`,
        when there is no reply.
        """
        deadline = Deadline(wait_seconds(timeout))
        with self._client._waiter.expecting(self.id, deadline) as woken:
            reply = self._read()
            while reply is None and not deadline.passed:
                woken.wait(deadline.left)
                woken.clear()
                with suppress(StoreUnavailable, SessionBusy):  # the next wake-up, or the deadline
                    reply = self._read()
        if reply is None:
            raise TurnTimeout(f"no reply to turn {self.id} after {deadline.seconds} s; it goes on")
        return reply

    def attempts(self) -> list[AttemptRecord]:
        """Return every try so far, the first one first."""
        with self._client._database.single() as conn:
            return turn_rows.attempts_of(conn, self.id)

    def messages(self) -> list[MessageRecord]:
        """Return what was said in this turn so far: the user's message first."""
        with self._client._database.single() as conn:
            return turn_rows.messages_of(conn, self.id)

    def cancel(self) -> TurnState:
        """Ask that the turn end without a reply; returns its state now.

        Where nothing runs that is `cancelled`. A running turn stays `running` until its worker
        has closed the call to the provider; what was used so far is kept. A final turn stays.
        """
        with self._client._database.begin() as conn:
            state, heads = turn_rows.cancel(conn, self.id)
        self._client._announcer.announce(heads)
        return state

    def retry(self) -> "Turn":
        """Run a failed or dead turn again: in place, or as a new turn at the session's end.

        In place while no later turn of the session has started. Raises MoveRefused otherwise.
        """
        with self._client._database.begin() as conn:
            accepted = turn_rows.retry(conn, self.id, new_id=TurnId(new_id()))
            lane = turn_rows.get(conn, accepted.turn_id).lane
        self._client._announce(accepted, lane=lane)
        return Turn(self._client, accepted)

    def release(self) -> None:
        """Send a turn that is held as ambiguous again; raises MoveRefused for any other."""
        with self._client._database.begin() as conn:
            heads = turn_rows.release_held(conn, self.id)
        self._client._announcer.announce(heads)

    def _read(self) -> Reply | None:
        with self._client._database.single() as conn:
            return read_reply(conn, self.id)


class Turns:
    """`client.turns`: turns by id and by filter."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, turn: TurnId | UUID | str) -> Turn:
        """Return the turn, or raise TurnNotFound."""
        with self._client._database.single() as conn:
            return self._handle(turn_rows.get(conn, intake.turn_id(turn)))

    def list(
        self,
        *,
        session: SessionRef | None = None,
        states: Sequence[TurnState | str] = (),
        error_code: str | None = None,
        after: TurnId | None = None,
        limit: int = 100,
    ) -> list[Turn]:
        """Return up to `limit` turns, newest first; `after` is the last id of the page before."""
        wanted = intake.states(states)
        code = intake.name_or_none(error_code, name="error_code")
        page = intake.listing(after=after, limit=limit)
        with self._client._database.single() as conn:
            found = turn_rows.find(
                conn,
                session_id=None if session is None else session_id(conn, session),
                states=wanted,
                error_code=code,
                **page,
            )
        return [self._handle(record) for record in found]

    def _handle(self, record: TurnRecord) -> Turn:
        accepted = Accepted(
            turn_id=record.id, session_id=record.session_id, created=False, announce=False
        )
        turn = Turn(self._client, accepted)
        turn._record = record
        return turn


class Sessions:
    """`client.sessions`: conversations of users."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._database = client._database

    def create(
        self,
        *,
        user_id: str,
        provider: str = "mock",
        model: str = "mock",
        key: str | None = None,
        **options: Unpack[SessionRules],
    ) -> SessionRecord:
        """Create a session, or get the one that `key` stands for.

        A provider that this process cannot see is accepted: the worker knows. Raises InvalidInput,
        Conflict when the key belongs to another user, SessionArchived.
        """
        new = intake.new_session(
            user_id=user_id,
            provider=provider,
            model=model,
            key=key,
            max_text_bytes=self._client.settings.max_text_bytes,
            **options,
        )
        with self._database.single() as conn:
            record = session_rows.create(conn, new)
        self._client._backpressure.note(record)
        return record

    def get(self, session: SessionRef) -> SessionRecord:
        """Return the session as it stands now, or raise SessionNotFound."""
        with self._database.single() as conn:
            return session_rows.get(conn, session_id(conn, session))

    def list(
        self,
        *,
        user_id: str | None = None,
        status: SessionStatus | str | None = None,
        after: SessionId | None = None,
        limit: int = 100,
    ) -> list[SessionRecord]:
        """Return up to `limit` sessions, newest first; `after` is the last id of a page."""
        wanted = None if status is None else one_of(SessionStatus, status, name="status")
        user = intake.name_or_none(user_id, name="user_id")
        page = intake.listing(after=after, limit=limit)
        with self._database.single() as conn:
            return session_rows.find(conn, user_id=user, status=wanted, **page)

    def kept(self, session: SessionRef) -> Keeping:
        """Return how many answers and threads of the session vendors keep, by ids of their own."""
        with self._database.single() as conn:
            return kept_of(conn, session_id(conn, session))

    def history(self, session: SessionRef) -> Iterator[MessageRecord]:
        """Yield all messages, ordered by turn, then position; read in pages."""
        with self._database.single() as conn:
            target = session_id(conn, session)
            page = session_rows.history(conn, target)
        while page:
            yield from page
            with self._database.single() as conn:
                page = session_rows.history(conn, target, after_seq=page[-1].seq)

    def update(self, session: SessionRef, **options: Unpack[SessionOptions]) -> SessionRecord:
        """Change options of the session; a turn that runs keeps what it was given."""
        values: Mapping[str, Any] = intake.session_options(
            options, max_text_bytes=self._client.settings.max_text_bytes
        )
        if not values:
            raise InvalidInput("nothing to update", hint="name an option, such as model=")
        with self._database.begin() as conn:
            return session_rows.change(conn, session_id(conn, session), values)

    def archive(self, session: SessionRef) -> SessionRecord:
        """Refuse messages from now on; the history stays. MoveRefused while a turn is open."""
        with self._database.begin() as conn:
            return session_rows.archive(conn, session_id(conn, session))

    def pause(self, session: SessionRef) -> SessionRecord:
        """Start no turn of the session until `resume`; messages are still accepted."""
        with self._database.begin() as conn:
            return session_rows.pause(conn, session_id(conn, session))

    def resume(self, session: SessionRef) -> SessionRecord:
        """Let the turns of a paused session run again."""
        with self._database.begin() as conn:
            target = session_id(conn, session)
            found = session_rows.resume(conn, target)
            heads = session_rows.head_of(conn, target)
        self._client._announcer.announce(heads)
        return found

    def delete(self, session: SessionRef) -> None:
        """Remove the session with every row. A turn that runs is not cut: its rows go after it."""
        with self._database.begin() as conn:
            session_rows.remove(conn, session_id(conn, session))

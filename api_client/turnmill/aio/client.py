"""The client for asyncio: the same verbs as `Client`, over the same store functions."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from turnmill.broker.announcing import Announcer, announcer_for
from turnmill.domain.arguments import one_of, wait_seconds
from turnmill.domain.content import Said
from turnmill.domain.errors import InvalidInput, SessionBusy, StoreUnavailable, TurnTimeout
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, SessionStatus, TurnState
from turnmill.grouping import Grouped, Stopped
from turnmill.listening.task import AsyncWaiter, happens
from turnmill.listening.watchlist import Deadline
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.async_database import AsyncDatabase, ThreadedDatabase
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.kept import Keeping, kept_of
from turnmill.store.line.accept import accept
from turnmill.store.nouns import sessions as session_rows
from turnmill.store.nouns import turns as turn_rows
from turnmill.store.records import (
    Accepted,
    AttemptRecord,
    Head,
    MessageRecord,
    NewTurn,
    SessionRecord,
    TurnRecord,
)
from turnmill.verbs import intake
from turnmill.verbs.backpressure import Backpressure
from turnmill.verbs.options import MessageOptions, SendOptions, SessionOptions, SessionRules
from turnmill.verbs.refs import SessionRef, accept_items, accept_joined, head_of, session_id
from turnmill.verbs.reply import Reply, read_reply

if TYPE_CHECKING:
    pass

P = ParamSpec("P")
T = TypeVar("T")


class AsyncClient:
    """Sends messages and reads what became of them, on any event loop. See `Client`."""

    def __init__(
        self, *, database_url: str = "", broker_url: str = "", settings: Settings | None = None
    ) -> None:
        """Connect to nothing yet. See `Client.__init__`."""
        self.settings = settings or Settings()
        url = database_url or self.settings.database_url
        self._blocking = Database(url, schema=self.settings.schema, pool_size=1)
        self._database: AsyncDatabase | ThreadedDatabase = (
            AsyncDatabase(url, schema=self.settings.schema)
            if self._blocking.can(Capability.SHARED)
            else ThreadedDatabase(self._blocking)
        )
        self._announcer: Announcer = announcer_for(
            self._blocking, broker_url or self.settings.broker_url, self.settings
        )
        # The broker's client blocks, and may block for a second: it has a thread of its own.
        self._hints: Grouped[Head, None] = Grouped("hints", self._publish, most=1000)
        self._backpressure = Backpressure(self.settings)
        self._waiter = AsyncWaiter(self._database)
        self.sessions = AsyncSessions(self)
        self.turns = AsyncTurns(self)

    @classmethod
    def from_env(cls) -> Self:
        """Read TURNMILL_DATABASE_URL, TURNMILL_BROKER_URL and the other TURNMILL_* variables."""
        return cls(settings=Settings.from_env())

    async def send(
        self,
        session: SessionRef,
        text: Said,
        *,
        connection: AsyncConnection | AsyncSession | None = None,
        **options: Unpack[SendOptions],
    ) -> "AsyncTurn":
        """Accept a message and return at once. See `Client.send`."""
        new = intake.new_turn(text, max_text_bytes=self.settings.max_text_bytes, **options)
        if connection is not None:
            within: Any = connection  # both have the verb, each gives what it wraps
            if not callable(getattr(within, "run_sync", None)):
                raise InvalidInput("connection must be an AsyncConnection or AsyncSession")
            accepted = await within.run_sync(accept_joined, session, new, self._blocking.schema)
            return AsyncTurn(self, accepted)
        run = self._database.run if new.idempotency_key else self._database.run_single
        accepted = await run(_accept, session, new, self._backpressure)
        await self._announce(accepted, lane=new.lane)
        return AsyncTurn(self, accepted)

    async def send_many(
        self,
        messages: Iterable[tuple[SessionRef, Said]],
        *,
        lane: str = Lane.BULK,
        **options: Unpack[MessageOptions],
    ) -> list["AsyncTurn"]:
        """Accept many messages in one transaction. See `Client.send_many`."""
        refs, texts = intake.pairs(messages)
        limit = self.settings.max_text_bytes
        new = intake.new_turns(texts, max_text_bytes=limit, lane=lane, **options)
        keyed = "idempotency_key" in options
        accepted = await self._database.run(
            partial(accept_items, keyed=keyed), refs, new, self._backpressure
        )
        await self._tell([head_of(one, Lane(lane)) for one in accepted if one.announce])
        return [AsyncTurn(self, one) for one in accepted]

    async def close(self) -> None:
        """Stop waiting and give all connections back."""
        await self._waiter.close()
        await asyncio.to_thread(self._hints.stop)
        await asyncio.to_thread(self._announcer.close)
        await self._database.close()
        self._blocking.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _announce(self, accepted: Accepted, *, lane: Lane) -> None:
        if accepted.announce:
            await self._tell([head_of(accepted, lane)])

    async def _tell(self, heads: Sequence[Head]) -> None:
        with suppress(Stopped):  # the messages stand, and a dispatcher finds them
            await asyncio.gather(*(self._hints.submit(head) for head in heads))

    def _publish(self, heads: Sequence[Head]) -> list[None]:
        self._announcer.announce(heads)
        return [None] * len(heads)


class AsyncTurn:
    """One message on its way to a reply. See `Turn`."""

    def __init__(self, client: AsyncClient, accepted: Accepted) -> None:
        self._client = client
        self.id: TurnId = accepted.turn_id
        self.session_id: SessionId = accepted.session_id
        self.created = accepted.created  #: False: the idempotency key already stood for it
        self._record: TurnRecord | None = None

    def __repr__(self) -> str:
        return f"AsyncTurn(id={str(self.id)!r})"

    @property
    def record(self) -> TurnRecord:
        """All columns of the turn as last seen; `refresh` must have been awaited once."""
        if self._record is None:
            raise InvalidInput("the turn has not been looked at", hint="await turn.refresh()")
        return self._record

    @property
    def state(self) -> TurnState:
        """Where the turn stood when it was last looked at."""
        return self.record.state

    async def refresh(self) -> Self:
        """Look at the turn now. Raises TurnNotFound when its session was deleted."""
        self._record = await self._client._database.run_single(turn_rows.get, self.id)
        return self

    async def result(self, timeout: float | timedelta | None = None) -> Reply:
        """Wait for the reply. See `Turn.result`."""
        deadline = Deadline(wait_seconds(timeout))
        async with self._client._waiter.expecting(self.id, deadline) as woken:
            reply = await self._read()
            while reply is None and not deadline.passed:
                await happens(woken, deadline.left)
                woken.clear()
                with suppress(StoreUnavailable, SessionBusy):  # the next wake-up, or the deadline
                    reply = await self._read()
        if reply is None:
            raise TurnTimeout(f"no reply to turn {self.id} after {deadline.seconds} s; it goes on")
        return reply

    async def attempts(self) -> list[AttemptRecord]:
        """Return every try so far, the first one first."""
        return await self._client._database.run_single(turn_rows.attempts_of, self.id)

    async def messages(self) -> list[MessageRecord]:
        """Return what was said in this turn so far: the user's message first."""
        return await self._client._database.run_single(turn_rows.messages_of, self.id)

    async def cancel(self) -> TurnState:
        """Ask that the turn end without a reply; returns its state now. See `Turn.cancel`."""
        state, heads = await self._client._database.run(turn_rows.cancel, self.id)
        await self._client._tell(heads)
        return state

    async def retry(self) -> "AsyncTurn":
        """Run a failed or dead turn again. See `Turn.retry`."""
        accepted, lane = await self._client._database.run(_retry, self.id)
        await self._client._announce(accepted, lane=lane)
        return AsyncTurn(self._client, accepted)

    async def release(self) -> None:
        """Send a turn that is held as ambiguous again. See `Turn.release`."""
        heads = await self._client._database.run(turn_rows.release_held, self.id)
        await self._client._tell(heads)

    async def _read(self) -> Reply | None:
        return await self._client._database.run_single(read_reply, self.id)


class AsyncTurns:
    """`client.turns`: turns by id and by filter. See `Turns`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def get(self, turn: TurnId | UUID | str) -> AsyncTurn:
        """Return the turn, or raise TurnNotFound."""
        found = intake.turn_id(turn)
        return self._handle(await self._client._database.run_single(turn_rows.get, found))

    async def list(
        self,
        *,
        session: SessionRef | None = None,
        states: Sequence[TurnState | str] = (),
        error_code: str | None = None,
        after: TurnId | None = None,
        limit: int = 100,
    ) -> list[AsyncTurn]:
        """Return up to `limit` turns, newest first. See `Turns.list`."""
        wanted = intake.states(states)
        code = intake.name_or_none(error_code, name="error_code")
        page = intake.listing(after=after, limit=limit)

        def find(conn: Connection) -> list[TurnRecord]:
            return turn_rows.find(
                conn,
                session_id=None if session is None else session_id(conn, session),
                states=wanted,
                error_code=code,
                **page,
            )

        return [self._handle(one) for one in await self._client._database.run_single(find)]

    def _handle(self, record: TurnRecord) -> AsyncTurn:
        accepted = Accepted(
            turn_id=record.id, session_id=record.session_id, created=False, announce=False
        )
        turn = AsyncTurn(self._client, accepted)
        turn._record = record
        return turn


class AsyncSessions:
    """`client.sessions`: conversations of users. See `Sessions`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._database = client._database

    async def create(
        self,
        *,
        user_id: str,
        provider: str = "mock",
        model: str = "mock",
        key: str | None = None,
        **options: Unpack[SessionRules],
    ) -> SessionRecord:
        """Create a session, or get the one that `key` stands for. See `Sessions.create`."""
        new = intake.new_session(
            user_id=user_id,
            provider=provider,
            model=model,
            key=key,
            max_text_bytes=self._client.settings.max_text_bytes,
            **options,
        )
        record = await self._database.run_single(session_rows.create, new)
        self._client._backpressure.note(record)
        return record

    async def get(self, session: SessionRef) -> SessionRecord:
        """Return the session as it stands now, or raise SessionNotFound."""
        return await self._with(session_rows.get, session)

    async def list(
        self,
        *,
        user_id: str | None = None,
        status: SessionStatus | str | None = None,
        after: SessionId | None = None,
        limit: int = 100,
    ) -> list[SessionRecord]:
        """Return up to `limit` sessions, newest first. See `Sessions.list`."""
        wanted = None if status is None else one_of(SessionStatus, status, name="status")
        user = intake.name_or_none(user_id, name="user_id")
        page = intake.listing(after=after, limit=limit)
        return await self._database.run_single(
            session_rows.find, user_id=user, status=wanted, **page
        )

    async def kept(self, session: SessionRef) -> Keeping:
        """Return how much vendors keep of the session. See `Sessions.kept`."""
        target = await self._database.run_single(session_id, session)
        return await self._database.run_single(kept_of, target)

    async def history(self, session: SessionRef) -> AsyncIterator[MessageRecord]:
        """Yield all messages, ordered by turn, then position; read in pages."""
        target = await self._database.run_single(session_id, session)
        page = await self._database.run_single(session_rows.history, target)
        while page:
            for message in page:
                yield message
            page = await self._database.run_single(
                session_rows.history, target, after_seq=page[-1].seq
            )

    async def update(self, session: SessionRef, **options: Unpack[SessionOptions]) -> SessionRecord:
        """Change options of the session; a turn that runs keeps what it was given."""
        values = intake.session_options(
            options, max_text_bytes=self._client.settings.max_text_bytes
        )
        if not values:
            raise InvalidInput("nothing to update", hint="name an option, such as model=")
        return await self._with(session_rows.change, session, values)

    async def archive(self, session: SessionRef) -> SessionRecord:
        """Refuse messages from now on. See `Sessions.archive`."""
        return await self._with(session_rows.archive, session)

    async def pause(self, session: SessionRef) -> SessionRecord:
        """Start no turn of the session until `resume`; messages are still accepted."""
        return await self._with(session_rows.pause, session)

    async def resume(self, session: SessionRef) -> SessionRecord:
        """Let the turns of a paused session run again."""

        def switch(conn: Connection, target: SessionId) -> tuple[SessionRecord, list[Head]]:
            return session_rows.resume(conn, target), session_rows.head_of(conn, target)

        found, heads = await self._with(switch, session)
        await self._client._tell(heads)
        return found

    async def delete(self, session: SessionRef) -> None:
        """Remove the session with every row. See `Sessions.delete`."""
        await self._with(session_rows.remove, session)

    async def _with(
        self,
        function: Callable[Concatenate[Connection, SessionId, P], T],
        session: SessionRef,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a store function on a session in a transaction."""

        def within(conn: Connection) -> T:
            return function(conn, session_id(conn, session), *args, **kwargs)

        return await self._database.run(within)


def _accept(
    conn: Connection, session: SessionRef, new: NewTurn, backpressure: Backpressure
) -> Accepted:
    target = session_id(conn, session)
    backpressure.take(conn, target)
    return accept(conn, target, new)


def _retry(conn: Connection, turn_id: TurnId) -> tuple[Accepted, Lane]:
    accepted = turn_rows.retry(conn, turn_id, new_id=TurnId(new_id()))
    return accepted, turn_rows.get(conn, accepted.turn_id).lane

"""The client: what an application calls. It writes to the store, tells a worker, and goes on."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from turnmill.aio.attaching import async_each_with_files, async_with_files
from turnmill.aio.nouns import AsyncNouns
from turnmill.aio.sessions import AsyncSessions
from turnmill.aio.turns import AsyncTurn, AsyncTurns
from turnmill.domain.arguments import wait_seconds
from turnmill.domain.content import Attachable, Said
from turnmill.domain.states import Lane
from turnmill.executor.task import AsyncExecutor, async_aside, async_knowing
from turnmill.listening.watchlist import Deadline
from turnmill.settings import Settings
from turnmill.store.records import Accepted, NewTurn
from turnmill.verbs import intake, new_messages, sending
from turnmill.verbs.refs import SessionRef

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    from turnmill.domain.counting import TokenCount
    from turnmill.store.people_records import Happened, Note


class AsyncClient(AsyncNouns):
    """Sends messages and reads what became of them. Close it, or use it in `async with`.

    One client serves a whole process: every thread, every event loop, and forked children.
    """

    def __init__(
        self, *, database_url: str = "", broker_url: str = "", settings: Settings | None = None
    ) -> None:
        """Connect to nothing yet. Raises InvalidSetting for a URL that cannot be understood.

        Without a broker nobody is told at once: workers find the message within about a second.
        A sqlite: URL runs turns inside this process.
        """
        self.settings = settings or Settings()  #: as given, or those of development
        self._executor = AsyncExecutor.opened(
            self.settings,
            database_url=database_url or self.settings.database_url,
            broker_url=broker_url or self.settings.broker_url,
        )
        self.sessions = AsyncSessions(self._executor)  #: conversations of users
        self.turns = AsyncTurns(self._executor)  #: turns by id and by filter

    @classmethod
    def from_env(cls) -> Self:
        """Read TURNMILL_DATABASE_URL, TURNMILL_BROKER_URL and the other TURNMILL_* variables.

        Where no database is named, and the profile is not production, those of the `turnmill up`
        that runs in TURNMILL_HOME (.turnmill in the current folder), as for commands. Raises
        InvalidSetting where there is neither.
        """
        from turnmill.running_home import settings_of_home  # noqa: PLC0415

        return cls(settings=settings_of_home())

    @overload
    async def send(
        self,
        session: SessionRef,
        text: Said,
        *,
        lane: str = ...,
        idempotency_key: str | None = ...,
        deliver_at: datetime | None = ...,
        expires: datetime | None = ...,
        metadata: Mapping[str, Any] | None = ...,
        max_attempts: int | None = ...,
        max_cost_usd: Decimal | float | str | None = ...,
        stream: bool = ...,
        attachments: Sequence[Attachable] = ...,
        reply_as: str | None = ...,
        sender: str | None = ...,
        to: None = ...,
        connection: "AsyncConnection | AsyncSession | None" = ...,
    ) -> AsyncTurn: ...

    @overload
    async def send(
        self,
        session: SessionRef,
        text: Said,
        *,
        to: Literal["participants"],
        sender: str | None = ...,
        idempotency_key: str | None = ...,
    ) -> "Note": ...

    @async_knowing
    async def send(
        self,
        session: SessionRef,
        text: Said,
        *,
        lane: str = Lane.INTERACTIVE,
        idempotency_key: str | None = None,
        deliver_at: datetime | None = None,
        expires: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        max_attempts: int | None = None,
        max_cost_usd: Decimal | float | str | None = None,
        stream: bool = False,
        attachments: Sequence[Attachable] = (),
        reply_as: str | None = None,
        sender: str | None = None,
        to: str | None = None,
        connection: "AsyncConnection | AsyncSession | None" = None,
    ) -> "AsyncTurn | Note":
        """Accept a message and return at once; the reply is written when a worker got it.

        The message counts as accepted when it stands in the store. A broker that is down only
        delays it: the dispatcher publishes it later.

        - `text`: a text, or parts: `[Text("…"), Image("cat.png"), …]`.
        - `lane`: `interactive`, as somebody waits, or `bulk`.
        - `idempotency_key`: sending again with the same key returns the turn that exists.
        - `deliver_at`: not before this; holds the line of its session until then.
        - `expires`: not after this; the turn ends as `expired` unless it has started.
        - `metadata`: kept with the turn, never sent to a vendor.
        - `max_attempts`: instead of the session's.
        - `max_cost_usd`: of all its attempts and steps; a call that may cost more than is left
          fails the turn as `budget_exceeded`.
        - `stream`: the reply may be watched while it comes, by `turn.stream()`; a copy of it is
          kept for minutes where streams are carried.
        - `attachments`: files, behind the words: each a path, bytes, an open file, an http(s) URL,
          or what `client.attachments.put` has returned. They are kept first: see there.
        - `reply_as`: `audio`, and the reply is spoken, too, or `text`; instead of what the
          session's settings say.
        - `sender`: who of several people says it: the session's user, or one of its participants
          who may speak. Models are shown the name, as the session's setting `names` says.
        - `to`: `participants`, and it is a note to them alone, which is returned: no turn, no line,
          and no model reads it. It has `sender` and `idempotency_key`, and no other option.
        - `connection`: the message belongs to the caller's transaction on it, and is sent when the
          caller commits.

        Raises InvalidInput, SessionNotFound, SessionArchived, IdempotencyConflict, QueueFull,
        StoreError; with `sender`, NotAParticipant and RoleForbids; or what keeping a file raises.
        After an error nothing was written.
        """
        options = intake.turn_options(
            lane=lane,
            idempotency_key=idempotency_key,
            deliver_at=deliver_at,
            expires=expires,
            metadata=metadata,
            max_attempts=max_attempts,
            max_cost_usd=max_cost_usd,
            stream=stream,
            reply_as=reply_as,
        )
        if to is not None:
            given = {**options, "attachments": attachments, "connection": connection}
            return await self._post(session, text, to=to, sender=sender, options=given)
        if not (isinstance(text, str) and intake.are_none(attachments)):
            text = await async_with_files(
                self._executor, session, text, attachments, connection=connection
            )
        new = new_messages.new_turn(text, options, max_text_bytes=self.settings.max_text_bytes)
        if sender is not None:
            accepted = await self._say(session, new, sender=sender, connection=connection)
        elif connection is not None:
            joining = sending.joining(session, new, self._executor.schema)
            accepted = await self._executor.run_joined(connection, joining)
        else:
            verb = sending.send(session, new, self._executor.backpressure)
            accepted = await self._executor.run(verb)
        return AsyncTurn(self._executor, accepted)

    async def _say(
        self, session: SessionRef, new: NewTurn, *, sender: str, connection: object
    ) -> Accepted:
        """Accept what somebody of several people says."""
        from turnmill.verbs import people  # noqa: PLC0415  most sessions are of one

        if connection is not None:
            joining = people.joining(session, new, sender, self._executor.schema)
            return await self._executor.run_joined(connection, joining)
        verb = people.send(session, new, sender, self._executor.backpressure)
        return await self._executor.run(verb)

    async def _post(
        self,
        session: SessionRef,
        text: Said,
        *,
        to: str,
        sender: str | None,
        options: Mapping[str, Any],
    ) -> "Note":
        """Write a note."""
        from turnmill.verbs import people  # noqa: PLC0415  most sessions are of one

        verb = people.post(
            session,
            text,
            to=to,
            sender=sender,
            options=options,
            max_text_bytes=self.settings.max_text_bytes,
        )
        return await self._executor.run(verb)

    def follow(
        self,
        session: SessionRef,
        *,
        as_: str,
        after: int | None = None,
        timeout: float | timedelta | None = None,
    ) -> AsyncIterator["Happened"]:
        """Yield what happens in a session to one of its participants, then what comes.

        Messages, notes, replies, what turns come to, who joins and leaves: the same to everybody,
        in one order, mostly within a tenth of a second, or half a second. A session's log begins
        when the first one is added to it, or follows it.

        - `as_`: who follows: the session's user, or one of its participants.
        - `after`: begin behind this `cursor`; None: behind what he has read.
        - `timeout`: end when it is over and nothing is left (seconds or timedelta; None: never).

        What he is given counts as read when the next one is asked for, and is noted twice a second,
        and at the end. Who keeps cursors himself gets everything once. Raises NotAParticipant, also
        when he is removed, InvalidInput, SessionNotFound.
        """
        from turnmill.aio.participants import async_follow  # noqa: PLC0415
        from turnmill.verbs import people  # noqa: PLC0415

        of = people.Following.of(session, as_)
        start = people.cursor_or_none(after, name="after")
        deadline = Deadline(wait_seconds(timeout))
        return async_follow(self._executor, of, after=start, deadline=deadline)

    @async_knowing
    async def send_many(
        self,
        messages: Iterable[tuple[SessionRef, Said]],
        *,
        lane: str = Lane.BULK,
        idempotency_key: str | None = None,
        deliver_at: datetime | None = None,
        expires: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        max_attempts: int | None = None,
        max_cost_usd: Decimal | float | str | None = None,
    ) -> list[AsyncTurn]:
        """Accept up to 100,000 messages in one transaction: all, or none after an error.

        The error's `index` says which message it is about, from 0 on.

        The options are those of `send`, and go for every message; `idempotency_key` stands for
        one message in each session.
        """
        options = intake.turn_options(
            lane=lane,
            idempotency_key=idempotency_key,
            deliver_at=deliver_at,
            expires=expires,
            metadata=metadata,
            max_attempts=max_attempts,
            max_cost_usd=max_cost_usd,
        )
        limit = self.settings.max_text_bytes
        verb = sending.send_many(
            await async_each_with_files(self._executor, messages),
            options,
            self._executor.backpressure,
            max_text_bytes=limit,
        )
        accepted = await self._executor.run(verb)
        return [AsyncTurn(self._executor, one) for one in accepted]

    @async_knowing
    async def count_tokens(
        self, session: SessionRef, text: Said, *, exact: bool = False
    ) -> "TokenCount":
        """Return how many tokens a message would have a model read, all that is sent beside it too.

        That is the conversation so far, the system prompt and the tools. Where the worker's half is
        installed here, it is what reservations count with, and exact for the mock; else there is
        one for each byte of UTF-8 and 16 for each message: never less than the vendor counts, four
        to five times as many for English prose. With `exact`, the vendor is asked, by its endpoint
        for that, with its key in this process' environment; it charges nothing.

        Sends and writes nothing. Raises InvalidInput, SessionNotFound, MissingExtra without the
        worker's half, or with `exact` what stands in the way of asking, a ProviderError.
        """
        from turnmill.verbs import counting  # noqa: PLC0415

        said = new_messages.new_turn(
            text, intake.turn_options(), max_text_bytes=self.settings.max_text_bytes
        ).messages
        spoken = await self._executor.run(counting.spoken(session))
        return await async_aside(
            counting.counted, spoken, said, exact=exact, settings=self.settings
        )

    async def close(self) -> None:
        """Stop waiting and give all connections back."""
        await self._executor.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

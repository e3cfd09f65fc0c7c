"""Turns: messages on their way to a reply."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from turnmill.domain.arguments import wait_if, wait_seconds, yes_or_no
from turnmill.domain.content import Audio
from turnmill.domain.errors import SessionBusy, StoreUnavailable, TurnTimeout
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL, Lane, TurnState
from turnmill.executor.task import AsyncExecutor
from turnmill.listening.task import async_happens
from turnmill.listening.watchlist import Deadline
from turnmill.store.message_records import MessageRecord
from turnmill.store.records import Accepted
from turnmill.store.turn_records import AttemptRecord, TurnRecord
from turnmill.verbs import turns
from turnmill.verbs.refs import SessionRef
from turnmill.verbs.reply import Reply, saved_by

if TYPE_CHECKING:
    from turnmill.aio.batches import AsyncBatch
    from turnmill.domain.streaming import Place, StreamEvent
    from turnmill.store.feedback_records import Feedback
    from turnmill.store.nouns.tool_calls import ToolCallRecord
    from turnmill.store.nouns.why import Why


class AsyncTurn:
    """One message on its way to a reply. `state` is as last seen: `refresh` looks again."""

    def __init__(self, executor: AsyncExecutor, accepted: Accepted) -> None:
        self._executor = executor
        self.id: TurnId = accepted.turn_id
        self.session_id: SessionId = accepted.session_id
        self.created: bool = accepted.created  #: False: the idempotency key already stood for it
        self._record: TurnRecord | None = None

    def __repr__(self) -> str:
        return f"AsyncTurn(id={str(self.id)!r})"

    @property
    def record(self) -> TurnRecord:
        """All columns of the turn, as last seen.

        One that was just sent has not been looked at. On threads that is done now; on asyncio,
        where a property cannot wait, InvalidInput asks for a `refresh` that is awaited.
        """
        if self._record is None:
            self._record = self._executor.run_at_once(turns.get(self.id))
        return self._record

    @property
    def state(self) -> TurnState:
        """Where the turn stood when it was last looked at. See `record`."""
        return self.record.state

    async def refresh(self) -> Self:
        """Look at the turn now. Raises TurnNotFound when its session was deleted."""
        self._record = await self._executor.run(turns.get(self.id))
        return self

    async def result(self, timeout: float | timedelta | None = None) -> Reply:
        """Wait for the reply, at most `timeout` (seconds or timedelta; None: without end; 0: look).

        A database that goes away meanwhile is waited for too. Raises TurnTimeout, which leaves the
        turn running; TurnFailed, TurnDead, TurnCancelled or TurnExpired, each with `error_code`,
        when there is no reply.
        """
        deadline = Deadline(wait_seconds(timeout))
        look = turns.reply(self.id)
        async with self._executor.expecting(self.id, deadline) as woken:
            reply = await self._executor.run(look)
            while reply is None and not deadline.passed:
                await async_happens(woken, deadline.left)
                woken.clear()
                with suppress(StoreUnavailable, SessionBusy):  # the next wake-up, or the deadline
                    reply = await self._executor.run(look)
        if reply is None:
            raise TurnTimeout(_still_running(self.id, deadline))
        return saved_by(self._save, reply)

    async def _save(self, part: Audio, path: "str | PathLike[str]") -> None:
        from turnmill.aio.saving import async_saved  # noqa: PLC0415  few replies are heard

        await async_saved(self._executor, part.id, path)

    def stream(
        self, after: str | None = None, timeout: float | timedelta | None = None
    ) -> "AsyncIterator[StreamEvent]":
        """Yield what happens to the turn, as it happens; the last event is always `ended`.

        - `after`: the `id` of the last event that was had, in whichever process: it goes on there.
        - `timeout`: raises TurnTimeout where the turn has not ended by then; see `result`.

        After `attempt_started` and `attempt_restarted` the text begins anew; of a turn that
        succeeded, the deltas since then are the text of its reply. Where nobody asked for a
        stream, or its copy is gone, the text comes when the turn has ended. One that ends without
        a reply raises nothing: `ended` has its state and code. Whoever stops reading cancels
        nothing. Raises InvalidInput for what is no id, TurnNotFound when its session is deleted.
        """
        from turnmill.domain.streaming import Place  # noqa: PLC0415  few turns are watched

        return self._stream(Place.of(after), Deadline(wait_seconds(timeout)))

    async def attempts(self) -> list[AttemptRecord]:
        """Return every try so far, the first one first."""
        return await self._executor.run(turns.attempts(self.id))

    async def messages(self) -> list[MessageRecord]:
        """Return what was said in this turn so far: the user's message first."""
        return await self._executor.run(turns.messages(self.id))

    async def why(self) -> "Why":
        """Tell what the turn waits for now, and until when; and the head of its line, if behind it.

        Raises TurnNotFound when its session was deleted.
        """
        return await self._executor.run(turns.why(self.id))

    async def tool_calls(self) -> "list[ToolCallRecord]":
        """Return every call of a tool so far, in the order in which the model made them."""
        from turnmill.verbs import tool_calls  # noqa: PLC0415  few turns call any

        return await self._executor.run(tool_calls.of_turn(self.id))

    async def effects(self) -> "list[ToolCallRecord]":
        """Return the calls by which this turn has changed the world, or may have.

        They are there whatever became of the turn. `done` has happened, `unknown` may have, and
        `failed` may have in part.
        """
        from turnmill.verbs import tool_calls  # noqa: PLC0415  few turns call any

        return await self._executor.run(tool_calls.effects(self.id))

    async def submit_tool_outputs(
        self,
        outputs: Mapping[str, Any] | None = None,
        *,
        errors: Mapping[str, str] | None = None,
    ) -> None:
        """Give the outputs of calls that wait for you, by their ids; the turn goes on then.

        An output is a text, or a value that JSON knows. `errors` say in words for the model why
        there is none. Some of the calls will do: the turn goes on with the last one. All that is
        given is written, or nothing after an error; the same again is no error.

        Raises InvalidInput, ToolCallNotFound, OutputConflict where another output stands,
        ToolCallExpired, or MoveRefused: the turn has ended, or nobody outside answers that call.
        """
        from turnmill.verbs import tool_calls  # noqa: PLC0415  few turns call any

        verb = tool_calls.submit(
            self.id,
            outputs,
            errors=errors,
            max_text_bytes=self._executor.settings.max_text_bytes,
        )
        await self._executor.run(verb)

    async def approve(self, call_id: str, *, by: str | None = None) -> None:
        """Let a worker run a call that waits for approval; `by` is kept as who agreed.

        Again is no error. Raises InvalidInput, ToolCallNotFound, ToolCallExpired, MoveRefused.
        """
        from turnmill.verbs import tool_calls  # noqa: PLC0415  few turns call any

        await self._executor.run(tool_calls.approve(self.id, call_id, by=by))

    async def reject(self, call_id: str, why: str = "", *, by: str | None = None) -> None:
        """Have a call not run that waits for approval: the model is told why. See `approve`."""
        from turnmill.verbs import tool_calls  # noqa: PLC0415  few turns call any

        await self._executor.run(tool_calls.reject(self.id, call_id, why, by=by))

    async def cancel(
        self,
        *,
        wait: bool = False,
        keep_partial: bool = False,
        timeout: float | timedelta | None = None,
    ) -> TurnState:
        """Ask that the turn end without a reply; returns its state now, or with `wait` at its end.

        Where nothing runs that is `cancelled`. A running turn stays `running` until its worker
        has closed the call to the provider; what was used so far is kept, as an estimate where
        nobody counted. A final turn stays: it may have succeeded meanwhile.

        - `wait`: return a final state only, or raise TurnTimeout after `timeout` (seconds or
          timedelta; None: without end); the turn is cancelled all the same.
        - `keep_partial`: what had come of a streamed reply is kept. `messages` shows it, as
          `partial`; no model is ever shown it.
        """
        deadline = Deadline(wait_if(timeout, wait, name="wait"))
        state = await self._executor.run(turns.cancel(self.id, keep_partial=keep_partial))
        if wait and state not in FINAL:
            state = await self._end(deadline)
        return state

    async def _end(self, deadline: Deadline) -> TurnState:
        """Wait for a final state, and return it."""
        async with self._executor.expecting(self.id, deadline) as woken:
            await self.refresh()
            while self.state not in FINAL and not deadline.passed:
                await async_happens(woken, deadline.left)
                woken.clear()
                with suppress(StoreUnavailable, SessionBusy):  # the next wake-up, or the deadline
                    await self.refresh()
        if self.state not in FINAL:
            told = f"turn {self.id} has not ended after {deadline.seconds} s; it is being cancelled"
            raise TurnTimeout(told)
        return self.state

    async def retry(self, *, once: bool = False) -> "AsyncTurn":
        """Run a failed or dead turn again: in place, or as a new turn at the session's end.

        In place while no later turn of the session has started. Raises MoveRefused for one that has
        not ended, or has ended otherwise.
        - `once`: raises MoveRefused, too, where it was run again, by whomever, since this object
          last looked at it, and where another turn is its second run. See `record`.
        """
        seen = self.record if yes_or_no(once, name="once") else None
        again = await self._executor.run(turns.retry(self.id, seen=seen))
        return AsyncTurn(self._executor, again)

    async def feedback(
        self, score: float | None, comment: str | None = None, *, by: str | None = None
    ) -> "Feedback":
        """Say what is thought of how it ended, from -1 (bad) to 1; see `Turns.feedback`."""
        from turnmill.verbs import feedback  # noqa: PLC0415  few turns are given any

        return await self._executor.run(feedback.give(self.id, score, comment, by=by))

    async def release(self) -> None:
        """Send a turn that is held as ambiguous again; raises MoveRefused for any other."""
        await self._executor.run(turns.release(self.id))

    async def _stream(
        self, after: "Place | None", deadline: Deadline
    ) -> "AsyncIterator[StreamEvent]":
        from turnmill.streams.following import Following  # noqa: PLC0415  few turns are watched
        from turnmill.streams.patience import LOOK_SECONDS, Patience  # noqa: PLC0415

        if self._executor.audits_reads:
            await self._executor.run(turns.streamed(self.id))
        seen = await self._executor.watched(self.id)
        following, patience = Following(after, seen), Patience()
        begins = following.begins_behind if seen.stream else None
        is_stale = begins is None  # what ends before anybody listens a copy tells, too
        async with self._executor.watching(self.id, begins, deadline) as (woken, copy):
            while True:
                woken.clear()
                entries = copy.take()
                for event in following.read(entries):
                    yield event
                has_news = following.has_ended or (is_stale and not entries)
                if has_news and not seen.is_final:
                    with suppress(StoreUnavailable, SessionBusy):
                        seen = await self._executor.watched(self.id)
                if patience.is_over(seen, following, copy):
                    break
                if deadline.passed and not seen.is_final:
                    raise TurnTimeout(_still_running(self.id, deadline))
                is_stale = True
                await async_happens(woken, LOOK_SECONDS if seen.is_final else deadline.left)
        for event in following.end(seen):
            yield event


class AsyncTurns:
    """`client.turns`: turns by id and by filter."""

    def __init__(self, executor: AsyncExecutor) -> None:
        self._executor = executor

    async def get(self, turn: TurnId | UUID | str) -> AsyncTurn:
        """Return the turn, or raise TurnNotFound."""
        return self._handle(await self._executor.run(turns.get(turn)))

    async def feedback(
        self,
        turn: "TurnId | UUID | str",
        score: float | None,
        comment: str | None = None,
        *,
        by: str | None = None,
    ) -> "Feedback":
        """Keep what somebody thinks of how the turn ended, in place of what he has said before.

        - `score`: from -1, bad, to 1, good; None takes back what was said.
        - `comment`: in words, kept as messages are: encrypted, erased, and gone with their time.
        - `by`: who says it, where that is not whose session it is. Each has one word of each turn.

        The same again is no error, and changes nothing. Raises InvalidInput, TurnNotFound,
        MoveRefused of a turn that has not ended, and where there is nothing to take back.
        """
        from turnmill.verbs import feedback  # noqa: PLC0415  few turns are given any

        return await self._executor.run(feedback.give(turn, score, comment, by=by))

    async def waiting_calls(
        self,
        *,
        waits_for: str | None = None,
        session: SessionRef | None = None,
        user_id: str | None = None,
        after: TurnId | None = None,
        limit: int = 100,
    ) -> "list[ToolCallRecord]":
        """Return the calls of up to `limit` turns, newest first, that wait for somebody outside.

        - `waits_for`: `approval` (see `approve`) or `tool` (see `submit_tool_outputs`) alone.
        - `after`: the turn of the last one of the page before.

        Raises InvalidInput, SessionNotFound.
        """
        from turnmill.verbs import tool_calls  # noqa: PLC0415  few turns call any

        verb = tool_calls.waiting(
            waits_for=waits_for, session=session, user_id=user_id, after=after, limit=limit
        )
        return await self._executor.run(verb)

    async def list(
        self,
        *,
        session: SessionRef | None = None,
        batch: "AsyncBatch | UUID | str | None" = None,
        user_id: str | None = None,
        lane: Lane | str | None = None,
        states: Sequence[TurnState | str] = (),
        error_code: str | None = None,
        created_before: datetime | None = None,
        waits_for: str | None = None,
        run_again: bool | None = None,
        id_prefix: str | None = None,
        after: TurnId | None = None,
        limit: int = 100,
    ) -> list[AsyncTurn]:
        """Return up to `limit` turns, newest first, for which all of the filters hold.

        - `states`: in one of them.
        - `error_code`: that their last attempt ended with.
        - `created_before`: accepted before then.
        - `waits_for`: that wait for this: `tool` (an output of yours), `approval`, or what a layer
          has put them off for.
        - `run_again`: False leaves out those that were retried as a new turn at the end of their
          session, and stay as they ended; True finds these alone.
        - `id_prefix`: how their ids begin, by eight digits or more.
        - `after`: the last id of the page before.

        Raises InvalidInput, SessionNotFound, BatchNotFound.
        """
        verb = turns.find(
            session=session,
            batch=batch,
            user_id=user_id,
            lane=lane,
            states=states,
            error_code=error_code,
            created_before=created_before,
            waits_for=waits_for,
            run_again=run_again,
            id_prefix=id_prefix,
            after=after,
            limit=limit,
        )
        return [self._handle(record) for record in await self._executor.run(verb)]

    async def why(self, of: "Sequence[AsyncTurn | UUID | str]") -> "dict[TurnId, Why]":
        """Tell of up to 1,000 turns, by their ids, what each waits for now; in a few queries.

        As `AsyncTurn.why`, but that nothing is counted or estimated. Turns whose sessions were
        deleted are left out. Raises InvalidInput.
        """
        return await self._executor.run(turns.why_each(of))

    def _handle(self, record: TurnRecord) -> AsyncTurn:
        accepted = Accepted(
            turn_id=record.id, session_id=record.session_id, created=False, announce=False
        )
        turn = AsyncTurn(self._executor, accepted)
        turn._record = record
        return turn


def _still_running(turn_id: TurnId, deadline: Deadline) -> str:
    return f"no reply to turn {turn_id} after {deadline.seconds} s; it goes on"

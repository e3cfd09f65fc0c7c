"""Participants: several people in a session, and what each of them is told."""

import time
from collections.abc import AsyncIterator
from contextlib import suppress

from turnmill.domain.errors import SessionBusy, StoreUnavailable, TurnmillError
from turnmill.domain.ids import TurnId
from turnmill.domain.states import ParticipantRole
from turnmill.executor.task import AsyncExecutor, async_pause
from turnmill.listening.task import async_happens
from turnmill.listening.watchlist import Deadline
from turnmill.store.people_records import Happened, HappenedPage, Participant, ReadPosition
from turnmill.verbs import people
from turnmill.verbs.people import Following
from turnmill.verbs.refs import SessionRef

#: Messages and notes wake whoever follows; what turns come to is looked for so often.
_LOOK_SECONDS = 0.5
#: In a store of this process alone.
_LOOK_HERE_SECONDS = 0.1


class AsyncParticipants:
    """`client.sessions.participants`: who takes part in a session, and how far each has read.

    The session's user always does, as an owner. Names are the application's: mostly its users'.
    """

    def __init__(self, executor: AsyncExecutor) -> None:
        self._executor = executor

    async def add(
        self,
        session: SessionRef,
        name: str,
        *,
        role: ParticipantRole | str | None = None,
        by: str | None = None,
    ) -> Participant:
        """Let somebody take part, or in another role than before.

        - `role`: an `owner` speaks, and decides who takes part; a `member` speaks; an `observer`
          follows. None: as it is, or a member.
        - `by`: who decides this; None: the application itself.

        Nothing of what was before is unread for him. Up to 1,000 take part in a session. Raises
        InvalidInput, SessionNotFound, MoveRefused; with `by`, NotAParticipant and RoleForbids.
        """
        return await self._executor.run(people.add(session, name, role=role, by=by))

    async def remove(self, session: SessionRef, name: str, *, by: str | None = None) -> None:
        """Let somebody take part no more: he neither speaks nor follows. What he said stays.

        Everybody may leave by himself. Raises NotAParticipant, SessionNotFound, RoleForbids, and
        MoveRefused for the session's user.
        """
        await self._executor.run(people.remove(session, name, by=by))

    async def list(self, session: SessionRef) -> list[Participant]:
        """Return who takes part, those who joined first before others, and what each has unread."""
        return await self._executor.run(people.listed(session))

    async def mark_read(
        self, session: SessionRef, name: str, *, upto: int | None = None
    ) -> Participant:
        """Note that somebody has read everything up to a cursor; None: all there is.

        It never goes back. Raises NotAParticipant, SessionNotFound, InvalidInput.
        """
        of = Following.of(session, name)
        return await self._executor.run(people.mark_read(of, upto=upto))


async def async_follow(
    executor: AsyncExecutor, of: Following, *, after: int | None, deadline: Deadline
) -> AsyncIterator[Happened]:
    """Yield what happens in a session. See `AsyncClient.follow`."""
    place = await executor.run(people.begin(of))
    cursor = place.read if after is None else after
    marks = _Marks(executor, of, cursor)
    try:
        async with executor.expecting(TurnId(place.session_id), deadline) as woken:
            page = await _look(executor, of, place, cursor)
            while True:
                for one in page.happened:
                    yield one
                    cursor = one.cursor
                    await marks.passed(cursor)
                if not page.happened:
                    await marks.passed(cursor)
                    if deadline.passed:
                        return
                    if executor.has_one_writer or page.is_behind:  # and nobody who tells
                        await async_pause(min(_LOOK_HERE_SECONDS, deadline.left))
                    else:
                        await async_happens(woken, min(_LOOK_SECONDS, deadline.left))
                        woken.clear()
                page = HappenedPage()
                with suppress(StoreUnavailable, SessionBusy):
                    page = await _look(executor, of, place, cursor)
    finally:
        await marks.write()


async def _look(
    executor: AsyncExecutor, of: Following, place: ReadPosition, cursor: int
) -> HappenedPage:
    page = await executor.run(people.page(of, place, after=cursor))
    if page.is_behind:
        await executor.run(people.put_down(place))
        page = await executor.run(people.page(of, place, after=cursor))
    return page  # still behind where somebody else puts it down just now


class _Marks:
    """How far somebody has read, written down twice a second at the most."""

    def __init__(self, executor: AsyncExecutor, of: Following, written: int) -> None:
        self._executor = executor
        self._of = of
        self._read = self._written = written
        self._at = time.monotonic()

    async def passed(self, cursor: int) -> None:
        """Note it, and write it down if that was not done for a while.

        Ten who follow what is said in quick succession would write more than those who speak.
        """
        self._read = cursor
        if time.monotonic() - self._at >= _LOOK_SECONDS:
            await self.write()

    async def write(self) -> None:
        """Write it down; where the store is away, the next time does it too.

        Whoever is gone meanwhile is told so when he reads on.
        """
        self._at = time.monotonic()
        if self._read > self._written:
            with suppress(TurnmillError):
                await self._executor.run(people.passed(self._of, self._read))
                self._written = self._read

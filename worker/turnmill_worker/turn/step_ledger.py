"""What taking steps needs of the store: a turn's steps, receipts, and what came of each call."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from turnmill.domain.content import Message, strings_of
from turnmill.domain.errors import SessionBusy, StoreError, StoreUnavailable, Unstorable
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import OPEN_CALLS
from turnmill.grouping import Grouped
from turnmill.store.database import Database
from turnmill.store.line import stepping
from turnmill.store.line.estimates import withdraw_estimates
from turnmill.store.line.settle import was_settled
from turnmill.store.line.voice import note_voiced
from turnmill.store.records import Claim, Fenced, Locked, Settled, Settlement
from turnmill.store.step_records import Advanced, CallEnd, Receipt, Step, ToBegin
from turnmill_worker.turn.patience import kept_trying

Item = TypeVar("Item")
T = TypeVar("T")

#: In one statement: so many, and no more once they have so many characters.
_MOST = 50
_HEAVIEST = 4_000_000


class StepLedger:
    """The steps of all turns of one process, on one store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._steps: Grouped[Step, Advanced | Fenced | Locked] = Grouped(
            "steps",
            self._advance_group,
            most=_MOST,
            weigh=lambda step: _weight_of(step.settlement.replies),
            heaviest=_HEAVIEST,
        )
        self._begins: Grouped[ToBegin, bool] = Grouped("call-begins", self._begin_group, most=_MOST)
        self._ends: Grouped[CallEnd, bool] = Grouped(
            "call-ends",
            self._end_group,
            most=_MOST,
            weigh=lambda end: _weight_of([end.message]),
            heaviest=_HEAVIEST,
        )

    def stop(self) -> None:
        """Write what is left and stop."""
        for grouped in (self._steps, self._begins, self._ends):
            grouped.stop()

    async def advance(self, step: Step) -> Advanced | Fenced:
        """Write the step, however long the store is away: its reply is paid for.

        Fenced: the turn is no longer ours, or somebody wants it to end. Raises StoreError.
        """
        tries = 0

        async def once() -> Advanced | Fenced:
            nonlocal tries
            tries += 1
            result = await self._steps.submit(step)
            if isinstance(result, Locked):
                raise SessionBusy
            if isinstance(result, Fenced) and tries > 1:
                return await asyncio.to_thread(self._perhaps_advanced, step, result)
            return result

        return await kept_trying(once)

    async def begin(self, call: ToBegin) -> bool:
        """Note that the call is about to be run; False where it must not be."""
        return await kept_trying(lambda: self._begins.submit(call))

    async def end(self, end: CallEnd) -> bool:
        """Write what became of the call, however long the store is away; False: it is not ours."""
        tries = 0

        async def once() -> bool:
            nonlocal tries
            tries += 1
            if await self._ends.submit(end):
                return True
            return tries > 1 and await asyncio.to_thread(self._perhaps_ended, end)

        return await kept_trying(once)

    async def receipts(self, turn_id: TurnId) -> list[Receipt]:
        """Return the receipts of the turn."""
        return await kept_trying(lambda: asyncio.to_thread(self._receipts_now, turn_id))

    async def outputs(self, turn_id: TurnId, *, first: int) -> dict[int, Message]:
        """Return the outputs of the turn from this position on, by their positions."""

        def read() -> dict[int, Message]:
            with self._database.single() as conn:
                return stepping.outputs_of(conn, turn_id, first=first)

        return await kept_trying(lambda: asyncio.to_thread(read))

    async def send_instead(self, claim: Claim) -> bool:
        """Let the claim make the call that it was to ask about; False where it is not ours."""

        def move() -> bool:
            with self._database.begin() as conn:
                return stepping.send_instead(conn, claim.turn_id, claim.fence)

        return await kept_trying(lambda: asyncio.to_thread(move))

    async def wait(self, settlement: Settlement) -> Settled | Fenced | None:
        """Let the turn wait for those outside; None where there is something to be done at once."""
        tries = 0

        def wait() -> Settled | Fenced | None:
            nonlocal tries
            tries += 1
            with self._database.begin() as conn:
                result = stepping.wait_for_calls(conn, settlement)
                if isinstance(result, Fenced) and tries > 1:
                    state = was_settled(conn, result.turn_id, settlement.fence)
                    if state is not None:  # a commit that nobody acknowledged
                        return Settled(turn_id=result.turn_id, state=state, due_at=None, next=None)
                return result

        return await kept_trying(lambda: asyncio.to_thread(wait))

    def _receipts_now(self, turn_id: TurnId) -> list[Receipt]:
        with self._database.single() as conn:
            return stepping.receipts_of(conn, turn_id)

    def _perhaps_advanced(self, step: Step, fenced: Fenced) -> Advanced | Fenced:
        """Tell a commit that nobody acknowledged from a turn that was lost."""
        with self._database.single() as conn:
            found = stepping.was_advanced(conn, fenced.turn_id, step.settlement.fence)
        return found or fenced

    def _perhaps_ended(self, end: CallEnd) -> bool:
        """Tell the same of what became of a call."""
        return any(
            one.position == end.position and one.fence == end.fence and one.state not in OPEN_CALLS
            for one in self._receipts_now(end.turn_id)
        )

    def _advance_group(
        self, steps: Sequence[Step]
    ) -> Sequence[Advanced | Fenced | Locked | BaseException]:
        by_session: dict[SessionId, Step] = {}
        for step in steps:
            by_session.setdefault(step.settlement.session_id, step)
        chosen = list(by_session.values())
        results = _together(self._advance, chosen)
        found = {id(one): result for one, result in zip(chosen, results, strict=True)}
        # A second step of a session is a zombie's or its successor's: in the next group.
        return [found.get(id(one), Locked(turn_id=one.settlement.turn_id)) for one in steps]

    def _advance(self, steps: Sequence[Step]) -> Sequence[Advanced | Fenced | Locked]:
        known = [one.settlement for one in steps if one.settlement.counts_again]
        voiced = {one.settlement.turn_id: one.voiced for one in steps if one.voiced is not None}
        if not known and not voiced:
            with self._database.single() as conn:
                return stepping.advance(conn, steps)
        with self._database.begin() as conn:
            if known:
                withdraw_estimates(conn, known)
            found = stepping.advance(conn, steps)
            for one in found:
                if isinstance(one, Advanced) and one.turn_id in voiced:
                    note_voiced(conn, one, voiced[one.turn_id])
            return found

    def _begin_group(self, calls: Sequence[ToBegin]) -> Sequence[bool | BaseException]:
        def begin(some: Sequence[ToBegin]) -> Sequence[bool]:
            with self._database.single() as conn:
                found = stepping.begin_calls(conn, some)
            return [(one.turn_id, one.position) in found for one in some]

        return _together(begin, calls)

    def _end_group(self, ends: Sequence[CallEnd]) -> Sequence[bool | BaseException]:
        def end(some: Sequence[CallEnd]) -> Sequence[bool]:
            with self._database.single() as conn:
                found = stepping.end_calls(conn, some)
            return [(one.turn_id, one.position) in found for one in some]

        return _together(end, ends)


def _weight_of(messages: Sequence[Message]) -> int:
    said = (part for message in messages for part in message.parts)
    return sum(len(text) for part in said for text in strings_of(part))


def _together(
    write: Callable[[Sequence[Item]], Sequence[T]], items: Sequence[Item]
) -> list[T | BaseException]:
    """Write them together; where one may be to blame for a refusal, one by one."""
    try:
        return list(write(items))
    except (StoreUnavailable, SessionBusy) as error:
        return [error] * len(items)
    except Exception as error:  # noqa: BLE001
        # Whatever one of them is made of, its neighbours' are paid for.
        if len(items) == 1:
            return [error if isinstance(error, StoreError) else Unstorable(type(error).__name__)]
        return [one for item in items for one in _together(write, [item])]

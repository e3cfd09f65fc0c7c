"""The worker's side of the store: claims and settles of a process, grouped into few commits."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import chain, repeat
from typing import TypeVar

from turnmill.domain.checks import storable
from turnmill.domain.content import strings_of
from turnmill.domain.errors import SessionBusy, StoreError, StoreUnavailable, Unstorable
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.grouping import Grouped, Stopped
from turnmill.store.budget_records import Ask, Reserved
from turnmill.store.codec import StoredHistory
from turnmill.store.compaction_records import NewCompaction, Spoken
from turnmill.store.database import Database
from turnmill.store.kept import keep_late
from turnmill.store.line.backlogs import longest_waits
from turnmill.store.line.claim import due_suspicions
from turnmill.store.line.compactions import history_after, keep_compaction, spoken
from turnmill.store.line.estimates import withdraw_estimates
from turnmill.store.line.history import succeeded_history
from turnmill.store.line.leases import end_leases, mark_sent, mark_target
from turnmill.store.line.pauses import Pauses, read_pauses
from turnmill.store.line.settle import settle, was_settled
from turnmill.store.nouns.events import readers
from turnmill.store.records import Claim, Fenced, Locked, Settled, Settlement
from turnmill_worker.providers import calls
from turnmill_worker.turn.begins import Begins
from turnmill_worker.turn.claims import Asked, Busy, Claims
from turnmill_worker.turn.crowds import Crowds
from turnmill_worker.turn.patience import KEEP, PAUSES, patiently
from turnmill_worker.turn.step_ledger import StepLedger
from turnmill_worker.turn.thread_ledger import ThreadLedger
from turnmill_worker.turn.upload_ledger import Uploads
from turnmill_worker.turn.voice_ledger import VoiceLedger

logger = logging.getLogger("turnmill.ledger")

T = TypeVar("T")

#: The tables do not take the verdict, or it cannot even be written down for them.
_UNSTORABLE = (Unstorable, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)

#: The code of a turn that failed for it.
UNSTORABLE = "reply_unstorable"

_Written = Settled | Fenced | Locked | StoreError

#: Of a group: the ids of those that ended fit into one notification of Postgres (8,000 bytes).
_MOST = 200
#: Where hundreds of a batch are answered in a second, replies wait so long for others: a statement
#: of 85 takes a tenth less for each than one of 40, of Postgres and of the worker.
_BULK_GATHERS = timedelta(milliseconds=25)
#: Bytes of replies and of vendors' words: a group takes no more, so that it holds this and one
#: verdict at most.
_HEAVIEST = 4_000_000


class GroupedLedger:
    """The ledger of one process on one store."""

    def __init__(
        self,
        database: Database,
        *,
        owner: str,
        lease: timedelta,
        held: Callable[[Lane], Mapping[str, int]] = lambda _: {},
        tags: Sequence[str] = (),
    ) -> None:
        """`held` tells how many turns of a lane this process holds of each user.

        `tags` are the keys of metadata that budgets go by.
        """
        self._database = database
        # Those who take what is due at the same time read past each other's rows.
        self._one_at_a_time = asyncio.Lock()
        self.crowds = Crowds(held=held)
        self._taking = Claims(database, owner=owner, lease=lease, crowds=self.crowds)
        self._begins = Begins(database, self._taking, tags=tags)
        # Whoever waits for a reply does not wait behind the groups of a batch.
        self._settles = self._new_settles("settles")
        self._bulk_settles = self._new_settles("bulk-settles", gathers=_BULK_GATHERS)
        self.steps = StepLedger(database)
        self.threads = ThreadLedger(database)
        self.uploads = Uploads(database)
        self.voice = VoiceLedger(database)
        self._refusal: str | None = None  #: why the store took no verdict when it was last asked

    def stop(self) -> None:
        """Write what is left and stop."""
        self._begins.stop()
        self._settles.stop()
        self._bulk_settles.stop()
        self.steps.stop()

    async def claim(self, turn_id: TurnId, *, crowded: bool = False) -> Claim | None:
        """Take the turn; a session that is locked for a moment is asked for again."""
        for pause in PAUSES:
            with suppress(SessionBusy):
                found = await self._begins.claim(Asked(turn_id, crowded))
                if not isinstance(found, Busy):
                    return found
            await asyncio.sleep(pause)
        return None

    async def claim_again(self, turn_id: TurnId) -> Claim | None:
        """Take the turn that was settled just now for its next attempt; no other one's."""
        return await patiently(self._taking.just, turn_id)

    async def claim_due(self, lane: Lane, *, limit: int) -> list[Claim]:
        """Take up to `limit` due turns of the lane, unless it is paused."""
        if limit < 1:
            return []
        async with self._one_at_a_time:
            return await patiently(self._taking.in_lane, lane, limit)

    async def longest_waits(self) -> dict[Lane, timedelta]:
        """Return how long the first in each lane has been due and not taken."""
        return await asyncio.to_thread(self.longest_waits_now)

    def longest_waits_now(self) -> dict[Lane, timedelta]:
        """Return the same, to a thread that may wait for it."""
        return self._within(longest_waits)

    def lags_now(self) -> dict[str, timedelta]:
        """Return how far each reader of events is behind, to a thread that may wait for it."""
        return self._within(
            lambda conn: {one.name: one.lag or timedelta(0) for one in readers(conn)}
        )

    async def loss_counts(self) -> set[int]:
        """Return how often the suspects that are due were lost (3: so often or more)."""
        return await patiently(self._within, due_suspicions)

    async def claim_suspects(self, *, lost: int, limit: int) -> list[Claim]:
        """Take up to `limit` turns in quarantine that were lost so often."""
        return await patiently(self._taking.suspects, lost, limit)

    async def give_up(self, owner: str) -> None:
        """End the leases of a process that is known to be dead, instead of waiting for them."""
        try:
            await patiently(self._within, end_leases, owner)
        except StoreError as error:
            logger.warning("leases are left to run out: %s", error.code)

    async def settle(self, settlement: Settlement) -> Settled | Fenced:
        """Write the verdict, however often the store refuses: it may mean that, and still change.

        Cancelling the wait changes nothing: a verdict in hand is not dropped. What the store can
        never take fails its turn as `reply_unstorable`. Raises StoreError when a reply was kept for
        long enough, or when not even that failure can be stored.
        """
        deadline = asyncio.get_running_loop().time() + KEEP.total_seconds()
        found = await self._settle_once(settlement, deadline)
        if found is None:
            found = await calls.shielded(self._settle_in_the_end(settlement, deadline))
        return found

    async def _settle_in_the_end(self, settlement: Settlement, deadline: float) -> Settled | Fenced:
        found: Settled | Fenced | None = None
        pauses = chain(PAUSES, repeat(PAUSES[-1]))
        while found is None:
            await asyncio.sleep(next(pauses))
            found = await self._settle_once(settlement, deadline, again=True)
        return found

    async def _settle_once(
        self, settlement: Settlement, deadline: float, *, again: bool = False
    ) -> Settled | Fenced | None:
        """Try to write it; None where it may be written later."""
        settles = self._bulk_settles if settlement.bulk else self._settles
        try:
            found = await calls.finished(settles.begin(settlement))
            if again and isinstance(found, Fenced):
                found = await asyncio.to_thread(self._perhaps_ours, settlement, found)
        except (Stopped, Unstorable):
            raise
        except StoreError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            return None
        return None if isinstance(found, Locked) else found

    async def keep_late(self, settlement: Settlement) -> None:
        """Remember what a vendor keeps of a turn that was lost; in a statement of its own."""

        def keep() -> None:
            with self._database.begin() as conn:
                keep_late(conn, settlement)

        for pause in PAUSES:
            try:
                return await asyncio.to_thread(keep)
            except StoreError as error:
                code = error.code
                await asyncio.sleep(pause)
        # Nobody knows the ids but us: say so, by the turn and never by its content.
        logger.error(
            "what a vendor keeps of a lost turn could not be noted: %s",
            code,
            extra={"action": "kept_unnoted", "turn_id": str(settlement.turn_id)},
        )
        return None

    async def history(self, session_id: SessionId) -> StoredHistory:
        """Return the messages of all succeeded turns."""
        return await patiently(self._within, succeeded_history, session_id)

    async def history_after(self, session_id: SessionId) -> StoredHistory:
        """Return them without what is left out by now."""
        return await patiently(self._within, history_after, session_id)

    async def spoken(self, session_id: SessionId) -> Spoken:
        """Return what is not left out, turn by turn."""
        return await patiently(self._within, spoken, session_id)

    async def keep_compaction(self, claim: Claim, made: NewCompaction) -> bool:
        """Write down what is left out from now on."""

        def keep() -> bool:
            with self._database.begin() as conn:
                return keep_compaction(conn, claim, made)

        return await patiently(keep)

    async def mark_sent(self, claim: Claim) -> bool:
        """Note that the request is about to leave."""

        def mark() -> bool:
            with self._database.single() as conn:
                return mark_sent(conn, claim.turn_id, fence=claim.fence)

        return await patiently(mark)

    async def mark_target(self, claim: Claim) -> bool:
        """Note who is asked instead."""

        def mark() -> bool:
            with self._database.begin() as conn:
                return mark_target(conn, claim)

        return await patiently(mark)

    async def paused(self) -> frozenset[str]:
        """Return the providers that are paused now."""
        found: Pauses = await patiently(self._within, read_pauses)
        return found.providers

    def reserve(self, ask: Ask) -> Awaitable[Reserved]:
        """Reserve what a call may cost at the most."""
        return self._begins.reserve(ask)

    def _within(self, function: Callable[..., T], *args: object) -> T:
        with self._database.single() as conn:
            return function(conn, *args)

    def _new_settles(
        self, name: str, *, gathers: timedelta = timedelta(0)
    ) -> Grouped[Settlement, Settled | Fenced | Locked]:
        return Grouped(
            name,
            self._settle_group,
            most=_MOST,
            weigh=_weight_of,
            heaviest=_HEAVIEST,
            gathers=gathers,
        )

    def _settle_group(self, settlements: Sequence[Settlement]) -> list[_Written]:
        by_session: dict[SessionId, Settlement] = {}
        for settlement in settlements:
            by_session.setdefault(settlement.session_id, settlement)
        chosen = list(by_session.values())
        results = {id(one): result for one, result in zip(chosen, self._write(chosen), strict=True)}
        # A second verdict for a session is a zombie's or its successor's: in the next group.
        return [results.get(id(one), Locked(turn_id=one.turn_id)) for one in settlements]

    def _write(self, settlements: Sequence[Settlement]) -> Sequence[_Written]:
        """Write them together; where one may be to blame for a refusal, one by one."""
        try:
            written = self._commit(settlements)
        except (StoreUnavailable, SessionBusy) as error:
            self._note_refusal(error)
            raise
        except Exception as error:  # noqa: BLE001
            # Whatever one of them is made of, the replies of its neighbours are paid for.
            if len(settlements) > 1:
                return self._write_one_by_one(settlements)
            return [self._refused(settlements[0], error)]
        self._note_refusal(None)
        return written

    def _write_one_by_one(self, settlements: Sequence[Settlement]) -> Sequence[_Written]:
        written: list[_Written] = []
        for settlement in settlements:
            try:
                written += self._write([settlement])
            except (StoreUnavailable, SessionBusy) as error:
                # The others would meet the same: they are given again.
                return written + [error] * (len(settlements) - len(written))
        return written

    def _commit(self, settlements: Sequence[Settlement]) -> Sequence[_Written]:
        known = [one for one in settlements if one.counts_again]
        if not known:
            with self._database.single() as conn:
                return settle(conn, settlements)
        with self._database.begin() as conn:
            withdraw_estimates(conn, known)
            return settle(conn, settlements)

    def _refused(self, settlement: Settlement, error: Exception) -> _Written:
        """Fail a turn whose verdict can never be stored; return an error that may pass."""
        if not isinstance(error, _UNSTORABLE):
            refusal = error if isinstance(error, StoreError) else StoreError(type(error).__name__)
            self._note_refusal(refusal)
            return refusal
        logger.error(
            "the store refused a verdict: %s",
            error if isinstance(error, StoreError) else type(error).__name__,
            extra={"action": "settle_refused", "turn_id": str(settlement.turn_id)},
        )
        try:
            return self._commit([_without_content(settlement)])[0]
        except StoreError as again:
            return again

    def _note_refusal(self, error: StoreError | None) -> None:
        """Log that replies are kept, when the reason changes, and that they are written again."""
        code = None if error is None else error.code
        if code != self._refusal:
            self._refusal = code
            logger.warning("replies wait for the store: %s", error or "written again")

    def _perhaps_ours(self, settlement: Settlement, fenced: Fenced) -> Settled | Fenced:
        """Tell a commit that nobody acknowledged from a lease that was lost."""
        state = self._within(was_settled, settlement.turn_id, settlement.fence)
        if state is None:
            return fenced
        return Settled(turn_id=settlement.turn_id, state=state, due_at=None, next=None)


def _weight_of(settlement: Settlement) -> int:
    said = (part for message in settlement.replies for part in message.parts)
    content = sum(_bytes_of(text) for part in said for text in strings_of(part))
    return content + _bytes_of(settlement.partial) + _bytes_of(settlement.error_detail)


def _bytes_of(text: object) -> int:
    """Return how many bytes a text takes at the most; its length is known, and is not counted."""
    if not isinstance(text, str):
        return 0  # or nothing at all: the store will refuse it, and its neighbours go on
    return len(text) if text.isascii() else 4 * len(text)


def _without_content(settlement: Settlement) -> Settlement:
    """Return the verdict without a word of anybody's: its reply is lost, and its turn has failed.

    A turn that is to be tried again, or was to end anyhow, comes to that.
    """
    loses = settlement.state in (TurnState.SUCCEEDED, TurnState.WAITING)
    return Settlement(
        turn_id=settlement.turn_id,
        session_id=settlement.session_id,
        fence=settlement.fence,
        state=TurnState.FAILED if loses else settlement.state,
        outcome="failed" if loses else settlement.outcome,
        gives_attempt_back=settlement.gives_attempt_back and not loses,
        delay=settlement.delay,
        error_code=UNSTORABLE if loses else settlement.error_code,
        provider_ms=settlement.provider_ms,
        kept=[one for one in settlement.kept if storable(one.ref) == one.ref],
        has_calls=settlement.has_calls,
        budgeted=settlement.budgeted,
        unsettled=settlement.budgeted,
        batched=settlement.batched,
    )

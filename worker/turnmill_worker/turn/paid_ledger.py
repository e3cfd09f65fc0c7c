"""A ledger that books what was paid for and came back to nobody: its turn was lost, or is gone."""

import asyncio
import logging
from collections.abc import Callable

from turnmill.domain.errors import StoreError
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.store.compaction_records import NewCompaction
from turnmill.store.line.late import book_late, book_part, has_used
from turnmill.store.records import Claim, Fenced, Settled, Settlement
from turnmill_worker.providers import calls
from turnmill_worker.providers.boundary import attempted, cost_of
from turnmill_worker.providers.figures import figures
from turnmill_worker.providers.own_prices import Prices
from turnmill_worker.providers.port import Done
from turnmill_worker.turn.ledger import GroupedLedger
from turnmill_worker.turn.patience import PAUSES

logger = logging.getLogger("turnmill.ledger")

#: What comes to a failure where the tables do not take it.
_ANSWERED = (TurnState.SUCCEEDED, TurnState.WAITING)


class PaidLedger(GroupedLedger):
    """The ledger of one process, which lets no money be forgotten."""

    async def settle(self, settlement: Settlement) -> Settled | Fenced:
        """Write the verdict; where it is nobody's any more, only what its call has cost.

        So it is where the tables take no word of it.
        """
        found = await super().settle(settlement)
        if isinstance(found, Fenced):
            is_unwritten = has_used(settlement) or settlement.budgeted
        else:
            failed = found.state is TurnState.FAILED
            is_unwritten = failed and settlement.state in _ANSWERED and has_used(settlement)
        if is_unwritten:
            await calls.shielded(self._book(book_late, settlement))
        return found

    async def keep_compaction(self, claim: Claim, made: NewCompaction) -> bool:
        """Write it down; where the turn is nobody's any more, only what it has cost."""
        kept = await super().keep_compaction(claim, made)
        if not kept and made.usage is not None:
            await self._book(book_part, _of_part(claim, made))
        return kept

    async def _book(self, book: Callable[..., bool], said: Settlement) -> None:
        """Do it, in a transaction of its own; what the store does not take is told in the log."""
        code = ""
        for pause in PAUSES:
            try:
                await asyncio.to_thread(self._booked, book, said)
                return
            except StoreError as error:
                code = error.code
            await asyncio.sleep(pause)
        logger.error(
            "what a call has cost whose turn was lost could not be booked: %s",
            code,
            extra={"action": "unbooked", "turn_id": str(said.turn_id)},
        )

    def _booked(self, book: Callable[..., bool], said: Settlement) -> None:
        with self._database.begin() as conn:
            book(conn, said)


def _of_part(claim: Claim, made: NewCompaction) -> Settlement:
    """Return what a part of a call has used, and no word of it."""
    return Settlement(
        turn_id=claim.turn_id,
        session_id=claim.session_id,
        fence=claim.fence,
        state=TurnState.CANCELLED,
        outcome="lost",
        model=claim.model,
        usage=made.usage,
        service_tier=made.service_tier,
        cost_usd=made.cost_usd,
        priced=made.cost_usd is not None,
        priced_by=made.priced_by,
        input_tokens=made.input_tokens,
        output_tokens=made.output_tokens,
        cached_tokens=made.cached_tokens,
        cache_write_tokens=made.cache_write_tokens,
        cache_write_1h_tokens=made.cache_write_1h_tokens,
    )


def spent_on(
    turn_id: TurnId, session_id: SessionId, provider: str, used: Done, prices: Prices
) -> Settlement:
    """Return what work has used and cost that was stopped, and no word of it."""
    usage, model = used.usage, used.model
    cost = cost_of(lambda: prices.price(provider, model, usage))
    source = attempted("a price list", lambda: prices.source(provider, model, usage.service_tier))
    return Settlement(
        turn_id=turn_id,
        session_id=session_id,
        fence=0,
        state=TurnState.CANCELLED,
        outcome="cancelled",
        model=model,
        usage=figures(usage.said),
        service_tier=usage.service_tier or None,
        cost_usd=cost,
        priced=cost is not None,
        priced_by=None if cost is None else source,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
    )

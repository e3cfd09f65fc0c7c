"""What a vendor has answered in a batch though its turn was cancelled there: it is paid for."""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection, and_, or_, select

from turnmill.domain.budgets import Period, Scope
from turnmill.domain.ids import TurnId
from turnmill.store.budget_records import Holder
from turnmill.store.codec import object_of
from turnmill.store.line.charges import charge_line
from turnmill.store.line.copies import is_of_trial
from turnmill.store.line.late import charge_freely, write_used
from turnmill.store.nouns.shards import Shard
from turnmill.store.postgres import batching
from turnmill.store.records import Claim, Settlement
from turnmill.store.rules.figures import mark_slots
from turnmill.store.rules.tallies import count_ended, count_no_more
from turnmill.store.schema.budget_tables import budgets
from turnmill.store.schema.tables import sessions, turns

#: Returns what a call of a turn has used, and cost.
Judge = Callable[[Claim], Settlement]


def book_late(
    conn: Connection,
    shard: Shard,
    turn_ids: Sequence[TurnId],
    judge: Judge,
    *,
    owner: str,
    tags: Sequence[str],
) -> int:
    """Book what turns have cost that were cancelled, or expired, in this shard; return how many.

    Each gets the attempt that its vendor has made, once: who comes second finds it out of the
    shard. The turn stays as it has ended, and says nothing. The caller's transaction.
    """
    name = str(shard.id)
    mine = batching.late_in(conn, turn_ids, shard=name)
    if not mine:
        return 0
    mark_slots(conn, turns.c.id.in_(mine))
    # What one has spent is counted with its end: that is taken back, and counted anew.
    count_no_more(conn, turns.c.id.in_(mine), runs_again=True)
    for claim in batching.take_late(conn, mine, shard=name, owner=owner, begun=shard.begun_at):
        settlement = judge(claim)
        write_used(conn, settlement)
        if claim.budgeted:
            _charge(conn, claim, shard.id, settlement.cost_usd, tags)
    count_ended(conn, mine)
    return len(mine)


def _charge(
    conn: Connection, claim: Claim, shard_id: UUID, cost: Decimal | None, tags: Sequence[str]
) -> None:
    """Let the budgets of the turn know, whether or not they hold anything for it."""
    held = charge_line(conn, claim.turn_id, shard_id, cost)
    if not cost:
        return
    mine = or_(
        *(
            and_(
                budgets.c.scope == one.scope,
                budgets.c.name == one.name,
                budgets.c.value == one.value,
            )
            for one in _holders(conn, claim, tags)
        )
    )
    found = conn.execute(select(budgets).where(mine, budgets.c.period != Period.TURN)).all()
    periods = {one.id: one.n for one in found if one.id not in held}
    charge_freely(conn, claim.turn_id, claim.fence, periods, cost)


def _holders(conn: Connection, claim: Claim, tags: Sequence[str]) -> Iterator[Holder]:
    yield Holder(Scope.ALL)
    if not conn.scalar(select(is_of_trial(turns.c.batch_id)).where(turns.c.id == claim.turn_id)):
        yield Holder(Scope.USER, claim.user_id)  # who has not asked for a trial
    yield Holder(Scope.SESSION, str(claim.session_id))
    yield Holder(Scope.BATCH, str(claim.batch_id))
    if not tags:
        return
    row = conn.execute(
        select(turns.c.metadata, sessions.c.metadata.label("of_session"))
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(turns.c.id == claim.turn_id)
    ).one()
    said = {**object_of(row.of_session), **object_of(row.metadata)}
    for tag in tags:
        if isinstance(value := said.get(tag), str):
            yield Holder(Scope.TAG, tag, value)

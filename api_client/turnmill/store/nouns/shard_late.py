"""What a vendor has answered in a batch though its turn was cancelled there: it is paid for."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, insert, literal, or_, select

from turnmill.domain.budgets import Scope, tag_said
from turnmill.domain.ids import TurnId
from turnmill.new_ids import new_id
from turnmill.store.budget_records import Holder
from turnmill.store.codec import object_of
from turnmill.store.line.charges import charge_line, lock_money
from turnmill.store.line.copies import is_of_trial
from turnmill.store.line.going import Under
from turnmill.store.line.late import charge_freely, write_used
from turnmill.store.nouns.shards import Shard
from turnmill.store.postgres import batching
from turnmill.store.records import Claim, Settlement
from turnmill.store.rules.endings import in_chunks
from turnmill.store.rules.figures import kept_tag, mark_slots, tag_of
from turnmill.store.rules.tallies import count_ended, count_no_more
from turnmill.store.schema.budget_tables import budgets
from turnmill.store.schema.rollup_tables import calls_gone
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
    bounds = budgets_of(conn, mine, tags)
    periods = lock_money(conn, mine, {one for ids in bounds.values() for one in ids})
    mark_slots(conn, turns.c.id.in_(mine))
    # What one has spent is counted with its end: that is taken back, and counted anew.
    count_no_more(conn, turns.c.id.in_(mine), runs_again=True)
    for claim in batching.take_late(conn, mine, shard=name, owner=owner, begun=shard.begun_at):
        settlement = judge(claim)
        write_used(conn, settlement)
        held = charge_line(conn, claim.turn_id, shard.id, settlement.cost_usd)
        if settlement.cost_usd:  # whether or not the others hold anything for it
            others = bounds[claim.turn_id] & periods.keys() - held
            of_turn = {one: periods[one] for one in others}
            charge_freely(conn, claim.turn_id, claim.fence, of_turn, settlement.cost_usd)
    count_ended(conn, mine)
    return len(mine)


def note_lines(
    conn: Connection,
    turn_ids: Sequence[TurnId],
    shard: Shard,
    *,
    tags: Sequence[str],
    twin: tuple[UUID, int] | None = None,
) -> None:
    """Write down that lines of a shard may be answered, and that no turn will know of it.

    Of its `twin`, by its id and number, where that one may answer them. See `book_lines`.
    """
    shard_id, n = twin or (shard.id, shard.n)
    tag = tag_of(kept_tag(conn)).label("tag")
    for some in in_chunks(turn_ids):
        bounds = budgets_of(conn, some, tags)
        rows = conn.execute(
            select(
                literal(Under.LINE.value).label("kind"),
                turns.c.id.label("turn_id"),
                literal(-n).label("fence"),  # of no claim, and of no other shard of the batch
                *(turns.c.lane, turns.c.batch_id, tag),
            ).where(turns.c.id.in_(some))
        )
        of_all = {"shard_id": shard_id, "provider": shard.provider, "model": shard.model}
        lines = [
            dict(row) | of_all | {"id": new_id(), "budget_ids": [*map(str, bounds[row["turn_id"]])]}
            for row in rows.mappings()
        ]
        conn.execute(insert(calls_gone), lines)


def budgets_of(
    conn: Connection, turn_ids: Sequence[TurnId], tags: Sequence[str]
) -> dict[TurnId, set[UUID]]:
    """Return the budgets of each of these turns."""
    rows = conn.execute(
        select(
            *(turns.c.id, turns.c.session_id, turns.c.batch_id, turns.c.metadata),
            *(sessions.c.user_id, sessions.c.metadata.label("of_session")),
            is_of_trial(turns.c.batch_id).label("of_trial"),
        )
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(turns.c.id.in_(turn_ids))
    ).all()
    holders = {row.id: set(_holders(row, tags)) for row in rows}
    b, names = budgets.c, defaultdict[Scope, set[str]](set)
    for one in set().union(*holders.values()):
        names[one.scope].add(one.name)
    whose = or_(*(and_(b.scope == scope, b.name.in_(of)) for scope, of in names.items()))
    found = defaultdict[Holder, set[UUID]](set)
    for row in conn.execute(select(b.id, b.scope, b.name, b.value).where(whose)):
        found[Holder(Scope(row.scope), row.name, row.value)].add(row.id)
    return {
        TurnId(turn_id): set().union(*(found.get(one, ()) for one in mine))
        for turn_id, mine in holders.items()
    }


def _holders(row: Any, tags: Sequence[str]) -> Iterator[Holder]:
    yield Holder(Scope.ALL)
    if not row.of_trial:
        yield Holder(Scope.USER, row.user_id)  # who has not asked for a trial
    yield Holder(Scope.SESSION, str(row.session_id))
    yield Holder(Scope.BATCH, str(row.batch_id))
    of_turn, of_session = object_of(row.metadata), object_of(row.of_session)
    for tag in tags:
        value = tag_said(tag, of_turn=of_turn, of_session=of_session)
        if value is not None:
            yield Holder(Scope.TAG, tag, value)

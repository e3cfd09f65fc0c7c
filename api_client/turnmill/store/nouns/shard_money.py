"""What lines of a shard may cost: held before a vendor is asked for them, in all of their budgets.

It is charged, or comes back, with what becomes of each: see `shard_moves` and `shard_late`; what is
left comes back with the end of the shard.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from sqlalchemy import Connection

from turnmill.domain.ids import TurnId
from turnmill.store.budget_records import Ask, Reserved
from turnmill.store.nouns.awaited_budgets import awaited
from turnmill.store.nouns.shards import Shard
from turnmill.store.postgres import batching, charging


def hold(
    conn: Connection, shard: Shard, most: Mapping[TurnId, Decimal | None], *, tags: Sequence[str]
) -> dict[TurnId, Reserved]:
    """Reserve what these lines may cost at the most, each for itself, and tell what came of each.

    Again changes nothing. One that has left the shard is FENCED. One statement.
    """
    # No claim has it, and no other shard of the batch.
    asks = [Ask(turn_id=one, fence=-shard.n, amount_usd=usd) for one, usd in most.items()]
    told = charging.reserve_lines(conn, asks, shard=shard.id, tags=tags)
    return {ask.turn_id: one for ask, one in zip(asks, told, strict=True)}


def put_off(conn: Connection, shard: Shard, turn_ids: Sequence[TurnId], *, wait: timedelta) -> None:
    """Park lines again that no budget has room for: no shard takes them for so long."""
    batching.put_off(conn, turn_ids, shard=str(shard.id), wait=wait)


def waits_for_its_own(conn: Connection, turn_id: TurnId) -> bool:
    """Tell whether it is the batch's own budget that a turn waits for: the others begin anew."""
    found = awaited(conn, [turn_id]).get(turn_id)
    return found is not None and found.is_of_batch

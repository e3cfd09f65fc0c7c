"""Taking turns out of shards: each is settled in the transaction that takes it."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from sqlalchemy import Connection

from turnmill.domain.ids import TurnId
from turnmill.domain.states import FOR_BATCH
from turnmill.store.line.settle import settle
from turnmill.store.nouns.shard_late import note_lines
from turnmill.store.nouns.shards import Shard
from turnmill.store.postgres import batching, charging
from turnmill.store.records import Claim, Locked, Settlement

#: Of a turn that is settled where it is taken: nobody sees it.
_LEASE = timedelta(minutes=1)

#: Returns what is to be written of a turn.
Judge = Callable[[Claim], Settlement]


def settle_out_of(
    conn: Connection,
    shard: Shard | None,
    turn_ids: Sequence[TurnId],
    judge: Judge,
    *,
    owner: str,
    tags: Sequence[str],
    may_come: bool = False,
) -> int:
    """Settle those of the turns that are in the shard (None: parked, and in none); return how many.

    Who comes second finds none of them there. What is to wait for another shard is parked again.
    Where results of them `may_come` after all, that is written down: what they cost is paid for.
    """
    claims = batching.take(
        conn,
        turn_ids,
        shard="" if shard is None else str(shard.id),
        owner=owner,
        lease=_LEASE,
        begun=None if shard is None else shard.begun_at,
    )
    if not claims:
        return 0
    if may_come and shard is not None:
        note_lines(conn, [one.turn_id for one in claims], shard, tags=tags)
    settlements = [judge(claim) for claim in claims]
    if paid := [one for one in claims if one.budgeted]:
        charging.bring(conn, paid, shard=None if shard is None else shard.id, tags=tags)
    written = settle(conn, settlements)
    # The sessions are ours, and nobody has moved them: none of it is passed over.
    assert not any(isinstance(one, Locked) for one in written)
    if again := [one.turn_id for one in settlements if one.waits_for == FOR_BATCH]:
        batching.park(conn, again)
    return len(claims)

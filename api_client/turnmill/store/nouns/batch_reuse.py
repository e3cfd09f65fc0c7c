"""Answers of earlier batches, taken for equal lines of the same owner's: paid for once."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, and_, func, select, update

from turnmill.domain.batches import LineState
from turnmill.domain.ids import BatchId
from turnmill.domain.states import SessionStatus, TurnState
from turnmill.store.line.content import is_gone
from turnmill.store.rules.sealing import hashes_for
from turnmill.store.rules.tallies import REUSED, count_lines
from turnmill.store.schema.batch_tables import batch_lines, reuse_keys
from turnmill.store.schema.tables import batches, sessions, turns
from turnmill.store.types import insert_into

#: Whose key lines are hashed with that are of a batch without an owner.
NOBODYS = ""


def secret_of(conn: Connection, owner: str | None, *, new: bytes) -> bytes:
    """Return what lines of the owner's batches are hashed with: made of `new`, if there is none.

    Where content is encrypted, what stands here is not enough to make it: it stands beside hashes.
    """
    name = owner or NOBODYS
    row = insert_into(conn, reuse_keys).values(user_id=name, key=new)
    conn.execute(row.on_conflict_do_nothing())
    key = conn.scalars(select(reuse_keys.c.key).where(reuse_keys.c.user_id == name)).one()
    return hashes_for(conn, owner, bytes(key))[0]


def take_answers(
    conn: Connection, batch_id: BatchId, owner: str | None, lines: Collection[int]
) -> set[int]:
    """Give these lines the answers that equal ones have of the owner's other batches, for nothing.

    Returns those that have one now. The caller's transaction holds the batch's row.
    """
    found = conn.execute(_answered(batch_id, owner, lines)).all()
    for line, turn_id in found:
        mine = (batch_lines.c.batch_id == batch_id, batch_lines.c.line == line)
        values = {"state": LineState.REUSED.value, "content": None, "metadata": None}
        values["reused_from"] = turn_id
        conn.execute(update(batch_lines).where(*mine).values(**values))
    if found:
        count_lines(conn, batch_id, REUSED, len(found))
    return {line for line, _ in found}


def _answered(batch_id: BatchId, owner: str | None, lines: Collection[int]) -> Any:
    """Return each line, and the newest answer to an equal one that somebody may still read."""
    mine, other = batch_lines.alias("mine"), batch_lines.alias("other")
    answer = func.coalesce(other.c.turn_id, other.c.reused_from)
    rank = func.row_number().over(partition_by=mine.c.line, order_by=turns.c.id.desc())
    ranked = (
        select(mine.c.line, turns.c.id.label("turn_id"), rank.label("rank"))
        .join(other, and_(other.c.key == mine.c.key, other.c.key.is_not(None)))
        .join(batches, batches.c.id == other.c.batch_id)
        .join(turns, turns.c.id == answer)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(
            mine.c.batch_id == batch_id,
            mine.c.line.in_(lines),
            mine.c.state == LineState.STAGED,
            other.c.batch_id != batch_id,
            batches.c.user_id.is_not_distinct_from(owner),
            turns.c.state == TurnState.SUCCEEDED,
            sessions.c.status != SessionStatus.DELETED,
            ~is_gone(),
        )
        .subquery()
    )
    return select(ranked.c.line, ranked.c.turn_id).where(ranked.c.rank == 1)

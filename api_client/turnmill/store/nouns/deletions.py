"""What has become of sessions that were deleted, or purged."""

from collections.abc import Collection, Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, false, func, or_, select

from turnmill.domain.batches import NOT_DELETED
from turnmill.domain.errors import SessionNotFound
from turnmill.domain.ids import SessionId
from turnmill.domain.states import TurnState
from turnmill.store.deletion_records import DeletionReport, Gone, Impossible, Pending
from turnmill.store.nouns.holds import not_on_hold
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.schema.belongings import BELONGINGS, Belonging, Goes
from turnmill.store.schema.life_tables import tombstones
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import Timestamp

_shard = batch_shards.c

_WHY = {
    "batch_shards": "its vendor was asked in vain: it is deleted there in the vendor's own time",
    "adopted_response": "the session went on with it, and others may: it was never its own",
}


def report_of(conn: Connection, session_id: SessionId) -> DeletionReport:
    """Return what became of the session so far. Raises SessionNotFound where none was deleted."""
    row = conn.execute(
        select(tombstones).where(tombstones.c.session_id == session_id)
    ).one_or_none()
    if row is None:
        raise SessionNotFound("no session of this id was deleted, or its report is forgotten")
    return DeletionReport(
        session_id=session_id,
        how=Gone(row.how),
        at=row.at,
        rows=row.rows,
        pending=[*_running(conn, row), *_elsewhere(conn, session_id), *in_shards(conn, [row])],
        impossible=[
            *(impossible_of(one) for one in row.left_behind),
            *stays_in_shards(conn, [row]),
        ],
    )


def _running(conn: Connection, row: Any) -> Iterator[Pending]:
    """Yield the turn after which the rows go, and the hold after which they do."""
    if row.removed_at is not None:
        return
    held = select(sessions.c.id).where(sessions.c.id == row.session_id, ~not_on_hold())
    is_held = conn.execute(held).first() is not None
    if is_held:
        yield Pending(what="legal hold", count=1)
    until = conn.scalar(
        select(func.max(turns.c.lease_until, type_=Timestamp)).where(
            turns.c.session_id == row.session_id, turns.c.state == TurnState.RUNNING
        )
    )
    if until is not None or not is_held:
        yield Pending(what="running turn", count=1, due_at=until)


def _elsewhere(conn: Connection, session_id: SessionId) -> Iterator[Pending]:
    for one in BELONGINGS:
        if one.goes is Goes.ELSEWHERE:
            yield from left_at_vendors(conn, one, one.of_sessions([session_id]))


def left_at_vendors(
    conn: Connection, one: Belonging, which: ColumnElement[bool]
) -> Iterator[Pending]:
    """Yield what is left of it, by provider: when the first of them is tried, and what fails."""
    of = one.table.c
    query = select(
        of.provider,
        func.count(),
        func.min(of.due_at, type_=Timestamp),
        func.max(of.tries),
        func.max(of.error_code),
    )
    rows = conn.execute(query.where(which).group_by(of.provider))
    for provider, count, due_at, tries, error_code in rows:
        yield Pending(
            what=one.table.name,
            count=count,
            provider=provider,
            due_at=due_at,
            tries=tries,
            error_code=error_code,
        )


def in_shards(conn: Connection, tombstones_: Collection[Any]) -> Iterator[Pending]:
    """Yield the batches of vendors in which something of these sessions may stand yet."""
    query = select(
        _shard.provider,
        func.count(),
        func.min(_shard.due_at, type_=Timestamp),
        func.max(_shard.tries),
    ).where(_of(tombstones_), _shard.due_at.is_not(None))
    for provider, count, due_at, tries in conn.execute(query.group_by(_shard.provider)):
        yield Pending(
            what=batch_shards.name, count=count, provider=provider, due_at=due_at, tries=tries
        )


def stays_in_shards(conn: Connection, tombstones_: Collection[Any]) -> Iterator[Impossible]:
    """Yield those that their vendor did not delete, however often it was asked."""
    given_up = and_(_of(tombstones_), _shard.error_code == NOT_DELETED)
    for row in conn.execute(select(_shard.provider, _shard.ref).where(given_up)):
        yield Impossible(
            what=batch_shards.name, why=_WHY[batch_shards.name], provider=row.provider, ref=row.ref
        )


def _of(tombstones_: Collection[Any]) -> ColumnElement[bool]:
    """Return which shards may hold something of these: they were there when the rows went."""
    until: dict[str, Any] = {}
    for one in tombstones_:
        for batch in one.batches or ():
            until[batch] = max(one.removed_at, until.get(batch, one.removed_at))
    return or_(
        *(
            and_(_shard.batch_id == UUID(batch), _shard.created_at <= at)
            for batch, at in until.items()
        ),
        false(),
    )


def impossible_of(one: Any) -> Impossible:
    """Return what a tombstone says of something that no deletion reaches."""
    return Impossible(
        what=one["what"],
        why=_WHY.get(one["what"], "nobody here can delete it"),
        provider=one.get("provider"),
        ref=one.get("ref"),
    )

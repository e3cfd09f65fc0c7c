"""What has become of users who were erased, or are to be."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, func, select

from turnmill.domain.errors import UserNotFound
from turnmill.domain.ids import hash_of_user
from turnmill.domain.states import BackupState, ErasureState, SessionStatus, TurnState
from turnmill.store.deletion_records import (
    GRACE_PERIOD,
    Backups,
    ErasureReport,
    Gone,
    Pending,
)
from turnmill.store.nouns.deletions import (
    impossible_of,
    in_shards,
    left_at_vendors,
    stays_in_shards,
)
from turnmill.store.nouns.users import is_known
from turnmill.store.schema.belongings import BELONGINGS, Belonging, Goes
from turnmill.store.schema.erasure_tables import erasures
from turnmill.store.schema.file_tables import attachments
from turnmill.store.schema.life_tables import tombstones
from turnmill.store.schema.people_tables import turn_senders
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import Timestamp, db_asof


def report_of(conn: Connection, user_id: str) -> ErasureReport:
    """Return what became of the user so far. Raises UserNotFound where none was to be erased."""
    row = conn.execute(
        select(erasures, (erasures.c.streams_until > db_asof()).label("streamed")).where(
            erasures.c.user_hash == hash_of_user(user_id)
        )
    ).one_or_none()
    if row is None:
        raise UserNotFound("no user of this id was erased, nor is to be")
    rows, left = Counter(row.rows), list(row.left_behind)
    gone = conn.execute(_with_batches(row)).all()
    if row.state == ErasureState.ERASING:
        for went in conn.execute(_of_sessions(row)):
            rows.update(went.rows)
            left += went.left_behind
    return ErasureReport(
        user_id=user_id,
        how=Gone.ERASED,
        at=row.begun_at or row.due_at,
        rows=dict(rows),
        pending=[*_pending(conn, user_id, row), *in_shards(conn, gone)],
        impossible=[*map(impossible_of, left), *stays_in_shards(conn, gone)],
        backups=_backups(conn, user_id, row),
    )


def _of_sessions(row: Any) -> Any:
    return select(tombstones.c.rows, tombstones.c.left_behind).where(
        tombstones.c.user_hash == row.user_hash, tombstones.c.removed_at >= row.begun_at
    )


def _with_batches(row: Any) -> Any:
    """Select what is left of the user's sessions of which vendors had lines."""
    return select(tombstones.c.batches, tombstones.c.removed_at).where(
        tombstones.c.user_hash == row.user_hash,
        tombstones.c.removed_at.is_not(None),
        tombstones.c.batches.is_not(None),
    )


def _backups(conn: Connection, user_id: str, row: Any) -> Backups:
    if row.state == ErasureState.ERASED and is_known(conn, user_id):
        return Backups(state=BackupState.REPLAY_DUE)
    if row.shredded:
        return Backups(state=BackupState.SHREDDED)
    return Backups(until=row.readable_until)


def _pending(conn: Connection, user_id: str, row: Any) -> Iterator[Pending]:
    """Yield what is left for now: here, in the file store, in a Redis, and at vendors."""
    if row.state == ErasureState.WAITING:
        yield Pending(what=GRACE_PERIOD, count=1, due_at=row.due_at)
    if row.state == ErasureState.ERASING:
        yield from _rows_left(conn, user_id)
    if row.streamed:
        yield Pending(what="streams", count=1, due_at=row.streams_until)
    gone = select(tombstones.c.session_id).where(tombstones.c.user_hash == row.user_hash)
    for one in BELONGINGS:
        if one.table is tombstones or one.session is None:
            continue
        if one.goes is Goes.ELSEWHERE:
            yield from left_at_vendors(conn, one, one.session.in_(gone))
        elif one.goes is Goes.LATER:
            yield from _left_for_now(conn, one, gone)


def _rows_left(conn: Connection, user_id: str) -> Iterator[Pending]:
    """Yield what an erasure that goes on has not come to yet."""
    mine = sessions.c.user_id == user_id
    found = conn.scalar(select(func.count()).select_from(sessions).where(mine))
    running = turns.c.state == TurnState.RUNNING
    until = conn.scalar(
        select(func.max(turns.c.lease_until, type_=Timestamp))
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(mine, sessions.c.status == SessionStatus.DELETED, running)
    )
    if found:
        yield Pending(what=sessions.name, count=found, due_at=until)
    files = conn.scalar(
        select(func.count()).select_from(attachments).where(attachments.c.user_id == user_id)
    )
    if files:
        yield Pending(what=attachments.name, count=files)
    said = conn.scalar(
        select(func.count()).select_from(turn_senders).where(turn_senders.c.name == user_id)
    )
    if said:
        yield Pending(what=turn_senders.name, count=said)
    if not (found or files or said):
        yield Pending(what="transactions that began before", count=1)


def _left_for_now(conn: Connection, one: Belonging, gone: Any) -> Iterator[Pending]:
    """Yield ids and figures that upkeep removes when nobody needs them any more."""
    assert one.session is not None
    found = select(func.count()).select_from(one.table).where(one.session.in_(gone))
    if count := conn.scalar(found):
        yield Pending(what=one.table.name, count=count)

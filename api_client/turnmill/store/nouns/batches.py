"""Batches: jobs of many turns, made, found, locked and counted."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, or_, select

from turnmill.domain.batches import BatchMode, BatchState
from turnmill.domain.errors import BatchNotFound, Conflict
from turnmill.domain.ids import BatchId, SessionId
from turnmill.domain.states import SessionStatus
from turnmill.store.batch_records import BatchRecord
from turnmill.store.nouns.batch_counts import counts as counts
from turnmill.store.nouns.batch_counts import waiting_for_budget
from turnmill.store.readable import read_page
from turnmill.store.rules.sealing import settings_of
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.tables import batches, sessions
from turnmill.store.types import insert_into
from turnmill.store.vaults import closed, plain


def create(
    conn: Connection,
    batch_id: BatchId,
    *,
    name: str,
    hashes: Sequence[bytes],
    metadata: Mapping[str, Any],
    **options: Any,
) -> BatchRecord:
    """Create the batch, or return the one of this name; Conflict when it has other content.

    `hashes` are of it, first how it is written, then how it was before; none: nobody knows yet.
    """
    # Whose lines there are is known when all of them stand: see `one_user_of`.
    settings = options.pop("settings", None) or {}
    said = settings_of(conn, options.get("user_id"), batches.c.settings, batch_id.hex, settings)
    values = {"id": batch_id, "name": name, "content_hash": hashes[0] if hashes else b"", **options}
    new = insert_into(conn, batches).values(metadata=dict(metadata), settings=said, **values)
    named, row = select(batches).where(batches.c.name == name), None
    while row is None:  # where one of the name stood, and was removed just now: once more
        conn.execute(new.on_conflict_do_nothing(index_elements=[batches.c.name]))
        row = conn.execute(named).one_or_none()
    if hashes:
        refuse_other(row, hashes)
    return record_of(row)


def one_user_of(conn: Connection, batch_id: BatchId) -> str | None:
    """Return whose all lines of the batch are; None: several users', or nobody knows."""
    users = select(func.min(batch_lines.c.user_id), func.max(batch_lines.c.user_id))
    first, last = conn.execute(users.where(batch_lines.c.batch_id == batch_id)).one()
    return first if first == last else None


def name_of(conn: Connection, label: str, hashes: Sequence[bytes]) -> str:
    """Return the name of a batch that is given none: by its content, or as it was before."""
    now, *before = (f"{label}{one.hex()[:12]}" for one in hashes)
    stands = select(batches.c.name).where(batches.c.name.in_(before)).limit(1)
    return (conn.scalar(stands) if before else None) or now


def refuse_other(row: Row[Any], hashes: Sequence[bytes]) -> None:
    """Raise Conflict where the row of a batch is of other content."""
    if bytes(row.content_hash) not in hashes:
        raise Conflict("a batch of this name has other content", hint="give the batch another name")


def get(conn: Connection, batch: BatchId | str) -> BatchRecord:
    """Return the batch of this id or name, or raise BatchNotFound."""
    column = batches.c.name if isinstance(batch, str) else batches.c.id
    row = conn.execute(select(batches).where(column == batch)).one_or_none()
    if row is None:
        raise BatchNotFound()
    return record_of(row)


def find(conn: Connection, *, after: BatchId | None = None, limit: int = 100) -> list[BatchRecord]:
    """Return up to `limit` batches, newest first; `after` is the last id of the page before.

    With how many lines of each wait for a budget.
    """
    query = select(batches, waiting_for_budget().label("waiting_for_budget"))
    if after is not None:
        query = query.where(batches.c.id < after)
    return read_page(conn, query, record_of, by=batches.c.id, limit=limit)


def locked(conn: Connection, batch_id: BatchId) -> BatchRecord:
    """Lock the batch, before any session, and return it; raises BatchNotFound.

    Whoever looks into its settings is told there why they cannot be opened.
    """
    query = select(batches).where(batches.c.id == batch_id).with_for_update(key_share=True)
    row = conn.execute(query).one_or_none()
    if row is None:
        raise BatchNotFound()
    return record_of(row, opens=False)


def open_sessions(
    conn: Connection, refs: Collection[SessionId | str]
) -> dict[SessionId | str, tuple[SessionId, str]]:
    """Return id and user of the sessions, given by id or key, that take messages."""
    ids = [ref for ref in refs if isinstance(ref, UUID)]
    keys = [ref for ref in refs if isinstance(ref, str)]
    takes_messages = sessions.c.status.in_((SessionStatus.ACTIVE, SessionStatus.PAUSED))
    found: dict[SessionId | str, tuple[SessionId, str]] = {}
    for row in conn.execute(
        select(sessions.c.id, sessions.c.key, sessions.c.user_id).where(
            or_(sessions.c.id.in_(ids), sessions.c.key.in_(keys)), takes_messages
        )
    ):
        found[SessionId(row.id)] = (SessionId(row.id), row.user_id)
        if row.key is not None:
            found[row.key] = (SessionId(row.id), row.user_id)
    return found


def record_of(row: Row[Any], *, opens: bool = True) -> BatchRecord:
    """Return the record of a row of all columns.

    Settings that cannot be opened raise, or, where it `opens` nothing, do so when looked into.
    """
    said: dict[str, Any] = {
        name: getattr(row, name, None) for name in BatchRecord.__dataclass_fields__
    }
    said |= {"state": BatchState(row.state), "mode": BatchMode(row.mode)}
    said |= {"settings": plain(row.settings) if opens else closed(row.settings)}
    return BatchRecord(**said)

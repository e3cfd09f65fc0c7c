"""What vendors keep, by their own ids: remembered when it is known, given up when nobody needs it.

A row stands from the commit that makes an id known until the vendor has deleted what it names. It
belongs to no session's rows, so it outlives them. Marked rows are taken by any worker, several
times if need be: asking a vendor twice to stop or to delete does no harm.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    false,
    func,
    or_,
    select,
    true,
    tuple_,
    update,
)

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import SessionStatus
from turnmill.store.records import Settlement
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.tables import sessions
from turnmill.store.types import Timestamp, db_after, db_asof, db_asof_after, db_now, insert_into

_LOOKED_BACK = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRef:
    """Something at a vendor that is to be given up."""

    session_id: SessionId
    ref: str
    provider: str
    stored: bool  #: delete it
    running: bool  #: stop it first
    turn_id: TurnId | None = None  #: it was made in; None: only the session is known
    tries: int  #: this one included


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What is still to be given up at one vendor."""

    provider: str
    count: int
    since: datetime
    error_code: str | None  #: why the last try of one of them failed; None: none has failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What vendors keep of a session."""

    count: int
    unwanted_at: datetime | None  #: since when it is to be deleted there; None: the session goes on


def keep_late(conn: Connection, settlement: Settlement) -> None:
    """Remember what came back to an owner that has lost its turn; nobody will continue from it.

    What is known already was settled by somebody, and stays as it is.
    """
    for one in settlement.kept:
        current = select(sessions.c.id).where(
            sessions.c.id == settlement.session_id, sessions.c.provider_ref == one.ref
        )
        if conn.execute(current).first() is None:
            statement = insert_into(conn, kept_refs).values(
                session_id=settlement.session_id,
                ref=one.ref,
                provider=one.provider,
                turn_id=settlement.turn_id,
                stored=one.stored,
                running=one.running,
                unwanted_at=db_now(),
                due_at=db_now(),
            )
            conn.execute(statement.on_conflict_do_nothing())


def give_up_all(conn: Connection, session_ids: Collection[SessionId]) -> None:
    """Let go of everything that vendors keep of these sessions: they end.

    The caller holds the sessions' locks.
    """
    ids = list(session_ids)
    # Of a session that an older version worked on, the last id may stand in its own row only.
    heads = select(
        sessions.c.id, sessions.c.provider_ref, sessions.c.provider, true(), false()
    ).where(sessions.c.id.in_(ids), sessions.c.provider_ref != "")
    statement = insert_into(conn, kept_refs)
    names = ["session_id", "ref", "provider", "stored", "running"]
    conn.execute(statement.from_select(names, heads).on_conflict_do_nothing())
    _mark(conn, kept_refs.c.session_id.in_(ids))
    conn.execute(
        update(kept_refs)
        .where(kept_refs.c.session_id.in_(ids), kept_refs.c.unwanted_at > db_now())
        .values(due_at=db_now(), unwanted_at=db_now())  # uploads that nobody has told the end of
    )
    conn.execute(
        update(sessions)
        .where(sessions.c.id.in_(ids), sessions.c.provider_ref != "")
        .values(provider_ref="")
    )


def give_up_work(
    conn: Connection, session_ids: Collection[SessionId], turn_ids: Collection[TurnId]
) -> None:
    """Let vendors stop what they still do for these turns, which have ended.

    The caller holds the locks of their sessions.
    """
    if turn_ids:
        _mark(
            conn,
            and_(
                kept_refs.c.session_id.in_(list(session_ids)),
                kept_refs.c.turn_id.in_(list(turn_ids)),
                kept_refs.c.running,
            ),
        )


def give_up_missed(conn: Connection, *, limit: int = 1000) -> int:
    """Let go of up to `limit` things whose session ended without that; return how many.

    An older version archives and deletes without it, and so does whoever removes rows by hand.
    """
    ended = conn.scalars(
        select(sessions.c.id)
        .where(
            sessions.c.status == SessionStatus.ARCHIVED,
            sessions.c.archived_at > db_asof_after(-_LOOKED_BACK.total_seconds()),
            sessions.c.provider_ref != "",
        )
        .limit(limit)
    ).all()
    give_up_all(conn, [SessionId(one) for one in ended])
    missed = (
        select(kept_refs.c.session_id)
        .outerjoin(sessions, sessions.c.id == kept_refs.c.session_id)
        .where(
            kept_refs.c.due_at.is_(None),
            or_(sessions.c.id.is_(None), sessions.c.status == SessionStatus.ARCHIVED),
        )
        .limit(limit)
    )
    return _mark(conn, kept_refs.c.session_id.in_(missed)) + len(ended)


def is_due() -> ColumnElement[bool]:
    """Return whether anything is to be given up now, as a part of a query."""
    return select(kept_refs.c.ref).where(kept_refs.c.due_at <= db_asof()).exists()


def take_due(
    conn: Connection, *, again_after: timedelta, resting: Collection[str] = (), limit: int = 100
) -> list[KeptRef]:
    """Take up to `limit` that are due, but those at `resting` providers; the longest due first.

    Whoever takes them and dies has not lost them: they are due again after that time.
    """
    key = (kept_refs.c.session_id, kept_refs.c.ref)
    found = (
        select(*key)
        .where(kept_refs.c.due_at <= db_asof(), kept_refs.c.provider.not_in(list(resting)))
        .order_by(kept_refs.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    names = KeptRef.__dataclass_fields__
    rows = conn.execute(
        update(kept_refs)
        .where(tuple_(*key).in_(found))
        .values(due_at=db_after(again_after.total_seconds()), tries=kept_refs.c.tries + 1)
        .returning(*(kept_refs.c[name] for name in names))
    )
    return [KeptRef(**row._mapping) for row in rows]


def forget(conn: Connection, gone: Sequence[KeptRef]) -> None:
    """Note that these are gone at their vendors."""
    key = tuple_(kept_refs.c.session_id, kept_refs.c.ref)
    conn.execute(delete(kept_refs).where(key.in_([(one.session_id, one.ref) for one in gone])))


def put_off(conn: Connection, one: KeptRef, *, error_code: str, delay: timedelta) -> None:
    """Note why it could not be given up, and when that is tried again."""
    conn.execute(
        update(kept_refs)
        .where(kept_refs.c.session_id == one.session_id, kept_refs.c.ref == one.ref)
        .values(error_code=error_code, due_at=db_after(delay.total_seconds()))
    )


def backlog(conn: Connection) -> list[Backlog]:
    """Return what is still to be given up, by provider."""
    rows = conn.execute(
        select(
            kept_refs.c.provider,
            func.count(),
            func.min(kept_refs.c.unwanted_at, type_=Timestamp),
            func.max(kept_refs.c.error_code),
        )
        .where(kept_refs.c.due_at.is_not(None), kept_refs.c.unwanted_at <= db_asof())
        .group_by(kept_refs.c.provider)
        .order_by(kept_refs.c.provider)
    )
    return [
        Backlog(provider=provider, count=count, since=since, error_code=error_code)
        for provider, count, since, error_code in rows
    ]


def kept_of(conn: Connection, session_id: SessionId) -> Keeping:
    """Return how much vendors keep of the session."""
    row = conn.execute(
        select(func.count(), func.min(kept_refs.c.unwanted_at, type_=Timestamp)).where(
            kept_refs.c.session_id == session_id
        )
    ).one()
    return Keeping(count=row[0], unwanted_at=row[1])


def _mark(conn: Connection, which: ColumnElement[bool]) -> int:
    marked = conn.execute(
        update(kept_refs)
        .where(which, kept_refs.c.due_at.is_(None))
        .values(due_at=db_now(), unwanted_at=db_now())
    )
    return marked.rowcount

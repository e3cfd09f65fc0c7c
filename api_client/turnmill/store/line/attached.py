"""Which attachments turns hold: noted when they are accepted, let go when their session goes."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Connection, Uuid, and_, delete, literal, or_, select, update

from turnmill.domain.errors import AttachmentNotFound
from turnmill.domain.ids import SessionId, TurnId
from turnmill.store.schema.file_tables import attachment_uses, attachments
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.tables import sessions
from turnmill.store.types import db_now, insert_into

_row = attachments.c


def use(conn: Connection, session_id: SessionId, turn_id: TurnId, ids: Collection[UUID]) -> None:
    """Note that a turn holds these attachments, in the transaction that accepts it.

    Raises AttachmentNotFound for one that the session's user does not have, or no longer.
    """
    wanted = sorted(set(ids))
    of_session = select(sessions.c.user_id).where(sessions.c.id == session_id).scalar_subquery()
    mine = and_(_row.id.in_(wanted), _row.user_id == of_session, _row.ready, _row.gone_at.is_(None))
    rows = conn.execute(
        select(_row.id, _row.due_at).where(mine).order_by(_row.id).with_for_update()
    ).all()
    if len(rows) != len(wanted):
        raise AttachmentNotFound()
    if due := [row.id for row in rows if row.due_at is not None]:
        conn.execute(update(attachments).where(_row.id.in_(due)).values(due_at=None))
    values = [
        {"session_id": session_id, "turn_id": turn_id, "attachment_id": one} for one in wanted
    ]
    conn.execute(insert_into(conn, attachment_uses).on_conflict_do_nothing(), values)


def use_again(conn: Connection, of: TurnId, session_id: SessionId, turn_id: TurnId) -> None:
    """Note that a turn holds what another one holds whose messages it was given.

    In the transaction that makes it, and of the same user.
    """
    held = select(
        literal(session_id, Uuid).label("session_id"),
        literal(turn_id, Uuid).label("turn_id"),
        attachment_uses.c.attachment_id,
    ).where(attachment_uses.c.turn_id == of)
    names = ["session_id", "turn_id", "attachment_id"]
    conn.execute(insert_into(conn, attachment_uses).from_select(names, held))


def release(conn: Connection, session_ids: Collection[SessionId]) -> None:
    """Let what these sessions hold go as soon as nobody else uses it: they are being removed.

    The caller holds the sessions' locks, and removes them.
    """
    held = select(attachment_uses.c.attachment_id).where(
        attachment_uses.c.session_id.in_(list(session_ids))
    )
    ids = conn.scalars(held.distinct()).all()
    if ids:
        _make_due(conn, ids)


def release_turns(conn: Connection, turn_ids: Collection[TurnId]) -> None:
    """Let what these turns hold go as soon as nobody else uses it: their content is removed.

    So do copies that vendors keep of it for their session, unless other turns of that hold it.
    """
    of_turns = attachment_uses.c.turn_id.in_(list(turn_ids))
    use = attachment_uses.c
    gone = delete(attachment_uses).where(of_turns).returning(use.session_id, use.attachment_id)
    if released := {(SessionId(row[0]), row[1]) for row in conn.execute(gone)}:
        _make_due(conn, {one for _, one in released})
        _give_up_copies(conn, released)


def _give_up_copies(conn: Connection, released: Collection[tuple[SessionId, UUID]]) -> None:
    """Let go of what vendors keep for a session of what no turn of it holds any more."""
    mine = attachment_uses.c.session_id.in_({session_id for session_id, _ in released})
    held = select(attachment_uses.c.session_id, attachment_uses.c.attachment_id).where(mine)
    still = {(SessionId(row[0]), row[1]) for row in conn.execute(held)}
    for session_id, attachment_id in sorted(set(released) - still):
        conn.execute(
            update(kept_refs)
            .where(
                kept_refs.c.session_id == session_id,
                kept_refs.c.attachment_id == str(attachment_id),
                or_(kept_refs.c.due_at.is_(None), kept_refs.c.unwanted_at > db_now()),
            )
            .values(due_at=db_now(), unwanted_at=db_now())
        )


def _make_due(conn: Connection, ids: Collection[UUID]) -> None:
    found = select(_row.id).where(_row.id.in_(sorted(ids)), _row.gone_at.is_(None))
    locked = conn.scalars(found.order_by(_row.id).with_for_update()).all()
    conn.execute(update(attachments).where(_row.id.in_(locked)).values(due_at=db_now()))

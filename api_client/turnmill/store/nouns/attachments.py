"""Attachments: reserved, kept, and gone when nobody uses them; what uses them: `line.attached`.

Every step is a transaction of its own, and bytes move between two of them. Killed anywhere, what
stands is either whole, or found by upkeep: a row that never became ready, one whose bytes are to be
deleted, or bytes without a row. Locks: after sessions and turns, a user's usage, then attachments
in the order of their ids.
"""

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from turnmill.crypto.wanted import Owner
from turnmill.domain.errors import AttachmentNotFound, FilesQuotaExceeded, FilesUnavailable
from turnmill.files.port import Found
from turnmill.store.file_records import Attachment, AttachmentId, Owed, Reserved
from turnmill.store.line.uploads import give_up_copies
from turnmill.store.nouns.holds import nobody_holds, refuse_held
from turnmill.store.rules.sealing import hashes_of_file, ready_for_file, sealed_for
from turnmill.store.schema.file_tables import attachment_uses, attachments, file_usage
from turnmill.store.types import db_after, db_asof, db_now, insert_into
from turnmill.store.vaults import plain

#: An upload that takes longer than this has come to nothing.
LONGEST_UPLOAD = timedelta(hours=1)

_row = attachments.c
_is_kept = and_(_row.ready, _row.gone_at.is_(None))


def reserve(
    conn: Connection,
    attachment_id: AttachmentId,
    user_id: str,
    *,
    most: int,
    least: int,
    quota: int,
) -> Reserved:
    """Reserve up to `most` bytes of the user's quota, before any are written.

    Raises FilesQuotaExceeded where fewer than `least` are left.
    """
    ready_for_file(conn, user_id)
    used = _lock_usage(conn, user_id)
    granted = min(most, quota - used)
    if granted < least:
        raise FilesQuotaExceeded(f"{max(quota - used, 0)} bytes of {quota} are left")
    _add(conn, user_id, granted)
    conn.execute(
        insert(attachments).values(
            id=attachment_id,
            user_id=user_id,
            size=granted,
            due_at=db_after(LONGEST_UPLOAD.total_seconds()),
        )
    )
    return Reserved(id=attachment_id, user_id=user_id, bytes=granted)


def keep(conn: Connection, reserved: Reserved, found: Found, *, grace: timedelta) -> Attachment:
    """Let what was written stand, and return it; or what the user has of the same content.

    In that case, told by another id, the bytes that were written now are to go. What is not used
    within `grace` goes. Raises FilesUnavailable where the upload took so long that it was given up.
    """
    hashes = hashes_of_file(conn, reserved.user_id, found.sha256)
    name = _sealed_name(conn, reserved, found.name)
    _lock_usage(conn, reserved.user_id)
    same = and_(_row.user_id == reserved.user_id, _row.sha256.in_(hashes))
    known = conn.execute(select(attachments).where(same).with_for_update()).one_or_none()
    if known is not None:
        _let_stay(conn, known, grace)
        mark_gone(conn, _row.id == reserved.id)
        return record(known)
    row = conn.execute(
        update(attachments)
        .where(_row.id == reserved.id, ~_row.ready, _row.gone_at.is_(None))
        .values(
            sha256=hashes[0],
            size=found.size,
            media_type=found.media_type,
            name=name,
            width=found.width,
            height=found.height,
            duration_ms=_ms(found.duration),
            ready=True,
            due_at=db_after(grace.total_seconds()),
        )
        .returning(*attachments.c)
    ).one_or_none()
    if row is None:
        raise FilesUnavailable("the upload took too long, and was given up")
    _add(conn, reserved.user_id, found.size - reserved.bytes)
    return record(row)


def _sealed_name(conn: Connection, reserved: Reserved, name: str) -> str:
    if not name:
        return name
    sealed: str = sealed_for(conn, Owner(reserved.user_id), _row.name, reserved.id.hex, name)
    return sealed


def known(conn: Connection, user_id: str, sha256: str, *, grace: timedelta) -> Attachment | None:
    """Return what the user has of this content already; it stays for `grace` from now."""
    same = and_(_row.user_id == user_id, _row.sha256.in_(hashes_of_file(conn, user_id, sha256)))
    row = conn.execute(select(attachments).where(same).with_for_update()).one_or_none()
    if row is None:
        return None
    _let_stay(conn, row, grace)
    return record(row)


def get(conn: Connection, attachment_id: UUID) -> Attachment:
    """Return the attachment, or raise AttachmentNotFound."""
    row = conn.execute(select(attachments).where(_row.id == attachment_id, _is_kept)).one_or_none()
    if row is None:
        raise AttachmentNotFound()
    return record(row)


def of_user(
    conn: Connection, ids: Collection[UUID], user_id: str
) -> dict[AttachmentId, Attachment]:
    """Return those of the attachments that this user has."""
    mine = and_(_row.id.in_(list(ids)), _row.user_id == user_id, _is_kept)
    rows = conn.execute(select(attachments).where(mine))
    return {AttachmentId(row.id): record(row) for row in rows}


def kept_among(conn: Connection, ids: Collection[UUID]) -> dict[AttachmentId, Attachment]:
    """Return those of the attachments that are kept."""
    rows = conn.execute(select(attachments).where(_row.id.in_(list(ids)), _is_kept))
    return {AttachmentId(row.id): record(row) for row in rows}


def find(
    conn: Connection, *, user_id: str | None, after: UUID | None = None, limit: int = 100
) -> list[Attachment]:
    """Return up to `limit` attachments, newest first; `after` is the last id of a page."""
    query = select(attachments).where(_is_kept).order_by(_row.id.desc()).limit(limit)
    if user_id is not None:
        query = query.where(_row.user_id == user_id)
    if after is not None:
        query = query.where(_row.id < after)
    return [record(row) for row in conn.execute(query)]


def usage(conn: Connection, user_id: str) -> int:
    """Return how many bytes the user's files have, those that are reserved included."""
    found = conn.scalar(select(file_usage.c.bytes).where(file_usage.c.user_id == user_id))
    return found or 0


def mark_gone(conn: Connection, *which: ColumnElement[bool]) -> list[Owed]:
    """Let these attachments go, whoever uses them; return whose bytes are to be deleted.

    What vendors keep of them goes, too.
    """
    gone = conn.execute(
        update(attachments)
        .where(*which)
        .values(sha256=None, due_at=None, gone_at=func.coalesce(_row.gone_at, db_now()))
        .returning(_row.id, _row.user_id)
    )
    rows = gone.all()
    if rows:
        give_up_copies(conn, [str(row.id) for row in rows])
    return [Owed(id=AttachmentId(row.id), user_id=row.user_id) for row in rows]


def remove(conn: Connection, attachment_id: UUID) -> list[Owed]:
    """Let the attachment go, whoever uses it, or raise AttachmentNotFound, or UserOnHold."""
    mine = select(_row.user_id).where(_row.id == attachment_id)
    whose = conn.scalar(mine.with_for_update(key_share=True))
    if whose is not None:
        refuse_held(conn, whose)
    owed = mark_gone(conn, _row.id == attachment_id, _is_kept)
    if not owed:
        raise AttachmentNotFound()
    return owed


def remove_of_user(conn: Connection, user_id: str) -> list[Owed]:
    """Let all attachments of the user go, those that are being written included."""
    mine = select(_row.id).where(_row.user_id == user_id, _row.gone_at.is_(None))
    ids = conn.scalars(mine.order_by(_row.id).with_for_update()).all()
    return mark_gone(conn, _row.id.in_(ids)) if ids else []


def mark_due(conn: Connection, *, limit: int = 500) -> int:
    """Let up to `limit` attachments go whose time has come and that nobody uses; how many it saw.

    One that somebody is about to use at this moment is left out, and those of users on hold.
    """
    due = (
        select(_row.id)
        .where(_row.due_at.is_not(None), _row.due_at <= db_asof(), nobody_holds(_row.user_id))
        .order_by(_row.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = conn.scalars(due).all()
    if not ids:
        return 0
    # Statements of their own, which see the uses and holds that were noted before the locks.
    free = set(conn.scalars(select(_row.id).where(_row.id.in_(ids), nobody_holds(_row.user_id))))
    used = set(
        conn.scalars(
            select(attachment_uses.c.attachment_id).where(attachment_uses.c.attachment_id.in_(ids))
        )
    )
    if used:
        conn.execute(update(attachments).where(_row.id.in_(used)).values(due_at=None))
    if unused := [one for one in ids if one in free and one not in used]:
        mark_gone(conn, _row.id.in_(unused))
    return len(ids)


def find_unused(conn: Connection, *, limit: int = 500) -> int:
    """Give a time to go to up to `limit` attachments that nobody uses; return how many.

    Whoever removed their sessions did it by hand, or is of an older version.
    """
    used = select(attachment_uses.c.attachment_id).where(attachment_uses.c.attachment_id == _row.id)
    unused = (
        select(_row.id)
        .where(_row.due_at.is_(None), _row.gone_at.is_(None), ~used.exists())
        .order_by(_row.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = conn.scalars(unused).all()
    if ids:
        conn.execute(update(attachments).where(_row.id.in_(ids)).values(due_at=db_now()))
    return len(ids)


def owed(conn: Connection, *, after: UUID | None = None, limit: int = 500) -> list[Owed]:
    """Return up to `limit` attachments whose bytes are to be deleted, in the order of their ids."""
    query = select(_row.id, _row.user_id).where(_row.gone_at.is_not(None))
    if after is not None:
        query = query.where(_row.id > after)
    rows = conn.execute(query.order_by(_row.id).limit(limit))
    return [Owed(id=AttachmentId(row.id), user_id=row.user_id) for row in rows]


def owed_of(conn: Connection, user_id: str) -> list[Owed]:
    """Return the attachments of a user whose bytes are to be deleted."""
    mine = select(_row.id).where(_row.user_id == user_id, _row.gone_at.is_not(None))
    return [Owed(id=AttachmentId(one), user_id=user_id) for one in conn.scalars(mine)]


def forget(conn: Connection, done: Owed) -> None:
    """Remove the row of an attachment whose bytes are deleted, and give its quota back."""
    _lock_usage(conn, done.user_id)
    gone = delete(attachments).where(_row.id == done.id, _row.gone_at.is_not(None))
    size = conn.scalar(gone.returning(_row.size))
    if size is not None:
        _add(conn, done.user_id, -size)
    empty = and_(file_usage.c.user_id == done.user_id, file_usage.c.bytes == 0)
    conn.execute(delete(file_usage).where(empty))


def give_back(conn: Connection, reserved: Reserved) -> list[Owed]:
    """Let an upload go that came to nothing."""
    return mark_gone(conn, _row.id == reserved.id, ~_row.ready)


def unknown_among(conn: Connection, ids: Collection[UUID]) -> set[UUID]:
    """Return those ids that no row has: their bytes are nobody's."""
    there = set(conn.scalars(select(_row.id).where(_row.id.in_(list(ids)))))
    return set(ids) - there


def measured(conn: Connection, attachment_id: UUID, duration: timedelta) -> None:
    """Note how long it takes to hear the attachment."""
    conn.execute(
        update(attachments).where(_row.id == attachment_id).values(duration_ms=_ms(duration))
    )


def record(row: Row[Any]) -> Attachment:
    """Return a row as callers see it."""
    ms = row.duration_ms
    return Attachment(
        id=AttachmentId(row.id),
        user_id=row.user_id,
        sha256=row.sha256 or "",
        size=row.size,
        media_type=row.media_type,
        name=plain(row.name),
        width=row.width,
        height=row.height,
        duration=None if ms is None else timedelta(milliseconds=ms),
        created_at=row.created_at,
    )


def _let_stay(conn: Connection, row: Row[Any], grace: timedelta) -> None:
    """Give what nobody uses yet its time anew; the caller has locked the row."""
    if row.due_at is not None:
        later = update(attachments).where(_row.id == row.id)
        conn.execute(later.values(due_at=db_after(grace.total_seconds())))


def _lock_usage(conn: Connection, user_id: str) -> int:
    """Lock the user's row, so that nobody else reserves or gives back; return its bytes."""
    new = insert_into(conn, file_usage).values(user_id=user_id, bytes=0)
    locked = new.on_conflict_do_update(
        index_elements=[file_usage.c.user_id], set_={"bytes": file_usage.c.bytes}
    )
    return int(conn.execute(locked.returning(file_usage.c.bytes)).scalar_one())


def _add(conn: Connection, user_id: str, size: int) -> None:
    mine = update(file_usage).where(file_usage.c.user_id == user_id)
    left = file_usage.c.bytes + size
    # A sum that somebody has changed by hand must not keep what is given back from going.
    conn.execute(mine.values(bytes=case((left < 0, 0), else_=left)))


def _ms(duration: timedelta | None) -> int | None:
    return None if duration is None else round(duration.total_seconds() * 1000)

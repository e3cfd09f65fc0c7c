"""Copies of attachments that vendors keep for a session: noted before they are made.

They are rows of what vendors keep, and go as all of that does: with their session, or before, with
their attachment. One whose upload nobody has told the end of stands by its name, due to be looked
for: only the end of the upload makes it one that is wanted.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select, update

from turnmill.domain.states import SessionStatus, TurnState
from turnmill.domain.uploads import IN_FLIGHT, UPLOAD_WITHIN
from turnmill.store.engine import engine_of
from turnmill.store.line.head import lock_sessions
from turnmill.store.records import Claim
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.named_turns import still_in
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import db_after, db_now, insert_into

#: A file that expires within this is uploaded again before: a turn may take as long.
_STILL_GOOD = timedelta(hours=1)
_ENDED = (SessionStatus.ARCHIVED, SessionStatus.DELETED)
_UNWANTED = {"due_at": db_now(), "unwanted_at": db_now()}


def mark(conn: Connection) -> str:
    """Return what the names of this store's uploads bear, or "" where nothing tells it from others.

    That is a store in memory, and a server that does not say who it is. Whoever puts a dump of a
    server elsewhere has another mark there, and finds no file of this one's at the vendor.
    """
    whose = [*engine_of(conn).identity(conn)]
    return sha256(repr(whose).encode()).hexdigest()[:12] if whose else ""


def unknown_among(conn: Connection, found: Mapping[str, str]) -> list[str]:
    """Return the vendor's names of those that no row knows; `found`: names of ours, by them."""
    either = [*found, *(IN_FLIGHT + name for name in found.values())]
    known = set(conn.scalars(select(kept_refs.c.ref).where(kept_refs.c.ref.in_(either))))
    return [ref for ref, name in found.items() if not known & {ref, IN_FLIGHT + name}]


def uploaded(conn: Connection, claim: Claim, ids: Sequence[str]) -> dict[str, str]:
    """Return the vendor's names of those attachments that it keeps for the session of the claim."""
    rows = conn.execute(
        select(kept_refs.c.attachment_id, kept_refs.c.ref)
        .where(
            kept_refs.c.session_id == claim.session_id,
            kept_refs.c.provider == claim.provider,
            kept_refs.c.attachment_id.in_(ids),
            kept_refs.c.due_at.is_(None),
            or_(
                kept_refs.c.expires_at.is_(None),
                kept_refs.c.expires_at > db_after(_STILL_GOOD.total_seconds()),
            ),
        )
        .order_by(kept_refs.c.created_at)
    )
    return {row.attachment_id: row.ref for row in rows}


def begin(conn: Connection, claim: Claim, attachment_id: str, name: str) -> bool:
    """Note that an upload begins; False when the turn is no longer ours. In a transaction.

    What earlier attempts of the turn have begun, and not ended, is looked for at once: whoever was
    at it has lost the turn.
    """
    lock_sessions(conn, [claim.session_id])
    if conn.execute(select(turns.c.id).where(_held(claim))).first() is None:
        return False
    conn.execute(
        update(kept_refs)
        .where(
            _of(claim),
            kept_refs.c.turn_id == claim.turn_id,
            kept_refs.c.ref.startswith(IN_FLIGHT, autoescape=True),
            or_(kept_refs.c.fence.is_(None), kept_refs.c.fence < claim.fence),
            kept_refs.c.unwanted_at > db_now(),
        )
        .values(_UNWANTED)
    )
    late = db_after(2 * UPLOAD_WITHIN.total_seconds())
    conn.execute(
        insert_into(conn, kept_refs).values(
            session_id=claim.session_id,
            ref=IN_FLIGHT + name,
            provider=claim.provider,
            turn_id=claim.turn_id,
            fence=claim.fence,
            stored=True,
            running=False,
            attachment_id=attachment_id,
            unwanted_at=late,
            due_at=late,
        )
    )
    return True


def keep(
    conn: Connection,
    claim: Claim,
    attachment_id: str,
    name: str,
    *,
    ref: str,
    expires_at: datetime | None,
) -> bool:
    """Note what an upload came to; False when nobody needs it any more. In a transaction.

    Whatever became of turn and session meanwhile: a file that is at the vendor is noted.
    """
    lock_sessions(conn, [claim.session_id])
    goes_on = select(sessions.c.id).where(
        sessions.c.id == claim.session_id, sessions.c.status.not_in(_ENDED)
    )
    wanted = conn.execute(goes_on).first() is not None
    wanted = wanted and _is_there(conn, claim, name)
    conn.execute(delete(kept_refs).where(_of(claim), kept_refs.c.ref == IN_FLIGHT + name))
    statement = insert_into(conn, kept_refs).values(
        session_id=claim.session_id,
        ref=ref,
        provider=claim.provider,
        turn_id=claim.turn_id,
        fence=claim.fence,
        stored=True,
        running=False,
        attachment_id=attachment_id,
        expires_at=expires_at,
        **({} if wanted else _UNWANTED),
    )
    conn.execute(statement.on_conflict_do_nothing())
    return wanted


def drop(conn: Connection, claim: Claim, name: str) -> None:
    """Forget an upload that has certainly come to nothing."""
    conn.execute(delete(kept_refs).where(_of(claim), kept_refs.c.ref == IN_FLIGHT + name))


def lose(conn: Connection, claim: Claim, refs: Collection[str]) -> None:
    """Give up files that the vendor says it does not have: it is asked to delete them all the same.

    It may be wrong, or mean another one.
    """
    conn.execute(
        update(kept_refs)
        .where(_of(claim), kept_refs.c.ref.in_(list(refs)), kept_refs.c.due_at.is_(None))
        .values(_UNWANTED)
    )


def give_up_copies(conn: Connection, attachment_ids: Collection[str]) -> int:
    """Let go of all that vendors keep of these attachments: they are deleted; return how many."""
    given_up = conn.execute(
        update(kept_refs)
        .where(
            kept_refs.c.attachment_id.in_(list(attachment_ids)),
            or_(kept_refs.c.due_at.is_(None), kept_refs.c.unwanted_at > db_now()),
        )
        .values(_UNWANTED)
    )
    return given_up.rowcount


def _is_there(conn: Connection, claim: Claim, name: str) -> bool:
    """Tell whether the upload is still noted, and was not given up meanwhile."""
    noted = select(kept_refs.c.ref).where(
        _of(claim), kept_refs.c.ref == IN_FLIGHT + name, kept_refs.c.unwanted_at > db_now()
    )
    return conn.execute(noted).first() is not None


def _of(claim: Claim) -> ColumnElement[bool]:
    return kept_refs.c.session_id == claim.session_id


def _held(claim: Claim) -> ColumnElement[bool]:
    """Return whether the turn is still that of the claim."""
    return and_(
        turns.c.id == claim.turn_id,
        still_in(TurnState.RUNNING),
        turns.c.lease_fence == claim.fence,
    )

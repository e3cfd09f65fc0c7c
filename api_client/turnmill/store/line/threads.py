"""Threads of a vendor's that change with what is said in them: lent to a call, and given back.

Such a thread cannot fork. While a call is at it, it belongs to that call alone and not to its
session: only a reply, or the certainty that nothing was done, brings it back. Whatever else becomes
of the call, the session goes on without it, and the next turn begins a new one.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, true, update

from turnmill.domain.content import Message
from turnmill.domain.errors import UnreadableRow
from turnmill.domain.states import TurnState
from turnmill.store.codec import parts_from, rows_of
from turnmill.store.line.head import lock_sessions
from turnmill.store.readable import ODD
from turnmill.store.records import Claim
from turnmill.store.rules.sealing import is_encrypted, sealed_messages
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.named_turns import still_in
from turnmill.store.schema.tables import messages, sessions, turns
from turnmill.store.thread_records import Adoption
from turnmill.store.types import db_now, insert_into

_WITHOUT = {"provider_ref": ""}


def lend(conn: Connection, claim: Claim, ref: str, *, opened: bool) -> bool:
    """Take the thread away from session and turn; False when the turn is no longer ours.

    One that was just `opened` is known from here on, and takes the place of all before it: they are
    to be deleted at the vendor, but for one that was adopted, which stays for as long as its
    session. The caller's transaction.
    """
    lock_sessions(conn, [claim.session_id])
    if conn.execute(update(turns).where(_held(claim)).values(step_ref="")).rowcount != 1:
        return False
    session = sessions.c.id == claim.session_id
    conn.execute(update(sessions).where(session, sessions.c.provider_ref != "").values(_WITHOUT))
    if opened:
        _leave_others(conn, claim, ref)
    statement = insert_into(conn, kept_refs).values(
        session_id=claim.session_id,
        ref=ref,
        provider=claim.provider,
        turn_id=claim.turn_id,
        stored=True,
        running=False,
        is_thread=True,
    )
    conn.execute(statement.on_conflict_do_nothing())
    return True


def give_back(conn: Connection, claim: Claim, ref: str) -> bool:
    """Bring a thread back in which nothing was done; False when the turn is no longer ours.

    To the session, or to the turn whose steps are in it. One that is to be adopted by this turn is
    as if it had never been lent. The caller's transaction.
    """
    lock_sessions(conn, [claim.session_id])
    steps = {"step_ref": ref} if claim.step_ref else {"step_ref": turns.c.step_ref}
    if conn.execute(update(turns).where(_held(claim)).values(steps)).rowcount != 1:
        return False
    if claim.provider_ref:
        session = sessions.c.id == claim.session_id
        conn.execute(update(sessions).where(session).values(provider_ref=ref))
    elif not claim.step_ref:
        lent = and_(kept_refs.c.session_id == claim.session_id, kept_refs.c.ref == ref)
        conn.execute(delete(kept_refs).where(lent))
    return True


def _held(claim: Claim) -> ColumnElement[bool]:
    """Return whether the turn is still that of the claim."""
    return and_(
        turns.c.id == claim.turn_id,
        still_in(TurnState.RUNNING),
        turns.c.lease_fence == claim.fence,
    )


def _leave_others(conn: Connection, claim: Claim, ref: str) -> None:
    conn.execute(
        update(kept_refs)
        .where(
            kept_refs.c.session_id == claim.session_id,
            kept_refs.c.is_thread,
            kept_refs.c.due_at.is_(None),
            kept_refs.c.ref.not_in([ref, claim.adopted or ""]),
        )
        .values(due_at=db_now(), unwanted_at=db_now())
    )


def adoption_of(conn: Connection, claim: Claim) -> Adoption:
    """Return how far a session has come with the thread that it is to go on with.

    Raises UnreadableRow.
    """
    rows = conn.execute(
        select(messages.c.role, messages.c.content)
        .where(_before_turns(claim))
        .order_by(messages.c.position)
    ).all()
    try:
        said = [Message(row.role, parts_from(row.content)) for row in rows]
    except ODD:
        raise UnreadableRow from None
    lent = select(true()).where(
        kept_refs.c.session_id == claim.session_id,
        kept_refs.c.ref == claim.adopted,
        kept_refs.c.is_thread,
    )
    return Adoption(said=said, was_lent=conn.execute(lent).first() is not None)


def keep_adopted(conn: Connection, claim: Claim, said: Sequence[Message]) -> bool:
    """Write down what was said in a thread before it was adopted; False when the turn is not ours.

    It stands before the turn that goes on there, and becomes history with it; where a turn before
    that one has failed, it moves on. The caller's transaction.
    """
    lock_sessions(conn, [claim.session_id])
    if conn.execute(select(turns.c.id).where(_held(claim))).first() is None:
        return False
    if is_encrypted(conn):  # sealed for the turn that they stand before: written anew
        conn.execute(delete(messages).where(_before_turns(claim)))
    else:
        moves = update(messages).where(_before_turns(claim)).values(turn_id=claim.turn_id)
        if conn.execute(moves).rowcount:
            return True
    ids = {"session_id": claim.session_id, "turn_id": claim.turn_id}
    made = sealed_messages(conn, claim.session_id, claim.turn_id, rows_of(said, first=-len(said)))
    conn.execute(insert(messages), [ids | row for row in made])
    return True


def _before_turns(claim: Claim) -> ColumnElement[bool]:
    """Return what stands before a turn of the session: read once, it stands before one of them."""
    mine = select(turns.c.id).where(turns.c.session_id == claim.session_id)
    return and_(messages.c.turn_id.in_(mine), messages.c.position < 0)

"""Leases: kept by those who hold them, taken from those who are lost."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    text,
    true,
    update,
)

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import OnAmbiguous, TurnState
from turnmill.store.engine import engine_of
from turnmill.store.line.charges import charge_lost
from turnmill.store.line.endings import move_turns
from turnmill.store.line.head import lock_sessions, skipping_busy
from turnmill.store.records import Claim, Lost, Moved
from turnmill.store.schema.named_turns import still_in
from turnmill.store.schema.tables import RUNNING_SQL, attempts, sessions, turns
from turnmill.store.types import db_after, db_asof, db_now

#: A turn is dead after this many losses at one step: one among others, then three in quarantine.
LOSSES_TO_DEATH = 4

_CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a heartbeat brought back."""

    extended: frozenset[TurnId]
    cancelled: frozenset[TurnId]  #: somebody wants these to stop
    gone: frozenset[TurnId]  #: the lease was lost: another worker may run these by now


def extend(conn: Connection, held: Sequence[tuple[TurnId, int]], *, lease: timedelta) -> Beat:
    """Extend the leases of the (turn, fence) pairs that the process really holds.

    Rows that are being settled at this moment are skipped: they are in none of the sets.
    """
    if not held:
        return Beat(extended=frozenset(), cancelled=frozenset(), gone=frozenset())
    rows = engine_of(conn).extend(conn, held, lease=lease)
    extended = frozenset(turn_id for turn_id, _ in rows)
    missing = {turn_id: fence for turn_id, fence in held if turn_id not in extended}
    return Beat(
        extended=extended,
        cancelled=frozenset(turn_id for turn_id, wanted in rows if wanted),
        gone=_gone(conn, missing) if missing else frozenset(),
    )


def _gone(conn: Connection, missing: dict[TurnId, int]) -> frozenset[TurnId]:
    rows = conn.execute(
        select(turns.c.id, turns.c.state, turns.c.lease_fence).where(turns.c.id.in_(missing))
    ).all()
    still = {
        TurnId(row.id)
        for row in rows
        if row.state == TurnState.RUNNING and row.lease_fence == missing[TurnId(row.id)]
    }
    return frozenset(missing) - still


def holds(conn: Connection, session_id: SessionId, turn_id: TurnId, *, fence: int) -> bool:
    """Tell whether the turn is still ours, and keep it so: its session and row are locked."""
    lock_sessions(conn, [session_id])
    ours = (turns.c.id == turn_id, still_in(TurnState.RUNNING), turns.c.lease_fence == fence)
    return conn.execute(select(turns.c.id).where(*ours).with_for_update()).first() is not None


def mark_sent(conn: Connection, turn_id: TurnId, *, fence: int) -> bool:
    """Note that the request is about to leave; False when the turn is no longer ours.

    Only sessions that hold ambiguous turns for an operator pay for this statement.
    """
    result = conn.execute(
        update(turns)
        .where(
            turns.c.id == turn_id,
            still_in(TurnState.RUNNING),
            turns.c.lease_fence == fence,
        )
        .values(sent_at=db_now())
    )
    return result.rowcount == 1


def mark_target(conn: Connection, claim: Claim) -> bool:
    """Note who is asked instead, before the request leaves; False when the turn is not ours.

    Whoever asks later what has become of it asks the same one.
    """
    ours = (
        turns.c.id == claim.turn_id,
        still_in(TurnState.RUNNING),
        turns.c.lease_fence == claim.fence,
    )
    noted = (
        update(turns)
        .where(*ours)
        .values(target=claim.target, benched=claim.benched, answered_because=claim.because)
    )
    if conn.execute(noted).rowcount != 1:
        return False
    conn.execute(
        update(attempts)
        .where(attempts.c.turn_id == claim.turn_id, attempts.c.fence == claim.fence)
        .values(provider=claim.provider, asked_model=claim.model)
    )
    return True


def cancel_requested(
    conn: Connection, among: Collection[TurnId] | None = None
) -> list[tuple[TurnId, int]]:
    """Return (turn, fence) of the running turns, all or these, that somebody wants to stop."""
    query = select(turns.c.id, turns.c.lease_fence).where(
        turns.c.state == TurnState.RUNNING, turns.c.cancel_requested
    )
    if among is not None:
        query = query.where(turns.c.id.in_(among))
    return [(TurnId(row.id), row.lease_fence) for row in conn.execute(query)]


def end_leases(conn: Connection, owner: str | None = None) -> None:
    """End the leases of an owner that is known to be dead; all leases if none is named.

    All of them: for a store that only one process uses, which has just started.
    """
    whose = true() if owner is None else turns.c.lease_owner == owner
    conn.execute(update(turns).where(text(RUNNING_SQL), whose).values(lease_until=db_after(-1.0)))


def late_heartbeats(conn: Connection, *, lease: timedelta) -> bool:
    """Tell whether a lease seems to be about to run out: its owner has missed two heartbeats.

    True for one caller in a lease only: the one who is to prepare for the loss.
    """
    return engine_of(conn).late_heartbeats(conn, lease=lease)


def take_lost(conn: Connection, *, lease: timedelta, limit: int = _CHUNK) -> Moved:
    """Take up to `limit` turns from owners whose lease ran out.

    A lost turn goes on as `unknown` (what became of the request is asked first), `retrying`,
    `waiting`, `cancelled` or `dead`. Nothing is taken before the server has been up for one lease:
    its owner could not reach it to extend.
    """
    ids = _expired_leases(conn, lease=lease, limit=limit)
    if not ids:
        return Moved(0, [])
    turn_ids, moved = move_turns(conn, _lost_values(), turns.c.id.in_(ids), *_run_out())
    last = select(turns.c.lease_fence).where(turns.c.id == attempts.c.turn_id).scalar_subquery()
    conn.execute(
        update(attempts)
        .where(attempts.c.turn_id.in_(turn_ids), attempts.c.fence == last)
        .values(ended_at=db_now(), outcome="lost", error_code="worker_lost")
    )
    charge_lost(conn, turn_ids)
    return moved._replace(dead=_dead(conn, turn_ids))


def _dead(conn: Connection, turn_ids: Sequence[TurnId]) -> list[Lost]:
    rows = conn.execute(
        select(
            turns.c.id,
            turns.c.session_id,
            turns.c.lost,
            sessions.c.provider,
            sessions.c.model,
            turns.c.error_code,
        )
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(turns.c.id.in_(turn_ids), still_in(TurnState.DEAD))
    )
    return [Lost(TurnId(row.id), SessionId(row.session_id), *row[2:]) for row in rows]


def _run_out() -> tuple[Any, ...]:
    return turns.c.state == TurnState.RUNNING, turns.c.lease_until < db_asof()


def _expired_leases(conn: Connection, *, lease: timedelta, limit: int) -> list[TurnId]:
    if not engine_of(conn).has_been_up(conn, lease):
        return []
    query = (
        select(turns.c.id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(*_run_out())
        .order_by(turns.c.lease_until)
        .limit(limit)
    )
    return [TurnId(one) for one in conn.scalars(skipping_busy(query))]


def _losses() -> ColumnElement[int]:
    """Return how often the turn was lost, this time too: at its step, for a step is progress.

    What was lost before somebody let a turn run again does not count any more, either.
    """
    at_step = (
        select(func.count())
        .select_from(attempts)
        .where(
            attempts.c.turn_id == turns.c.id,
            attempts.c.step == turns.c.step,
            attempts.c.outcome == "lost",
        )
        .scalar_subquery()
    )
    return case((at_step < turns.c.lost, at_step), else_=turns.c.lost) + 1


def _lost_values() -> dict[str, Any]:
    """Return what a lost turn becomes. Its attempt is given back: losses are counted apart.

    A lost question is asked again: whoever asks, executes nothing.
    """
    losses = _losses()
    ambiguity = (
        select(sessions.c.on_ambiguous).where(sessions.c.id == turns.c.session_id).scalar_subquery()
    )
    never_left = and_(ambiguity == OnAmbiguous.HOLD, turns.c.sent_at.is_(None))
    state = case(
        (turns.c.cancel_requested, literal(TurnState.CANCELLED.value)),
        (losses >= LOSSES_TO_DEATH, literal(TurnState.DEAD.value)),
        (turns.c.claimed_for == "resume", literal(TurnState.WAITING.value)),
        (turns.c.claimed_for == "check", literal(TurnState.UNKNOWN.value)),
        (or_(ambiguity == OnAmbiguous.RETRY, never_left), literal(TurnState.RETRYING.value)),
        else_=literal(TurnState.UNKNOWN.value),
    )
    final = or_(turns.c.cancel_requested, losses >= LOSSES_TO_DEATH)
    spent = case((turns.c.claimed_for == "send", 1), else_=0)
    return {
        "state": state,
        "attempt": turns.c.attempt - spent,
        "lost": losses,
        "lease_owner": None,
        "lease_until": None,
        "available_at": db_now(),
        "error_code": case((turns.c.cancel_requested, "cancelled"), else_="worker_lost"),
        "finished_at": case((final, db_now()), else_=None),
    }

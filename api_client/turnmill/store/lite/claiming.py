"""Claiming in single steps."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Double,
    Integer,
    Select,
    Update,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import CLAIMABLE, EventKind, Lane, OnAmbiguous, SessionStatus, TurnState
from turnmill.domain.targets import FALLBACK, targets_in
from turnmill.store.codec import StoredHistory, object_of, said_from
from turnmill.store.lite.looking import history
from turnmill.store.records import Claim, Taken
from turnmill.store.rules.claiming import (
    GOES_ON,
    LANE,
    PROVIDER,
    SPENDING,
    asked_of,
    kind_of,
)
from turnmill.store.rules.happenings import write_turn_events
from turnmill.store.schema.budget_tables import budgets
from turnmill.store.schema.tables import attempts, messages, pauses, sessions, turns
from turnmill.store.types import Timestamp, db_after, db_now
from turnmill.store.vaults import plain, plain_setting


def claim(
    conn: Connection,
    turn_ids: Sequence[TurnId],
    *,
    owner: str,
    lease: timedelta,
    lanes: Collection[Lane],
    limit: int | None,
) -> list[Taken]:
    """Take those of the turns that are due heads in these lanes, the first ones of them."""
    heads = _heads_by_ids(conn, turn_ids, lanes=lanes)
    if limit is not None:
        places = {turn_id: n for n, turn_id in enumerate(turn_ids)}
        heads = sorted(heads, key=lambda head: places[head.turn_id])[:limit]
    return [_take(conn, head, owner=owner, lease=lease) for head in heads]


def claim_due(
    conn: Connection, lane: Lane, *, limit: int, owner: str, lease: timedelta
) -> list[Taken]:
    """Take due heads of a lane, oldest first."""
    heads = _heads_by_lane(conn, lane, limit=limit)
    return [_take(conn, head, owner=owner, lease=lease) for head in heads]


def claim_suspects(
    conn: Connection, *, lost: int, limit: int, owner: str, lease: timedelta
) -> list[Taken]:
    """Take due heads in quarantine, however often they were lost: one process runs them all."""
    return claim_due(conn, Lane.QUARANTINE, limit=limit, owner=owner, lease=lease)


def still_due(
    conn: Connection, turn_ids: Sequence[TurnId], *, lanes: Collection[Lane]
) -> list[TurnId]:
    """Return nothing: the write lock lets nobody pass over anything."""
    return []


def extend(
    conn: Connection, held: Sequence[tuple[TurnId, int]], *, lease: timedelta
) -> list[tuple[TurnId, bool]]:
    """Extend leases that are held, and tell of each whether a cancel was asked for."""
    pairs = [and_(turns.c.id == turn_id, turns.c.lease_fence == fence) for turn_id, fence in held]
    statement = (
        update(turns)
        .where(turns.c.state == TurnState.RUNNING, or_(*pairs))
        .values(lease_until=db_after(lease.total_seconds()))
        .returning(turns.c.id, turns.c.cancel_requested)
    )
    return [(TurnId(row.id), row.cancel_requested) for row in conn.execute(statement)]


# Statements are made once in a process: making one takes longer than all that SQLite does with it.


def _due_heads() -> Select[Any]:
    """Select heads that are due at the moment `now`."""
    now = bindparam("now", type_=Timestamp())
    return (
        select(
            *(one for one in sessions.c if one.name != "system_prompt"),
            turns.c.state,
            turns.c.waits_for,
            turns.c.id.label("turn_id"),
            turns.c.started_at.label("begun_at"),
        )
        .join(turns, turns.c.id == sessions.c.head_turn_id)
        .where(
            sessions.c.status == SessionStatus.ACTIVE,
            sessions.c.head_due_at <= now,
            sessions.c.head_lane.not_in(select(pauses.c.name).where(pauses.c.kind == LANE)),
            sessions.c.provider.not_in(select(pauses.c.name).where(pauses.c.kind == PROVIDER)),
            turns.c.state.in_(CLAIMABLE),
            or_(
                turns.c.state.not_in((TurnState.QUEUED, TurnState.RETRYING)),
                turns.c.expires_at.is_(None),
                turns.c.expires_at > now,
            ),
        )
    )


_BY_IDS = _due_heads().where(
    turns.c.id.in_(bindparam("ids", expanding=True)),
    sessions.c.head_lane.in_(bindparam("lanes", expanding=True)),
)
_BY_LANE = (
    _due_heads()
    .where(sessions.c.head_lane == bindparam("lane"))
    .order_by(sessions.c.head_due_at)
    .limit(bindparam("most"))
)


def _heads_by_ids(
    conn: Connection, ids: Sequence[TurnId], *, lanes: Collection[Lane]
) -> Sequence[Any]:
    given = {"ids": list(ids), "lanes": list(lanes), "now": datetime.now(UTC)}
    return conn.execute(_BY_IDS, given).all()


def _heads_by_lane(conn: Connection, lane: Lane, *, limit: int) -> Sequence[Any]:
    given = {"lane": lane, "most": limit, "now": datetime.now(UTC)}
    return conn.execute(_BY_LANE, given).all()


_TAKEN_SESSION = (
    update(sessions)
    .where(sessions.c.id == bindparam("of_session"))
    .values(fence=bindparam("new_fence"), head_due_at=None)
)
_TAKEN_TURN = (
    update(turns)
    .where(turns.c.id == bindparam("of_turn"))
    .values(
        state=TurnState.RUNNING,
        attempt=turns.c.attempt + bindparam("spent", type_=Integer()),
        claims=turns.c.claims + 1,
        claimed_for=bindparam("kind"),
        sent_at=None,
        lease_owner=bindparam("owner"),
        lease_fence=bindparam("new_fence"),
        lease_until=db_after(bindparam("lease", type_=Double())),
        started_at=func.coalesce(turns.c.started_at, db_now()),
    )
    .returning(*turns.c)
)


def _take(conn: Connection, head: Any, *, owner: str, lease: timedelta) -> Taken:
    state = TurnState(head.state)
    kind = kind_of(state, head.waits_for)
    fence = head.fence + 1
    conn.execute(_TAKEN_SESSION, {"of_session": head.id, "new_fence": fence})
    given = {
        "of_turn": head.turn_id,
        "spent": 1 if state in SPENDING else 0,
        "kind": kind,
        "owner": owner,
        "new_fence": fence,
        "lease": lease.total_seconds(),
    }
    turn = conn.execute(_TAKEN_TURN, given).one()
    if head.begun_at is None:
        write_turn_events(conn, [(head.id, turn.id)], EventKind.STARTED)
    asked = _asked_about(conn, turn.id) if kind != "send" else {}
    _note_attempt(conn, turn, owner=owner, asks=_asks(head, turn.target))
    return Taken(turn.id, head.id, fence, partial(_from_rows, conn, head, turn, asked))


def _from_rows(conn: Connection, head: Any, turn: Any, asked: Mapping[str, Any]) -> Claim:
    before, said, behind = said_from(_messages_of(conn, turn.id))
    return Claim(
        turn_id=TurnId(turn.id),
        session_id=SessionId(head.id),
        fence=turn.lease_fence,
        kind=turn.claimed_for,
        n=turn.claims - turn.put_off,
        attempt=turn.attempt,
        max_attempts=turn.max_attempts,
        lane=Lane(turn.lane),
        provider=head.provider,
        model=head.model,
        system_prompt=plain(conn.scalar(_PROMPT, {"of_session": head.id})),
        settings=object_of(head.settings),
        provider_ref=head.provider_ref,
        native_ref=turn.native_ref,
        on_ambiguous=OnAmbiguous(head.on_ambiguous),
        metadata=object_of(turn.metadata),
        messages=said,
        next_position=behind,
        history=StoredHistory() if head.provider_ref else history(conn, SessionId(head.id)),
        expires_in=_left(turn.expires_at) if turn.claimed_for != "send" else None,
        user_id=head.user_id,
        batch_id=turn.batch_id,
        stream=turn.stream,
        step=turn.step,
        step_ref=turn.step_ref,
        error_code=turn.error_code,
        adopted=head.adopted,
        before=before,
        waits_for=turn.waits_for,
        target=turn.target,
        benched=turn.benched,
        given_up=turn.given_up,
        because=turn.answered_because,
        reply_as=turn.reply_as,
        budgeted=turn.max_cost_usd is not None or _are_there_budgets(conn),
        **asked,
    )


_MESSAGES = (
    select(messages.c.role, messages.c.content, messages.c.position)
    .where(messages.c.turn_id == bindparam("of_turn"))
    .order_by(messages.c.position)
)
_PROMPT = select(sessions.c.system_prompt).where(sessions.c.id == bindparam("of_session"))
_A_BUDGET = select(budgets.c.id).limit(1)


def _messages_of(conn: Connection, turn_id: TurnId) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in conn.execute(_MESSAGES, {"of_turn": turn_id})]


def _are_there_budgets(conn: Connection) -> bool:
    return conn.execute(_A_BUDGET).first() is not None


def _asks(head: Any, target: int) -> tuple[str, str]:
    """Return the provider and the model that are asked: the session's own, or a target's."""
    if not target:
        return head.provider, head.model
    named = targets_in({FALLBACK: plain_setting(head.settings, FALLBACK)})
    found = named[target - 1 : target]
    return (found[0].provider, found[0].model) if found else (head.provider, head.model)


def _goes_on() -> Update:
    last = select(func.max(attempts.c.fence)).where(attempts.c.turn_id == bindparam("of_turn"))
    return (
        update(attempts)
        .where(
            attempts.c.turn_id == bindparam("of_turn"),
            attempts.c.fence == last.scalar_subquery(),
            attempts.c.outcome.in_(GOES_ON),
        )
        .values(
            fence=bindparam("new_fence"),
            polls=attempts.c.polls + 1,
            worker=bindparam("owner"),
            ended_at=None,
            outcome=None,
        )
    )


_GOES_ON = _goes_on()
_BEGINS = insert(attempts)


def _note_attempt(conn: Connection, turn: Any, *, owner: str, asks: tuple[str, str]) -> None:
    """Begin an attempt, or carry on with the one that a question is about."""
    if turn.claimed_for != "send" or turn.waits_for is not None:
        given = {"of_turn": turn.id, "new_fence": turn.lease_fence, "owner": owner}
        if conn.execute(_GOES_ON, given).rowcount:
            return
    begun = {
        "turn_id": turn.id,
        "fence": turn.lease_fence,
        "n": turn.claims - turn.put_off,
        "kind": turn.claimed_for,
        "worker": owner,
        "step": turn.step,
        "provider": asks[0],
        "asked_model": asks[1],
    }
    conn.execute(_BEGINS, begun)


_OF_CALL = ("started_at", "estimated", "provider", "asked_model")


def _asked_about(conn: Connection, turn_id: UUID) -> Mapping[str, Any]:
    """Return what a question says of the call that it is about."""
    call = conn.execute(
        select(*(attempts.c[name] for name in _OF_CALL))
        .where(attempts.c.turn_id == turn_id, attempts.c.kind == "send")
        .order_by(attempts.c.fence.desc())
        .limit(1)
    ).one_or_none()
    if call is None:
        return {}
    return {
        "waited": datetime.now(UTC) - call.started_at,
        "estimated": call.estimated,
        "asked_of": asked_of((call.provider, call.asked_model)),
    }


def _left(expires_at: datetime | None) -> timedelta | None:
    return None if expires_at is None else expires_at - datetime.now(UTC)

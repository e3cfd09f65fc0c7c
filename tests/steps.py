"""What clients, workers and dispatchers do to a store, one step and one transaction at a time."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update

from tests import rows
from tests.soundness import assert_sound as assert_sound
from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.line import claim as claims
from turnmill.store.line import leases
from turnmill.store.line.accept import accept
from turnmill.store.line.due import expire_overdue
from turnmill.store.line.settle import settle
from turnmill.store.nouns import sessions, turns
from turnmill.store.records import (
    Accepted,
    Claim,
    Fenced,
    Head,
    Kept,
    Locked,
    SessionRecord,
    Settled,
    Settlement,
)
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.store.turn_records import TurnRecord

LEASE = timedelta(seconds=30)
#: Older than any server of the tests: their leases have run out as soon as they are moved there.
AGO = timedelta(hours=1)


def send(store: Database, session: SessionId, text: str = "hello", **options: Any) -> Accepted:
    """Accept a message and return what became of it."""
    with store.begin() as conn:
        return accept(conn, session, rows.say(text, **options))


def take(
    store: Database, *turn_ids: TurnId, owner: str = "one", lanes: Collection[Lane] = tuple(Lane)
) -> list[Claim]:
    """Claim turns as a worker does that was given hints of them."""
    with store.begin() as conn:
        return claims.claim(conn, turn_ids, owner=owner, lease=LEASE, lanes=lanes)


def take_one(store: Database, turn_id: TurnId, **options: Any) -> Claim:
    """Claim a turn that is ours to run."""
    (claim,) = take(store, turn_id, **options)
    return claim


def take_due(store: Database, lane: Lane = Lane.BULK, *, limit: int = 10) -> list[Claim]:
    """Claim what is due in a lane."""
    with store.begin() as conn:
        return claims.claim_due(conn, lane, limit=limit, owner="bulk", lease=LEASE)


def verdict(claim: Claim, state: TurnState, **options: Any) -> Settlement:
    """Return what a worker found out about its claim."""
    values: dict[str, Any] = {"outcome": state.value, "input_tokens": 3, "output_tokens": 2}
    if state is TurnState.SUCCEEDED:
        said = options.pop("reply", f"answer to {claim.text}")
        values["replies"] = [Message.of("assistant", said)]
        values["position"] = claim.next_position
    if state is TurnState.QUEUED:
        values |= {"outcome": "released", "gives_attempt_back": True}
    if "kept" not in options:
        values["kept"] = kept_by(claim, state, **options)
    return Settlement(
        turn_id=claim.turn_id,
        session_id=claim.session_id,
        fence=claim.fence,
        state=state,
        has_calls=claim.step > 1,
        batched=claim.batch_id is not None,
        **values | options,
    )


def kept_by(
    claim: Claim, state: TurnState, *, provider_ref: str = "", native_ref: str = "", **_: Any
) -> list[Kept]:
    """Return what a vendor that keeps everything would hold by now."""
    waits = state in {TurnState.WAITING, TurnState.QUEUED}
    work = native_ref or claim.native_ref
    return [
        Kept(
            ref=ref,
            provider=claim.provider,
            stored=True,
            running=ref == work and state not in {TurnState.SUCCEEDED, TurnState.RETRYING},
            wanted=(waits and ref == work)
            or (state is TurnState.SUCCEEDED and ref == provider_ref),
        )
        for ref in dict.fromkeys((provider_ref, work, claim.native_ref))
        if ref
    ]


def end(
    store: Database, claim: Claim, state: TurnState = TurnState.SUCCEEDED, **options: Any
) -> Settled | Fenced | Locked:
    """Settle a claim."""
    (result,) = end_all(store, verdict(claim, state, **options))
    return result


def end_all(store: Database, *settlements: Settlement) -> list[Settled | Fenced | Locked]:
    """Settle several claims in one group."""
    with store.begin() as conn:
        return settle(conn, settlements)


def answer(store: Database, turn_id: TurnId) -> None:
    """Claim a turn and answer it."""
    assert isinstance(end(store, take_one(store, turn_id)), Settled)


def lose(store: Database, *turn_ids: TurnId) -> list[Head]:
    """Let the owners of these turns have been silent for a lease, and look for what is lost."""
    with store.begin() as conn:
        conn.execute(
            update(turn_rows)
            .where(turn_rows.c.id.in_(turn_ids), turn_rows.c.state == TurnState.RUNNING)
            .values(lease_until=datetime.now(UTC) - AGO)
        )
    return look_for_lost(store)


def look_for_lost(store: Database) -> list[Head]:
    """Do what a dispatcher does about leases."""
    with store.begin() as conn:
        return leases.take_lost(conn, lease=timedelta(0)).heads


def expire(store: Database) -> list[Head]:
    """Do what a dispatcher does about what is overdue."""
    with store.begin() as conn:
        return expire_overdue(conn).heads


def beat(store: Database, *held: Claim) -> leases.Beat:
    """Extend the leases of these claims."""
    with store.begin() as conn:
        return leases.extend(conn, [(one.turn_id, one.fence) for one in held], lease=LEASE)


def mark_sent(store: Database, claim: Claim) -> bool:
    """Note that the request of this claim is about to leave."""
    with store.begin() as conn:
        return leases.mark_sent(conn, claim.turn_id, fence=claim.fence)


def cancel(store: Database, turn_id: TurnId, *, keep_partial: bool = False) -> TurnState:
    """Ask that a turn end."""
    with store.begin() as conn:
        return turns.cancel(conn, turn_id, keep_partial=keep_partial)[0]


def retry(store: Database, turn_id: TurnId) -> Accepted:
    """Run a failed turn again."""
    with store.begin() as conn:
        return turns.retry(conn, turn_id, new_id=TurnId(new_id()))


def turn(store: Database, turn_id: TurnId) -> TurnRecord:
    """Return the turn as it stands."""
    with store.begin() as conn:
        return turns.get(conn, turn_id)


def state(store: Database, turn_id: TurnId) -> TurnState:
    """Return where the turn stands."""
    return turn(store, turn_id).state


def session(store: Database, session_id: SessionId) -> SessionRecord:
    """Return the session as it stands."""
    with store.begin() as conn:
        return sessions.get(conn, session_id)


def outcomes(store: Database, turn_id: TurnId) -> list[str | None]:
    """Return what came of each attempt."""
    with store.begin() as conn:
        return [one.outcome for one in turns.attempts_of(conn, turn_id)]


def due_now(store: Database, *turn_ids: TurnId) -> None:
    """Let the time have come for turns that wait, as if we had waited."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    with store.begin() as conn:
        conn.execute(
            update(turn_rows).where(turn_rows.c.id.in_(turn_ids)).values(available_at=past)
        )
        conn.execute(
            update(session_rows)
            .where(
                session_rows.c.head_turn_id.in_(turn_ids), session_rows.c.head_due_at.is_not(None)
            )
            .values(head_due_at=past)
        )


def count_turns(store: Database) -> int:
    """Return how many turns there are."""
    with store.begin() as conn:
        return conn.execute(select(func.count()).select_from(turn_rows)).scalar_one()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a session's row says about its line."""

    head: TurnId | None
    lane: str | None
    due: bool  #: there is a moment at which the head may run
    unfinished: int
    next_seq: int
    fence: int


def line(store: Database, session_id: SessionId) -> Line:
    """Return what the session's row says about its line."""
    columns = session_rows.c
    with store.begin() as conn:
        row = conn.execute(select(session_rows).where(columns.id == session_id)).one()
    return Line(
        head=row.head_turn_id,
        lane=row.head_lane,
        due=row.head_due_at is not None,
        unfinished=row.unfinished,
        next_seq=row.next_seq,
        fence=row.fence,
    )


def settled(result: object) -> Settled:
    assert isinstance(result, Settled)
    return result


def one_claimed(store: Database, **options: object) -> Claim:
    session = rows.start(store, **options)
    return take_one(store, send(store, session).turn_id)

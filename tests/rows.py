"""Sessions and turns for tests, made and settled as clients and workers do it."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, update

from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.store.database import Database
from turnmill.store.line.accept import accept
from turnmill.store.line.claim import claim
from turnmill.store.line.settle import settle
from turnmill.store.nouns import sessions
from turnmill.store.records import NewSession, NewTurn, Settled, Settlement
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.verbs import intake, new_messages

LEASE = timedelta(seconds=30)


def new_session(
    *,
    user_id: str = "ada",
    provider: str = "mock",
    model: str = "mock",
    key: str | None = None,
    **options: Any,
) -> NewSession:
    """Return a session that is to be created."""
    return intake.new_session(
        user_id=user_id,
        provider=provider,
        model=model,
        key=key,
        max_text_bytes=1000,
        **options,
    )


def start(store: Database, **options: Any) -> SessionId:
    """Create a session."""
    return store.run(sessions.create, new_session(**options)).id


def update_session(store: Database, session: SessionId, **options: Any) -> None:
    """Change options of a session."""
    values = intake.session_options(max_text_bytes=1000, **options)
    with store.begin() as conn:
        sessions.change(conn, session, values)


def say(text: str = "hello", **options: Any) -> NewTurn:
    """Return a message that is to be accepted."""
    return new_messages.new_turn(text, intake.turn_options(**options), max_text_bytes=1000)


def send(store: Database, session: SessionId, text: str = "hello", **options: Any) -> TurnId:
    """Accept a message."""
    with store.begin() as conn:
        return accept(conn, session, say(text, **options)).turn_id


def run(
    store: Database,
    turn: TurnId,
    state: TurnState = TurnState.SUCCEEDED,
    *,
    cost: Decimal | None = Decimal("0.25"),
    tokens: tuple[int | None, int | None, int | None] = (10, 5, 2),
    **verdict: Any,
) -> None:
    """Claim the turn and settle it, as a worker does."""
    with store.begin() as conn:
        claims = claim(conn, [turn], owner="test", lease=LEASE, lanes=list(Lane))
        assert len(claims) == 1, "the turn is not to be run now"
        settled = settle(
            conn,
            [
                Settlement(
                    turn_id=turn,
                    session_id=claims[0].session_id,
                    fence=claims[0].fence,
                    state=state,
                    outcome=verdict.pop("outcome", state.value),
                    replies=[Message.of("assistant", "yes")]
                    if state is TurnState.SUCCEEDED
                    else (),
                    input_tokens=tokens[0],
                    output_tokens=tokens[1],
                    cached_tokens=tokens[2],
                    cost_usd=cost,
                    priced=cost is not None or tokens == (0, 0, 0),
                    batched=verdict.pop("batched", claims[0].batch_id is not None),
                    **verdict,
                )
            ],
        )
    assert isinstance(settled[0], Settled)


def set_session(store: Database, session: SessionId, **columns: Any) -> None:
    """Write columns of a session, past every rule."""
    with store.begin() as conn:
        conn.execute(update(session_rows).where(session_rows.c.id == session).values(**columns))


def ended_at(store: Database, turn: TurnId, moment: datetime) -> None:
    """Let a final turn have ended at another moment."""
    with store.begin() as conn:
        conn.execute(update(turn_rows).where(turn_rows.c.id == turn).values(finished_at=moment))


def took(store: Database, turn: TurnId, *, until: datetime, seconds: float) -> None:
    """Let a final turn have ended at another moment, so long after it was accepted."""
    with store.begin() as conn:
        conn.execute(
            update(turn_rows)
            .where(turn_rows.c.id == turn)
            .values(created_at=until - timedelta(seconds=seconds), finished_at=until)
        )


def age(conn: Connection, session: SessionId, by: timedelta) -> None:
    """Let the session's last activity be so long ago."""
    conn.execute(
        update(session_rows)
        .where(session_rows.c.id == session)
        .values(last_active_at=sessions.get(conn, session).last_active_at - by)
    )

"""What a turn that is spoken writes: words beside sounds, a reply that is heard, who was asked."""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, delete, select, update

from turnmill.domain.content import Audio
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.store.codec import content_of
from turnmill.store.line.head import lock_sessions
from turnmill.store.line.settle import settle
from turnmill.store.records import Claim, Fenced, Locked, Settled, Settlement
from turnmill.store.rules.sealing import sealer_of_turns
from turnmill.store.schema.file_tables import attachment_uses, attachments
from turnmill.store.schema.named_turns import still_in
from turnmill.store.schema.tables import attempts, messages, turns
from turnmill.store.step_records import Advanced, Voiced
from turnmill.store.types import db_now
from turnmill.store.vaults import plain


class Answered(NamedTuple):
    """What is known of a reply that is still to be spoken."""

    finish_reason: str | None
    answered_by: str | None


def begin_voice(conn: Connection, claim: Claim, *, kind: str, provider: str, model: str) -> bool:
    """Note of the attempt what it does, and who is asked; False when the turn is not ours."""
    ours = (
        select(turns.c.id)
        .where(
            turns.c.id == claim.turn_id,
            still_in(TurnState.RUNNING),
            turns.c.lease_fence == claim.fence,
            ~turns.c.cancel_requested,
        )
        .exists()
    )
    noted = conn.execute(
        update(attempts)
        .where(attempts.c.turn_id == claim.turn_id, attempts.c.fence == claim.fence, ours)
        .values(kind=kind, provider=provider, asked_model=model)
    )
    return noted.rowcount == 1


def note_voiced(conn: Connection, advanced: Advanced, voiced: Voiced) -> None:
    """Write what a step changes besides, in the transaction that has advanced its turn."""
    if voiced.said is not None:
        position, message = voiced.said
        row = {"position": position, "content": content_of(message.parts)}
        if (sealer := sealer_of_turns(conn, (advanced.turn_id,))) is not None:
            sealer.messages(advanced.turn_id, [row])
        conn.execute(
            update(messages)
            .where(messages.c.turn_id == advanced.turn_id, messages.c.position == position)
            .values(content=row["content"])
        )
    if voiced.drops is not None:
        _drop(conn, advanced.turn_id, voiced.drops)
    if voiced.asks is not None:
        provider, model = voiced.asks
        conn.execute(
            update(attempts)
            .where(attempts.c.turn_id == advanced.turn_id, attempts.c.fence == advanced.fence)
            .values(provider=provider, asked_model=model)
        )
    if voiced.finish_reason is not None:
        conn.execute(
            update(turns)
            .where(turns.c.id == advanced.turn_id)
            .values(finish_reason=voiced.finish_reason, answered_by=voiced.answered_by)
        )


def answered(conn: Connection, turn_id: TurnId) -> Answered:
    """Return what is known of the reply that the turn's model has given."""
    row = conn.execute(
        select(turns.c.finish_reason, turns.c.answered_by).where(turns.c.id == turn_id)
    ).one()
    return Answered(*row)


def kept_speech(conn: Connection, claim: Claim) -> Audio | None:
    """Return what was spoken in the turn, and kept, by a worker that was lost with it in hand."""
    said = {part.id for one in claim.messages for part in one.parts if isinstance(part, Audio)}
    held = attachment_uses.c.attachment_id == attachments.c.id
    rows = conn.execute(
        select(attachments)
        .join(attachment_uses, held)
        .where(
            attachment_uses.c.turn_id == claim.turn_id,
            attachment_uses.c.session_id == claim.session_id,
            attachments.c.media_type.startswith("audio/"),
            attachments.c.ready,
            attachments.c.gone_at.is_(None),
        )
        .order_by(attachments.c.created_at.desc())
    )
    row = next((one for one in rows if str(one.id) not in said), None)
    if row is None:
        return None
    return Audio(
        id=str(row.id),
        sha256=row.sha256 or "",
        media_type=row.media_type,
        name=plain(row.name),
        size=row.size,
        duration_ms=row.duration_ms or 0,
        is_told=True,
    )


def _drop(conn: Connection, turn_id: TurnId, attachment_id: UUID) -> None:
    """Let a sound go whose words stand, unless something else uses it."""
    conn.execute(
        delete(attachment_uses).where(
            attachment_uses.c.turn_id == turn_id,
            attachment_uses.c.attachment_id == attachment_id,
        )
    )
    due = update(attachments).where(attachments.c.id == attachment_id)
    conn.execute(due.where(attachments.c.due_at.is_(None)).values(due_at=db_now()))


def end_aloud(conn: Connection, settlement: Settlement) -> Settled | Fenced:
    """Write the verdict; the reply that is heard takes the place of the words that stood alone.

    The caller's transaction, which he rolls back after Fenced.
    """
    if not lock_sessions(conn, [settlement.session_id]):
        return Fenced(turn_id=settlement.turn_id)
    conn.execute(
        delete(messages).where(
            messages.c.turn_id == settlement.turn_id, messages.c.position == settlement.position
        )
    )
    (result,) = settle(conn, [settlement])
    assert not isinstance(result, Locked)  # the lock is ours
    return result

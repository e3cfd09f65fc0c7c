"""What operators do to many turns: each of them once, however often it is asked for."""

from datetime import datetime

from turnmill.domain.auditing import Action
from turnmill.domain.ids import TurnId
from turnmill.new_ids import new_id
from turnmill.store.board import acts as rows
from turnmill.store.nouns import turns
from turnmill.store.records import Accepted
from turnmill.verbs.auditing import written_down
from turnmill.verbs.sending import heads_of
from turnmill.verbs.verb import Connection, Effect, Verb, transaction


def retry_once(turn_id: TurnId, *, upto: datetime, actor: str) -> Verb[Accepted | None]:
    """Run a turn that ended before `upto` again; None where it was run again already."""

    def on(conn: Connection) -> Effect[Accepted | None]:
        accepted = turns.retry_once(conn, turn_id, new_id=TurnId(new_id()), upto=upto)
        if accepted is None:
            return Effect(None)
        lane = turns.get(conn, accepted.turn_id).lane
        return Effect(accepted, heads_of([accepted], lane))

    return written_down(
        transaction(on),
        Action.TURN_RETRIED,
        actor=actor,
        turn=turn_id,
        when=lambda accepted: accepted is not None,
    )


def cancel_once(turn_id: TurnId, *, actor: str) -> Verb[bool]:
    """End a turn without a reply; False where it is final, or that was asked for."""

    def on(conn: Connection) -> Effect[bool]:
        heads = rows.cancel_once(conn, turn_id)
        return Effect(heads is not None, heads or ())

    return written_down(
        transaction(on), Action.TURN_CANCELLED, actor=actor, turn=turn_id, when=bool
    )

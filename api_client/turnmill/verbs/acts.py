"""What operators do to many turns: each of them once, however often it is asked for."""

from datetime import datetime

from turnmill.domain.ids import TurnId
from turnmill.new_ids import new_id
from turnmill.store.board import acts as rows
from turnmill.store.nouns import turns
from turnmill.store.records import Accepted
from turnmill.verbs.auditing import written_down
from turnmill.verbs.sending import heads_of
from turnmill.verbs.verb import Connection, Deed, Effect, Verb, transaction


def retry_once(turn_id: TurnId, *, upto: datetime, actor: str) -> Verb[Accepted | None]:
    """Run a turn that ended before `upto` again; None where it was run again already."""

    def on(conn: Connection) -> Effect[Accepted | None]:
        accepted = turns.retry_once(conn, turn_id, new_id=TurnId(new_id()), upto=upto)
        if accepted is None:
            return Effect(None)
        lane = turns.get(conn, accepted.turn_id).lane
        return Effect(accepted, heads_of([accepted], lane))

    deed = Deed("turn.retried", turn=turn_id, when=lambda accepted: accepted is not None)
    return written_down(transaction(on, does=deed), actor=actor)


def cancel_once(turn_id: TurnId, *, actor: str) -> Verb[bool]:
    """End a turn without a reply; False where it is final, or that was asked for."""

    def on(conn: Connection) -> Effect[bool]:
        heads = rows.cancel_once(conn, turn_id)
        return Effect(heads is not None, heads or ())

    deed = Deed("turn.cancelled", turn=turn_id, when=bool)
    return written_down(transaction(on, does=deed), actor=actor)

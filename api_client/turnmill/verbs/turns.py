"""Turns: `client.turns`, and what can be done with one."""

from collections.abc import Sequence

from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.nouns import turns as rows
from turnmill.store.records import Accepted, AttemptRecord, MessageRecord, TurnRecord
from turnmill.verbs import intake
from turnmill.verbs.refs import SessionRef, session_id
from turnmill.verbs.reply import Reply, read_reply
from turnmill.verbs.sending import heads_of
from turnmill.verbs.verb import Connection, Effect, Verb, single, transaction


def get(turn: object) -> Verb[TurnRecord]:
    """Read the turn of this id."""
    wanted = intake.turn_id(turn)
    return single(lambda conn: Effect(rows.get(conn, wanted)))


def find(
    *,
    session: SessionRef | None,
    states: Sequence[TurnState | str],
    error_code: str | None,
    after: object,
    limit: int,
) -> Verb[list[TurnRecord]]:
    """Read a page of turns, newest first."""
    wanted = intake.states(states)
    code = intake.name_or_none(error_code, name="error_code")
    page = intake.listing(after=after, limit=limit)

    def on(conn: Connection) -> Effect[list[TurnRecord]]:
        target = None if session is None else session_id(conn, session)
        found = rows.find(conn, session_id=target, states=wanted, error_code=code, **page)
        return Effect(found)

    return single(on)


def attempts(turn_id: TurnId) -> Verb[list[AttemptRecord]]:
    """Read every try of the turn."""
    return single(lambda conn: Effect(rows.attempts_of(conn, turn_id)))


def messages(turn_id: TurnId) -> Verb[list[MessageRecord]]:
    """Read what was said in the turn."""
    return single(lambda conn: Effect(rows.messages_of(conn, turn_id)))


def reply(turn_id: TurnId) -> Verb[Reply | None]:
    """Read the reply; None while the turn is not final."""
    return single(lambda conn: Effect(read_reply(conn, turn_id)))


def cancel(turn_id: TurnId) -> Verb[TurnState]:
    """End the turn without a reply."""
    return transaction(lambda conn: Effect(*rows.cancel(conn, turn_id)))


def retry(turn_id: TurnId) -> Verb[Accepted]:
    """Run a failed or dead turn again, in place or as a new one."""

    def on(conn: Connection) -> Effect[Accepted]:
        accepted = rows.retry(conn, turn_id, new_id=TurnId(new_id()))
        lane = rows.get(conn, accepted.turn_id).lane
        return Effect(accepted, heads_of([accepted], lane))

    return transaction(on)


def release(turn_id: TurnId) -> Verb[None]:
    """Let a turn that is held as ambiguous go on."""
    return transaction(lambda conn: Effect(None, rows.release_held(conn, turn_id)))

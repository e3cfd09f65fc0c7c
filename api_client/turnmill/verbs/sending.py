"""Sending: `client.send` and `client.send_many`."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from turnmill.domain.content import Said
from turnmill.domain.errors import InvalidInput
from turnmill.domain.states import Lane
from turnmill.store.line.accept import accept
from turnmill.store.records import Accepted, Head, NewTurn
from turnmill.store.rules.accepting import at_message
from turnmill.store.rules.sealing import require_keys
from turnmill.verbs import intake, new_messages
from turnmill.verbs.backpressure import Backpressure
from turnmill.verbs.refs import (
    SessionRef,
    accept_items,
    accept_joined,
    files_in,
    note_files,
    session_id,
)
from turnmill.verbs.verb import Connection, Effect, Verb, single, transaction


def send(session: SessionRef, new: NewTurn, backpressure: Backpressure) -> Verb[Accepted]:
    """Accept a message.

    Without a key that is one statement. With one, the session is locked first, and what stands
    under the key is read behind that lock. What files it holds, and how it is to be answered, is
    noted in the same transaction.
    """
    has_files = bool(files_in(new))

    def on(conn: Connection) -> Effect[Accepted]:
        target = session_id(conn, session)
        require_keys(conn, (target,))
        backpressure.take(conn, target)
        accepted = accept(conn, target, new)
        if has_files:
            note_files(conn, [accepted], [new])
        return Effect(accepted, heads_of([accepted], new.lane))

    is_one_statement = new.idempotency_key is None and new.reply_as is None and not has_files
    return single(on) if is_one_statement else transaction(on)


def send_many(
    messages: Iterable[tuple[SessionRef, Said]],
    options: intake.TurnOptions,
    backpressure: Backpressure,
    *,
    max_text_bytes: int,
) -> Verb[list[Accepted]]:
    """Accept a message for each pair of session and text: all of them, or none."""
    refs, texts = intake.pairs(messages)
    # Each when it is come to: some are made while those before them are being written.
    turns = _made(texts, options, max_text_bytes=max_text_bytes)
    keyed = options["idempotency_key"] is not None

    def on(conn: Connection) -> Effect[list[Accepted]]:
        accepted = accept_items(conn, refs, turns, backpressure, keyed=keyed)
        return Effect(accepted, heads_of(accepted, options["lane"]))

    return transaction(on)


def _made(
    texts: Iterable[Said], options: intake.TurnOptions, *, max_text_bytes: int
) -> Iterator[NewTurn]:
    for index, one in enumerate(texts):
        try:
            turn = new_messages.new_turn(one, options, max_text_bytes=max_text_bytes)
        except InvalidInput as error:
            raise at_message(index, error) from None
        yield turn


def joining(session: SessionRef, new: NewTurn, schema: str | None) -> Callable[[Any], Accepted]:
    """Return what accepts a message on a connection of the caller's, in his transaction."""
    return lambda given: accept_joined(given, session, new, schema)


def heads_of(accepted: Iterable[Accepted], lane: Lane) -> list[Head]:
    """Return those of the messages that are due at once, as heads of their lines."""
    return [
        Head(turn_id=one.turn_id, session_id=one.session_id, lane=lane)
        for one in accepted
        if one.announce
    ]

"""Turns: `client.turns`, and what can be done with one."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from turnmill.domain.arguments import moment, one_of, yes_or_no
from turnmill.domain.checks import check_name
from turnmill.domain.errors import TurnmillError
from turnmill.domain.ids import BatchId, TurnId
from turnmill.domain.states import FINAL, Lane, TurnState
from turnmill.new_ids import new_id
from turnmill.store.message_records import MessageRecord
from turnmill.store.nouns import turns as rows
from turnmill.store.records import Accepted
from turnmill.store.turn_records import AttemptRecord, TurnRecord, Watched
from turnmill.verbs import intake
from turnmill.verbs.refs import SessionRef, batch_named, session_id
from turnmill.verbs.reply import Reply, read_reply
from turnmill.verbs.sending import heads_of
from turnmill.verbs.verb import Connection, Deed, Effect, Shown, Verb, by_turn, single, transaction

if TYPE_CHECKING:
    from turnmill.store.nouns.why import Why


#: Turns that are asked about in one go: as many as are on the largest page.
_MOST_AT_ONCE = 1000


def get(turn: object) -> Verb[TurnRecord]:
    """Read the turn of this id."""
    wanted = intake.turn_id(turn)
    return single(lambda conn: Effect(rows.get(conn, wanted)))


def find(
    *,
    session: SessionRef | None,
    batch: object,
    user_id: str | None,
    lane: Lane | str | None,
    states: Sequence[TurnState | str],
    error_code: str | None,
    created_before: datetime | None,
    waits_for: str | None,
    run_again: bool | None,
    id_prefix: str | None,
    after: object,
    limit: int,
) -> Verb[list[TurnRecord]]:
    """Read a page of turns, newest first."""
    filters: dict[str, Any] = {
        "user_id": intake.name_or_none(user_id, name="user_id"),
        "lane": None if lane is None else one_of(Lane, lane, name="lane"),
        "states": intake.states(states),
        "error_code": intake.name_or_none(error_code, name="error_code"),
        "created_before": moment(created_before, name="created_before"),
        "waits_for": () if waits_for is None else [check_name(waits_for, name="waits_for")],
        "run_again": None if run_again is None else yes_or_no(run_again, name="run_again"),
        "ids": intake.ids(id_prefix),
        **intake.listing(after=after, limit=limit),
    }
    wanted = None if batch is None else batch_named(batch)

    def on(conn: Connection) -> Effect[list[TurnRecord]]:
        target = None if session is None else session_id(conn, session)
        batch_id = None if wanted is None else _id_of_batch(conn, wanted)
        return Effect(rows.find(conn, session_id=target, batch_id=batch_id, **filters))

    return single(on)


def attempts(turn_id: TurnId) -> Verb[list[AttemptRecord]]:
    """Read every try of the turn."""
    return single(
        lambda conn: Effect(rows.attempts_of(conn, turn_id)),
        shows=Shown("error details", "turn", lambda found: _with_detail(turn_id, found)),
    )


def messages(turn_id: TurnId) -> Verb[list[MessageRecord]]:
    """Read what was said in the turn."""
    return single(
        lambda conn: Effect(rows.messages_of(conn, turn_id)),
        shows=by_turn("messages", turn_id),
    )


def reply(turn_id: TurnId) -> Verb[Reply | None]:
    """Read the reply; None while the turn is not final."""
    return single(lambda conn: Effect(read_reply(conn, turn_id)), shows=by_turn("reply", turn_id))


def streamed(turn_id: TurnId) -> Verb[bool]:
    """Begin to watch the turn; nothing is read yet."""
    return single(lambda _: Effect(True), shows=by_turn("stream", turn_id))


def why(turn_id: TurnId) -> Verb["Why"]:
    """Read what the turn waits for."""
    from turnmill.store.nouns import why as reasons  # noqa: PLC0415  seldom asked for

    return single(lambda conn: Effect(reasons.why(conn, turn_id)))


def why_each(turn_ids: object) -> Verb[dict[TurnId, "Why"]]:
    """Read what each of these turns waits for."""
    from turnmill.store.nouns import why as reasons  # noqa: PLC0415  seldom asked for

    wanted = intake.turn_ids(turn_ids, most=_MOST_AT_ONCE)
    return single(lambda conn: Effect(reasons.why_each(conn, wanted)))


def watched(turn_ids: Sequence[TurnId]) -> Verb[list[Watched | TurnmillError]]:
    """Read what those who watch these turns have to know of them, an error for each that is not."""
    from turnmill.store.nouns.watched import read_watched  # noqa: PLC0415  few are

    return single(lambda conn: Effect([*read_watched(conn, turn_ids)]))


def cancel(turn_id: TurnId, *, keep_partial: object) -> Verb[TurnState]:
    """End the turn without a reply."""
    keep = yes_or_no(keep_partial, name="keep_partial")
    return transaction(
        lambda conn: Effect(*rows.cancel(conn, turn_id, keep_partial=keep)),
        does=Deed("turn.cancelled", turn=turn_id, when=_is_stopped),
    )


def _is_stopped(state: TurnState) -> bool:
    """Tell whether a turn is cancelled, or will be: one that has ended otherwise stays so."""
    return state is TurnState.CANCELLED or state not in FINAL


def retry(turn_id: TurnId, *, seen: TurnRecord | None = None) -> Verb[Accepted]:
    """Run a failed or dead turn again, in place or as a new one; not twice as it was `seen`."""

    def on(conn: Connection) -> Effect[Accepted]:
        accepted = rows.retry(conn, turn_id, new_id=TurnId(new_id()), seen=seen)
        lane = rows.get(conn, accepted.turn_id).lane
        return Effect(accepted, heads_of([accepted], lane))

    return transaction(on, does=Deed("turn.retried", turn=turn_id))


def release(turn_id: TurnId) -> Verb[None]:
    """Let a turn that is held as ambiguous go on."""
    return transaction(
        lambda conn: Effect(None, rows.release_held(conn, turn_id)),
        does=Deed("turn.released", turn=turn_id),
    )


def _with_detail(turn_id: TurnId, found: Sequence[AttemptRecord]) -> Sequence[TurnId]:
    return (turn_id,) if any(one.error_detail for one in found) else ()


def _id_of_batch(conn: Connection, batch: BatchId | str) -> BatchId:
    from turnmill.store.nouns import batches  # noqa: PLC0415  whoever only sends has no batches

    return batches.get(conn, batch).id

"""Several people in a session: who takes part, who says what, and what each is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from turnmill.domain.arguments import one_of, whole
from turnmill.domain.checks import check_name
from turnmill.domain.content import Message, Said, Sender, Text
from turnmill.domain.errors import InvalidInput, UnsupportedPart
from turnmill.domain.ids import SessionId
from turnmill.domain.plain import text_of
from turnmill.domain.states import Lane, ParticipantRole
from turnmill.store.line.accept import accept, accept_within
from turnmill.store.line.head import lock_sessions
from turnmill.store.line.shared_log import catch_up, is_behind
from turnmill.store.message_records import MessageRecord
from turnmill.store.nouns import happened, notes, people
from turnmill.store.people_records import HappenedPage, NewNote, Note, Participant, ReadPosition
from turnmill.store.records import Accepted, NewTurn
from turnmill.store.refusals import translated
from turnmill.verbs import intake, new_messages
from turnmill.verbs.backpressure import Backpressure
from turnmill.verbs.refs import SessionRef, joined, note_files, session_id
from turnmill.verbs.sending import heads_of
from turnmill.verbs.verb import (
    Connection,
    Deed,
    Effect,
    Shown,
    Verb,
    by_session,
    single,
    transaction,
)

T = TypeVar("T")

_MOST_PLACES = 2**62
#: What is read at once.
PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """Who follows which session."""

    session: SessionRef
    name: str = field(repr=False)

    @classmethod
    def of(cls, session: SessionRef, as_: object) -> "Following":
        """Check who follows; raises InvalidInput."""
        return cls(session=session, name=check_name(as_, name="as_"))


def send(
    session: SessionRef, new: NewTurn, sender: object, backpressure: Backpressure
) -> Verb[Accepted]:
    """Accept a message of somebody who takes part in the session, and may speak there."""
    name, said = _said_by(new, sender)

    def on(conn: Connection) -> Effect[Accepted]:
        target = session_id(conn, session)
        backpressure.take(conn, target)
        accepted = _accepted(conn, target, said, name, accept)
        # Once here, and not by each who is woken by it. The line is ours: whoever is at the log
        # already must not hold it up, nor those who run its turns.
        catch_up(conn, target, wait=False)
        return Effect(accepted, heads_of([accepted], new.lane))

    return transaction(on)


def joining(
    session: SessionRef, new: NewTurn, sender: object, schema: str | None
) -> Callable[[Any], Accepted]:
    """Return what accepts it on a connection of the caller's, in his transaction."""
    name, said = _said_by(new, sender)

    def on(given: Any) -> Accepted:
        with translated():
            conn = joined(given, schema)
            return _accepted(conn, session_id(conn, session), said, name, accept_within)

    return on


def post(
    session: SessionRef,
    said: Said,
    *,
    sender: object,
    to: object,
    options: Mapping[str, Any],
    max_text_bytes: int,
) -> Verb[Note]:
    """Write a note. `options` are those of `send`, checked: most of them a note cannot have."""
    if text_of(to) != notes.PARTICIPANTS:
        raise InvalidInput(f"to must be {notes.PARTICIPANTS!r}, or nothing", hint="to the model")
    if given := sorted(name for name, value in options.items() if _is_said(name, value)):
        raise InvalidInput(
            f"a note has no {', '.join(given)}: no turn comes of it",
            hint="to the model it does: leave to= out",
        )
    parts = new_messages.parts_of(said, max_text_bytes=max_text_bytes)
    if not all(isinstance(part, Text) for part in parts):
        raise UnsupportedPart("a note is words", hint="send files to the model")
    new = NewNote(
        sender=None if sender is None else check_name(sender, name="sender"),
        parts=parts,
        idempotency_key=options["idempotency_key"],
    )
    return _with(session, lambda conn, target: notes.post(conn, target, new))


def history(target: SessionId, *, after: tuple[int, int] = (-1, 0)) -> Verb[list[MessageRecord]]:
    """Read a page of messages, and of notes beside them."""
    return single(
        lambda conn: Effect(notes.history(conn, target, after=after)),
        shows=by_session("messages", target),
    )


def behind(message: MessageRecord) -> tuple[int, int]:
    """Return where a page of messages goes on that ended with this one."""
    return notes.place_of(message)


def add(session: SessionRef, name: object, *, role: object, by: object) -> Verb[Participant]:
    """Let somebody take part."""
    who, decider = check_name(name, name="name"), _by(by)
    chosen = None if role is None else one_of(ParticipantRole, role, name="role")
    return _with(
        session,
        lambda conn, target: people.add(conn, target, who, role=chosen, by=decider),
        Deed("participant.added", session=session),
    )


def remove(session: SessionRef, name: object, *, by: object) -> Verb[None]:
    """Let somebody take part no more."""
    who, decider = check_name(name, name="name"), _by(by)
    return _with(
        session,
        lambda conn, target: people.remove(conn, target, who, by=decider),
        Deed("participant.removed", session=session),
    )


def listed(session: SessionRef) -> Verb[list[Participant]]:
    """Read who takes part, and what each has not read."""

    def act(conn: Connection, target: SessionId) -> list[Participant]:
        people.share(conn, target)
        happened.look(conn, target)
        return people.listed(conn, target)

    return _with(session, act)


def mark_read(of: Following, *, upto: object) -> Verb[Participant]:
    """Note how far somebody has read."""
    cursor = cursor_or_none(upto, name="upto")

    def act(conn: Connection, target: SessionId) -> Participant:
        happened.look(conn, target)
        people.mark_read(conn, target, of.name, upto=cursor)
        return people.listed(conn, target, name=of.name)[0]

    return _with(of.session, act)


def passed(of: Following, upto: int) -> Verb[None]:
    """Note the same, for whoever follows: nothing is read for it."""
    return _with(
        of.session, lambda conn, target: people.mark_read(conn, target, of.name, upto=upto)
    )


def begin(of: Following) -> Verb[ReadPosition]:
    """Find out where somebody stands who follows; the session is shared from then on."""
    return _with(of.session, lambda conn, target: people.place_of(conn, target, of.name))


def page(of: Following, place: ReadPosition, *, after: int) -> Verb[HappenedPage]:
    """Read what was put down behind a cursor, and whether there is more to be put down."""

    def on(conn: Connection) -> Effect[HappenedPage]:
        people.require(conn, place.session_id, of.name)
        behind = is_behind(conn, place.session_id)
        found = happened.page(conn, place.session_id, after=after, limit=PAGE)
        return Effect(HappenedPage(happened=found, is_behind=behind))

    return single(on, shows=Shown("messages", "session", _whose))


def _whose(page: HappenedPage) -> set[SessionId]:
    return {one.session_id for one in page.happened if one.parts}


def put_down(place: ReadPosition) -> Verb[None]:
    """Put down what turns have come to, for all who follow; one of those who look at once does."""

    def on(conn: Connection) -> Effect[None]:
        happened.look(conn, place.session_id, wait=False)
        return Effect(None)

    return transaction(on)


def cursor_or_none(value: object, *, name: str) -> int | None:
    """Return a place in what happened; raises InvalidInput."""
    return None if value is None else whole(value, name=name, least=0, most=_MOST_PLACES)


def _said_by(new: NewTurn, sender: object) -> tuple[str, NewTurn]:
    """Return who says it, and the turn with his name in front of it."""
    name = check_name(sender, name="sender")
    first, *more = new.messages
    said = Message(first.role, (Sender(name), *first.parts))
    return name, replace(new, messages=(said, *more))


def _accepted(
    conn: Connection,
    target: SessionId,
    new: NewTurn,
    name: str,
    accepting: Callable[[Connection, SessionId, NewTurn], Accepted],
) -> Accepted:
    lock_sessions(conn, [target])
    people.let_speak(conn, target, name)
    accepted = accepting(conn, target, new)
    if accepted.created:
        people.note_sender(conn, target, accepted.turn_id, name)
    note_files(conn, [accepted], [new])
    return accepted


def _is_said(name: str, value: object) -> bool:
    """Tell whether an option of `send` was given that a note does not have."""
    match name:
        case "connection":
            return value is not None
        case "attachments":
            return not intake.are_none(value)
        case _:  # checked: of a kind that has a truth
            return bool(value) and name != "idempotency_key" and value is not Lane.INTERACTIVE


def _by(value: object) -> str | None:
    return intake.name_or_none(value, name="by")


def _with(
    session: SessionRef, act: Callable[[Connection, SessionId], T], deed: Deed | None = None
) -> Verb[T]:
    return transaction(lambda conn: Effect(act(conn, session_id(conn, session))), does=deed)

"""What becomes of a session: archived, restored, forked, moved, deleted, and kept for how long."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from turnmill.domain.arguments import one_of
from turnmill.domain.checks import check_name
from turnmill.domain.content import Message
from turnmill.domain.conversations import conversation_from
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.scripts import script_of
from turnmill.domain.states import Running
from turnmill.new_ids import new_id
from turnmill.store.deletion_records import DeletionReport
from turnmill.store.nouns import budgets, deletions, forks, sessions, user_retention
from turnmill.store.nouns import lifecycle as rows
from turnmill.store.records import NewSession, SessionRecord
from turnmill.verbs import intake
from turnmill.verbs.backpressure import Backpressure
from turnmill.verbs.intake import UNCHANGED
from turnmill.verbs.refs import SessionRef, session_id
from turnmill.verbs.sessions import bound_session, switching, version_or_none
from turnmill.verbs.verb import Connection, Deed, Effect, Verb, single, transaction


class Tried(NamedTuple):
    """What came of something that turns may stand in the way of."""

    record: SessionRecord | None
    waits_for: TurnId | None  #: try again when this one has ended


def archive(session: SessionRef, *, running: object) -> Verb[Tried]:
    """Refuse messages from now on, or say which turn is to end before."""
    wanted = _running(running)

    archived = switching(session, sessions.archive)

    def on(conn: Connection) -> Effect[Tried]:
        target = session_id(conn, session)
        if (last := rows.settle_open(conn, target, wanted)) is not None:
            return Effect(Tried(None, last))
        done = archived(conn)
        return Effect(Tried(done.result, None), changed=done.changed)

    deed = Deed("session.archived", session=session, when=lambda tried: tried.record is not None)
    return transaction(on, does=deed)


def restore(session: SessionRef, backpressure: Backpressure) -> Verb[SessionRecord]:
    """Let an archived session take messages again."""
    restored = switching(session, rows.restore)

    def on(conn: Connection) -> Effect[SessionRecord]:
        done = restored(conn)
        backpressure.note(done.result)
        return done

    return transaction(on, does=Deed("session.restored", session=session))


def move(
    session: SessionRef,
    *,
    provider: object,
    model: object,
    options: dict[str, Any],
    running: object,
    if_version: object,
) -> Verb[Tried]:
    """Let another provider or model answer from now on, or say which turn is to end before."""
    wanted, version = _running(running), version_or_none(if_version)
    values = {
        name: check_name(value, name=name)
        for name, value in (("provider", provider), ("model", model))
        if value is not None
    }
    if not values:
        raise InvalidInput("move to where?", hint="provider=, model=, or both")

    def on(conn: Connection) -> Effect[Tried]:
        target = session_id(conn, session)
        if (begun := rows.settle_begun(conn, target, wanted)) is not None:
            return Effect(Tried(None, begun))
        record, heads = rows.move(conn, target, values | options, if_version=version)
        return Effect(Tried(record, None), heads)

    deed = Deed("session.moved", session=session, when=lambda tried: tried.record is not None)
    return transaction(on, does=deed)


def fork(
    session: SessionRef,
    backpressure: Backpressure,
    *,
    at: object,
    key: str | None,
    provider: object,
    model: object,
    max_cost_usd: object,
    options: dict[str, Any],
) -> Verb[SessionRecord]:
    """Create a session with the history of this one, and with its options but for these."""
    limit = None
    if max_cost_usd is not UNCHANGED and max_cost_usd is not None:
        limit = intake.max_cost(max_cost_usd)
    last = None if at is None else intake.turn_id(at)
    changes: dict[str, Any] = {
        "key": None if key is None else intake.session_key(key),
        **{
            name: check_name(value, name=name)
            for name, value in (("provider", provider), ("model", model))
            if value is not None
        },
        **options,
    }
    made = SessionId(new_id())

    def on(conn: Connection) -> Effect[SessionRecord]:
        source = sessions.get(conn, session_id(conn, session))
        new = replace(_like(source, made), **changes)
        record = forks.fork(conn, new, source.id, at=last)
        if record.id == made:
            same = max_cost_usd is UNCHANGED
            bound = budgets.session_limit(conn, source.id) if same else limit
            if bound is not None:
                bound_session(conn, made, bound)
        backpressure.note(record)
        return Effect(record)

    made_of = Deed("session.forked", session=session, made=lambda record: {"fork": record.id})
    return transaction(on, does=made_of)


def _like(source: SessionRecord, made: SessionId) -> NewSession:
    same = NewSession.__dataclass_fields__.keys() - {"id", "key", "adopted"}
    return NewSession(id=made, **{name: getattr(source, name) for name in same})


def delete(session: SessionRef, *, running: object) -> Verb[DeletionReport]:
    """Remove the session with every row, and say what is left for now."""
    wanted = _running(running)

    def on(conn: Connection) -> Effect[DeletionReport]:
        target = session_id(conn, session)
        sessions.remove(conn, target, running=wanted)
        return Effect(deletions.report_of(conn, target))

    return transaction(on, does=Deed("session.deleted", session=session))


def deletion(session: object) -> Verb[DeletionReport]:
    """Read what has become of a session that was deleted, or purged."""
    target = SessionId(intake.identifier(session, name="session"))
    return single(lambda conn: Effect(deletions.report_of(conn, target)))


def keep_content(user_id: object, keep: object) -> Verb[None]:
    """Keep content of the user's sessions for so long; None: as everybody's."""
    user = check_name(user_id, name="user_id")
    wanted = intake.kept_content(keep)

    def on(conn: Connection) -> Effect[None]:
        user_retention.keep_content_of(conn, user, wanted)
        return Effect(None)

    return transaction(on, does=Deed("retention.set", whose=lambda _: user))


def content_kept(user_id: object) -> Verb[timedelta | None]:
    """Read for how long content of the user's sessions is kept."""
    user = check_name(user_id, name="user_id")
    return single(lambda conn: Effect(user_retention.content_kept_of(conn, user)))


def begun_with(
    history: object, system_prompt: str | None, *, max_text_bytes: int
) -> tuple[str | None, Sequence[tuple[Message, ...]]]:
    """Return the system prompt and the turns of a history that a session is created with.

    Raises InvalidInput, also where the last message has no reply.
    """
    found = conversation_from(history, max_text_bytes=max_text_bytes)
    if found.system_prompt is not None and system_prompt is not None:
        raise InvalidInput("system_prompt is given twice", hint="in the history, or beside it")
    script = script_of(found.messages)
    if script.open:
        raise InvalidInput(
            "the history ends with what nobody has answered",
            hint="leave that out, and send it: the model answers it then",
        )
    return (system_prompt if found.system_prompt is None else found.system_prompt), script.turns


def _running(value: object) -> Running:
    return one_of(Running, value, name="running")

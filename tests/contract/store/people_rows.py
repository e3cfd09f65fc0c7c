"""What people of a session do, and what they are told."""

from typing import Any

from tests import rows, steps
from turnmill.domain.content import Text
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import ParticipantRole
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.nouns import happened, notes, people
from turnmill.store.people_records import Happened, NewNote, Note, Participant
from turnmill.verbs import people as verbs
from turnmill.verbs.backpressure import Backpressure


def add(store: Database, session: SessionId, name: str, role: str | None = None) -> Participant:
    with store.begin() as conn:
        chosen = None if role is None else ParticipantRole(role)
        return people.add(conn, session, name, role=chosen, by=None)


def say(store: Database, session: SessionId, text: str, sender: str, **options: Any) -> TurnId:
    verb = verbs.send(session, rows.say(text, **options), sender, Backpressure(Settings()))
    with store.begin() as conn:
        return verb.on(conn).result.turn_id


def note(store: Database, session: SessionId, text: str, sender: str | None, **key: str) -> Note:
    with store.begin() as conn:
        return notes.post(conn, session, NewNote(sender=sender, parts=(Text(text),), **key))


def told(store: Database, session: SessionId, after: int = 0, limit: int = 100) -> list[Happened]:
    with store.begin() as conn:
        happened.look(conn, session)
        return happened.page(conn, session, after=after, limit=limit)


def kinds(store: Database, session: SessionId, after: int = 0) -> list[tuple[str, str]]:
    return [(one.kind.partition(".")[2], one.text) for one in told(store, session, after)]


def history(store: Database, session: SessionId, **page: Any) -> list[Any]:
    with store.begin() as conn:
        return notes.history(conn, session, **page)


def answered(store: Database, turn: TurnId, **options: Any) -> None:
    steps.end(store, steps.take_one(store, turn), **options)


def shared(store: Database, *names: str) -> SessionId:
    session = rows.start(store)
    for name in names:
        add(store, session, name)
    return session

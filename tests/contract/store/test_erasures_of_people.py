"""A user who is erased takes part in sessions of others: what he said goes, theirs stays."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from tests import rows, steps
from tests.contract.store.people_rows import add, answered, note, say, told
from turnmill.domain.errors import UserErased
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.nouns import sessions
from turnmill.store.schema.people_tables import notes, participants, shared_log, turn_senders
from turnmill.verbs.users.erasing import Erasing

pytestmark = pytest.mark.usefixtures("sound")


def test_what_a_member_said_in_a_session_of_another_is_emptied_and_the_rest_stays(
    store: Database, tmp_path: Path
) -> None:
    session = rows.start(store, user_id="ada")
    for name in ("bob", "eve"):
        add(store, session, name)
    for sender in ("bob", "eve", "ada"):
        answered(store, say(store, session, f"words of {sender}", sender))
        note(store, session, f"a note of {sender}", sender)
    mine = rows.start(store, user_id="bob")
    answered(store, say(store, mine, "in his own", "bob"))
    Erasing(store, Settings(home=tmp_path)).erase("bob", reason="", grace=timedelta(0))
    with store.begin() as conn:
        said = [(one.role, one.text) for one in sessions.history(conn, session)]
        for table, name in (
            (participants, "name"),
            (shared_log, "name"),
            (notes, "sender"),
            (turn_senders, "name"),
        ):
            assert "bob" not in conn.scalars(select(table.c[name])).all(), table.name
    with pytest.raises(UserErased):
        add(store, session, "bob")
    assert said == [
        ("user", ""),
        ("assistant", "answer to words of bob"),
        ("user", "words of eve"),
        ("assistant", "answer to words of eve"),
        ("user", "words of ada"),
        ("assistant", "answer to words of ada"),
    ]
    assert "a note of bob" not in [one.text for one in told(store, session)]
    assert "a note of eve" in [one.text for one in told(store, session)]


def test_a_session_goes_with_its_owner_whoever_takes_part(store: Database, tmp_path: Path) -> None:
    session = rows.start(store, user_id="ada")
    add(store, session, "bob")
    answered(store, say(store, session, "words of bob", "bob"))
    report = Erasing(store, Settings(home=tmp_path)).erase("ada", reason="", grace=timedelta(0))
    assert report.rows["sessions"] == 1
    with store.begin() as conn:
        assert conn.scalars(select(participants.c.name)).all() == []
    assert steps.count_turns(store) == 0

"""The database itself refuses what may never be, whatever the code above it does."""

from collections.abc import Iterator

import pytest

from tests import rows, steps
from turnmill.domain.errors import StoreError
from turnmill.domain.states import TurnState
from turnmill.store.database import Database

_RUN = (
    "UPDATE turnmill.turns SET state = 'running', lease_owner = 'two', lease_fence = 99,"
    " lease_until = now() WHERE state = 'queued'"
)
_REPLY = (
    "INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content, final)"
    " SELECT gen_random_uuid(), session_id, turn_id, 7, 'assistant', '[]', true"
    " FROM turnmill.messages WHERE final"
)

FORBIDDEN = {
    "a second running turn in a session": (_RUN, "uq_turns_one_running"),
    "a second reply to a turn": (_REPLY, "uq_messages_one_reply"),
    "two turns with one number": ("UPDATE turnmill.turns SET seq = 1", "uq_turns_session_id_seq"),
    "two turns with one key": (
        "UPDATE turnmill.turns SET idempotency_key = 'k'",
        "uq_turns_keyed",
    ),
    "a turn that runs without a lease": (
        "UPDATE turnmill.turns SET lease_owner = NULL, lease_until = NULL WHERE state = 'running'",
        "ck_turns_running_is_leased",
    ),
    "a lease on a turn that does not run": (
        "UPDATE turnmill.turns SET lease_owner = 'x', lease_until = now() WHERE state = 'queued'",
        "ck_turns_running_is_leased",
    ),
    "a lease without an end": (
        "UPDATE turnmill.turns SET lease_until = NULL WHERE state = 'running'",
        "ck_turns_lease_has_end",
    ),
    "more attempts than allowed": (
        "UPDATE turnmill.turns SET attempt = max_attempts + 1",
        "ck_turns_attempts_finite",
    ),
    "a state that nobody knows": (
        "UPDATE turnmill.turns SET state = 'lost'",
        "ck_turns_state_known",
    ),
    "an open line without a head": (
        "UPDATE turnmill.sessions SET head_turn_id = NULL",
        "ck_sessions_head_stands_for_line",
    ),
    "fewer than no unfinished turns": (
        "UPDATE turnmill.sessions SET unfinished = -1",
        "ck_sessions_unfinished_counts",
    ),
    "an attempt that ended in nothing": (
        "UPDATE turnmill.attempts SET outcome = NULL WHERE ended_at IS NOT NULL",
        "ck_attempts_ended_has_outcome",
    ),
}


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    """One line with an answered, a running and a queued turn."""
    database = Database(database_url)
    session = rows.start(database)
    steps.answer(database, steps.send(database, session).turn_id)
    steps.take_one(database, steps.send(database, session).turn_id)
    steps.send(database, session)
    yield database
    steps.assert_sound(database)
    database.close()


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_database_refuses(store: Database, what: str) -> None:
    statement, constraint = FORBIDDEN[what]
    with pytest.raises(StoreError, match=constraint), store.begin() as conn:
        conn.exec_driver_sql(statement)


def test_every_state_that_the_code_knows_is_known_to_the_database(store: Database) -> None:
    with store.engine.connect() as conn:
        for state in TurnState:
            unleased = "" if state is TurnState.RUNNING else ", lease_owner=NULL, lease_until=NULL"
            conn.exec_driver_sql(
                f"UPDATE turnmill.turns SET state = '{state}'{unleased} WHERE seq = 2"
            )
            conn.rollback()

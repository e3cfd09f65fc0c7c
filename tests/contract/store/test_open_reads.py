"""What a read of a file has left open ends with its transaction, whoever holds on to it."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from sqlalchemy import select

from tests import rows, steps
from tests.keyed import encrypted
from turnmill.domain.errors import DataKeyMissing
from turnmill.store.database import Database
from turnmill.store.nouns import sessions
from turnmill.store.schema import migrate
from turnmill.store.schema.tables import sessions as session_rows

WRITES = 4  #: so that each of two connections comes to write after the other


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    """A file that two connections are open to, of which now one is used, now the other."""
    url = f"sqlite:///{tmp_path}/turns.db"
    migrate.upgrade(url)
    store = Database(url)
    with store.snapshot(), store.begin():
        pass
    yield store
    store.close()


def test_a_read_that_was_left_in_the_middle_is_in_the_way_of_no_later_write(
    store: Database,
) -> None:
    for _ in range(3):
        rows.start(store)
    with store.begin() as conn:
        left = conn.execute(select(session_rows.c.id))
        assert len(list(islice(left, 1))) == 1
    for _ in range(WRITES):
        rows.start(store)
    assert left is not None  # it is held until now


def test_an_error_in_the_middle_of_a_read_is_in_the_way_of_no_later_write(store: Database) -> None:
    with encrypted(store) as keys:
        session = rows.start(store, user_id="ada")
        for _ in range(3):
            turn = steps.send(store, session).turn_id
            steps.end(store, steps.take_one(store, turn), reply="reply")
        keys.forget("ada")
        with store.begin() as conn, pytest.raises(DataKeyMissing) as error:
            list(sessions.history(conn, session))
        for _ in range(WRITES):
            rows.start(store, user_id="bob")
    assert error.value is not None  # it is held until now, and with it all that it went through


def test_what_is_read_piece_by_piece_is_whole_while_its_transaction_lasts(store: Database) -> None:
    for _ in range(3):
        rows.start(store)
    with store.snapshot() as conn:
        found = conn.execute(select(session_rows.c.id))
        first = list(islice(found, 1))
        rows.start(store)
        assert len([*first, *found]) == 3

"""A promise that is broken is found by the one question for all of them, as by each alone."""

from typing import Any

import pytest
from sqlalchemy import update

from tests import rows, steps
from tests.soundness import is_any_broken
from turnmill.store.database import Database
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.upkeep.invariants import violations


@pytest.mark.parametrize(
    "breaking",
    [
        update(sessions).values(unfinished=2),
        update(sessions).values(input_tokens=7),
        update(turns).values(state="dead"),
    ],
    ids=["line", "usage", "end"],
)
def test_one_question_finds_what_breaks_a_promise(store: Database, breaking: Any) -> None:
    steps.send(store, rows.start(store))
    with store.begin() as conn:
        assert not is_any_broken(conn)
        conn.execute(breaking)
        assert is_any_broken(conn)
        assert violations(conn)
    with pytest.raises(AssertionError, match="session"):
        steps.assert_sound(store)


def test_one_question_finds_what_has_not_ended(store: Database) -> None:
    steps.send(store, rows.start(store))
    with store.begin() as conn:
        assert not is_any_broken(conn)
        assert is_any_broken(conn, drained=True)

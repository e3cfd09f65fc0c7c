"""A store on a server, which is held to every invariant when a test has ended."""

from collections.abc import Iterator

import pytest

from tests.soundness import assert_sound
from turnmill.store.database import Database


@pytest.fixture
def store(database: Database) -> Iterator[Database]:
    yield database
    assert_sound(database)

"""The same promises over every store: Postgres, a SQLite file, memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from turnmill.store import migrate
from turnmill.store.database import Database
from turnmill.store.revision import create_all


@pytest.fixture(params=["postgres", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "postgres":
        database = Database(request.getfixturevalue("database_url"))
    elif request.param == "file":
        url = f"sqlite:///{tmp_path / 'turns.db'}"
        migrate.upgrade(url)
        database = Database(url)
    else:
        database = Database("sqlite://")
        with database.begin() as conn:
            create_all(conn)
    yield database
    database.close()

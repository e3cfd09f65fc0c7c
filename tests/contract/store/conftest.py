"""The same promises over every store: Postgres, a SQLite file, memory."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import steps
from turnmill.store.database import Database
from turnmill.store.schema import migrate
from turnmill.store.schema.revision import create_all


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate once; every test's file is a copy."""
    path = tmp_path_factory.mktemp("migrated") / "turns.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["postgres", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "postgres":
        database = Database(request.getfixturevalue("database_url"))
    elif request.param == "file":
        path = shutil.copy(request.getfixturevalue("migrated_file"), tmp_path)
        database = Database(f"sqlite:///{path}")
    else:
        database = Database("sqlite://")
        with database.begin() as conn:
            create_all(conn)
    yield database
    database.close()


@pytest.fixture
def sound(store: Database) -> Iterator[None]:
    """Hold the store to every invariant when the test has ended."""
    yield
    steps.assert_sound(store)

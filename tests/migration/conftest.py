"""Files are brought along by their migrations here, and stores begin at the revision of a test.

What a test finds at its beginning was migrated once, and is copied: what it does from there on is
done by the migrations themselves.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.conftest import copy_database, drop_database, run_as_superuser
from turnmill.store.schema import migrate
from turnmill_worker.stack.postgres import EmbeddedPostgres

#: As it was before tests were given copies: see tests/conftest.py.
_upgrade_file = migrate._upgrade_file


@pytest.fixture(autouse=True)
def _each_file_is_migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "_upgrade_file", _upgrade_file)


#: What roles begin with in a database, which a copy of it does not take along.
_SETTINGS_OF_ROLES = """
INSERT INTO pg_db_role_setting
SELECT copy.oid, s.setrole, s.setconfig
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, pg_database copy
WHERE d.datname = '{template}' AND copy.datname = '{copy}'
"""

#: Makes a store of a kind, "postgres" or "sqlite", at a revision, for as long as it is needed.
StoreAt = Callable[[str, str], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def store_at(
    postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> StoreAt:
    folder = tmp_path_factory.mktemp("revisions")
    made: set[str] = set()
    copies = iter(range(1_000_000))

    def at(kind: str, revision: str) -> AbstractContextManager[str]:
        return on_a_server(revision) if kind == "postgres" else in_a_file(revision)

    @contextmanager
    def on_a_server(revision: str) -> Iterator[str]:
        template, copy = f"at_{revision}", f"copy_{next(copies)}"
        if template not in made:
            run_as_superuser(postgres_server, f'CREATE DATABASE "{template}"')
            migrate.upgrade(postgres_server.url_of(template), revision)
            made.add(template)
        copy_database(postgres_server, template, copy)
        settings = _SETTINGS_OF_ROLES.format(template=template, copy=copy)
        run_as_superuser(postgres_server, settings)
        yield postgres_server.url_of(copy)
        drop_database(postgres_server, copy)

    @contextmanager
    def in_a_file(revision: str) -> Iterator[str]:
        template, copy = folder / f"{revision}.db", folder / f"copy-{next(copies)}.db"
        if not template.exists():
            migrate.upgrade(f"sqlite:///{template}", revision)
        shutil.copy(template, copy)
        yield f"sqlite:///{copy}"

    return at

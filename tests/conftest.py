"""Real servers for the tests: one Postgres and one Valkey a run, a fresh database a test.

postgres_server   the running `EmbeddedPostgres`: `.url`, `.pid`, `.url_of(database)`.
valkey_server     the running `EmbeddedValkey`.
database_url      a migrated, empty database, for this test alone while it runs.
database          connections to it.
broker_url        the Valkey of the run, emptied before the test.

A test that stops, kills or freezes a server starts one of its own, since these are shared:

    with EmbeddedPostgres(home, port=0, fsync=False) as postgres:
        postgres.kill()
        postgres.restart()

with the fixture `home`, a folder that Postgres can reach also when the tests run as root.
"""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis
from hypothesis import HealthCheck, settings
from psycopg import sql

from tests.compiled import compiled_once
from tests.copies import copying, read_once
from tests.databases import Databases
from tests.guard import forbid_network
from tests.in_memory import HOME, keep_files_in_memory
from turnmill.store.database import Database
from turnmill_worker.stack.home import Home
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.valkey import EmbeddedValkey

# How long an example takes tells of the machine: several tests run on it at a time. New examples
# are looked for by people: what CI says of a change is to be about the change.
settings.register_profile(
    "turnmill",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("turnmill")

forbid_network()


def pytest_configure(config: pytest.Config) -> None:
    """Look for nothing while tests are imported and made: nearly all of it stays."""
    keep_files_in_memory(config.option.markexpr)
    gc.disable()


def pytest_collection_finish() -> None:
    """Look no more at what is imported by now: it stays, and is most of what there is."""
    gc.enable()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _what_is_left_open_is_told_where_it_was_opened() -> Iterator[None]:
    """Collect what a module has left: else it is told in whichever test the collector comes to.

    What is in use all the same is of the run, and is looked at no more either.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on asyncio alone, as workers do, whichever other loops are installed here."""
    loop: str = request.param
    return loop


TEMPLATE = "turnmill_template"
#: Versions of Postgres that can be told how to copy, how slow a password is to guess, and to copy
#: by file.
_WITH_STRATEGIES, _WITH_ITERATIONS, _WITH_CLONES = 150_000, 160_000, 180_000
_database_numbers = count(1)


def make_home() -> Home:
    """Make a home where root's Postgres, which runs as another user, gets in."""
    path = Path(tempfile.mkdtemp(prefix=HOME))
    path.chmod(0o711)
    return Home(path)


@pytest.fixture
def home() -> Iterator[Path]:
    home = make_home()
    yield home.path
    home.discard()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    home = make_home()
    with EmbeddedPostgres(home.path, port=0, fsync=False) as server:
        _let_in_at_once(server)
        yield server
    home.discard()


def _let_in_at_once(server: EmbeddedPostgres) -> None:
    """Spare thousands of connections what makes it slow to guess a password: half their time."""
    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        if connection.info.server_version >= _WITH_ITERATIONS:
            connection.execute("SET scram_iterations = 1")
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                    sql.Identifier(connection.info.user), sql.Literal(connection.info.password)
                )
            )


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[EmbeddedValkey]:
    home = make_home()
    with EmbeddedValkey(home.path, port=0) as server:
        yield server
    home.discard()


@pytest.fixture(scope="session")
def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """Migrate once; every test's database is a copy."""
    from turnmill.store.schema import migrate  # alembic is slow to import, and most tests need none

    run_as_superuser(postgres_server, f'CREATE DATABASE "{TEMPLATE}"')
    migrate.upgrade(postgres_server.url_of(TEMPLATE))
    return TEMPLATE


@pytest.fixture(autouse=True, scope="session")
def _new_stores_are_copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make the tables of a store in memory once, and migrate a file once; every other is a copy.

    What the migrations do is for tests/migration, where each file is brought along.
    """
    folder = tmp_path_factory.mktemp("new")
    with pytest.MonkeyPatch.context() as patch, read_once(), copying(folder) as copies:
        for name, copy in copies.items():
            patch.setattr(f"turnmill.store.schema.{name}", copy)
        yield


@pytest.fixture(autouse=True, scope="session")
def _statements_are_compiled_once() -> Iterator[None]:
    """Let stores share what they have compiled: a test opens one, and most do the same."""
    with compiled_once():
        yield


@pytest.fixture(scope="session")
def databases(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[Databases]:
    databases = Databases(
        postgres_server,
        make=lambda: make_database(postgres_server, migrated_template),
        drop=lambda name: drop_database(postgres_server, name),
    )
    yield databases
    databases.close()


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    with databases.one() as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = Database(database_url)
    yield found
    found.close()


@pytest.fixture
def broker_url(valkey_server: EmbeddedValkey) -> str:
    with redis.Redis.from_url(valkey_server.url) as client:
        client.flushall()
    return valkey_server.url


@contextmanager
def fresh_database(server: EmbeddedPostgres, template: str = "template1") -> Iterator[str]:
    """Make a database for as long as it is needed: a copy of `template`, by default empty.

    Bare names lead nowhere in a copy: our statements say where the tables stand.
    """
    name = make_database(server, template)
    yield server.url_of(name)
    drop_database(server, name)


def make_database(server: EmbeddedPostgres, template: str) -> str:
    """Make a copy of the template, and return its name. See `fresh_database`."""
    name = f"test_{next(_database_numbers)}"
    copy_database(server, template, name)
    if template != "template1":
        run_as_superuser(server, f"ALTER DATABASE \"{name}\" SET search_path = ''")
    return name


def copy_database(server: EmbeddedPostgres, template: str, name: str) -> None:
    """Let the system copy the files, where the server can: it takes half the time."""
    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        version = connection.info.server_version
        if version >= _WITH_CLONES:
            connection.execute("SET file_copy_method = clone")
        strategy = "STRATEGY FILE_COPY" if version >= _WITH_CLONES else "STRATEGY WAL_LOG"
        if version < _WITH_STRATEGIES:
            strategy = ""
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy}')


def drop_database(server: EmbeddedPostgres, name: str) -> None:
    """Remove it, whoever is connected to it."""
    run_as_superuser(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def run_as_superuser(server: EmbeddedPostgres, statement: str) -> None:
    """Run a statement of its own, beside the databases of the tests."""
    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture(autouse=True, scope="session")
def _programs_hear_ctrl_c() -> None:
    """Let programs of tests be interrupted, also where a shell started us in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _umask_stays() -> Iterator[None]:
    """Keep what a command sets for the program that it becomes from the tests that follow."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)

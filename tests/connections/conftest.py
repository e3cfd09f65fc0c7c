"""Servers by which a database may be reached. See `servers` for what they are."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.system import Servers
from tests.conftest import make_home
from tests.connections.servers import PGBOUNCER, PgBouncer
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.valkey import EmbeddedValkey


@pytest.fixture
def row(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Return what names the row of docs/connections.md that this test stands for."""
    return lambda what: record_property("row", what)


@pytest.fixture(scope="session")
def servers(postgres_server: EmbeddedPostgres, valkey_server: EmbeddedValkey) -> Iterator[Servers]:
    """The servers of the run."""
    home = make_home()
    yield Servers(home, postgres_server, valkey_server)
    home.discard()


@pytest.fixture
def pooler(postgres_server: EmbeddedPostgres) -> Iterator[Callable[..., PgBouncer]]:
    """Return what starts a PgBouncer before the Postgres of the run."""
    if not os.access(PGBOUNCER, os.X_OK):
        pytest.skip("no program pgbouncer was found: apt-get install pgbouncer")
    with ExitStack() as started:

        def start(pool_mode: str = "transaction", **settings: Any) -> PgBouncer:
            home = make_home()
            started.callback(home.discard)
            before = postgres_server.url
            return started.enter_context(
                PgBouncer(Path(home.path), before=before, pool_mode=pool_mode, settings=settings)
            )

        yield start

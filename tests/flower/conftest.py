"""One Flower for all tests of the tab, under a prefix, on a store that each test finds empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import fresh_database
from tests.flower.seeds import run
from tests.flower.stage import VIEWER, Visitor, flower, viewer_of
from turnmill import Client
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.valkey import EmbeddedValkey

PREFIX = "ops"


@pytest.fixture(scope="module")
def store_url(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    with fresh_database(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture(scope="module")
def tab(
    store_url: str,
    postgres_server: EmbeddedPostgres,
    valkey_server: EmbeddedValkey,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Visitor]:
    log: Path = tmp_path_factory.mktemp("flower") / "log"
    with flower(
        f"--url-prefix={PREFIX}",
        database_url=store_url,
        viewer_url=viewer_of(store_url, postgres_server.url_of("postgres")),
        broker_url=valkey_server.url,
        log=log,
    ) as visitor:
        yield visitor


@pytest.fixture
def operator(tab: Visitor, store_url: str) -> Visitor:
    tables = "sessions, batches, pauses, events, job_runs, rollups, rollup_state, accounts"
    run(
        store_url,
        "TRUNCATE " + ", ".join(f"turnmill.{one}" for one in tables.split(", ")) + " CASCADE",
    )
    return Visitor(tab.base)


@pytest.fixture
def viewer(operator: Visitor) -> Visitor:
    return Visitor(operator.base, VIEWER)


@pytest.fixture
def client(store_url: str) -> Iterator[Client]:
    with Client(database_url=store_url) as client:
        yield client

"""Fixtures of the tests that try the command line."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.acceptance.examining import BROKER, URL, Place
from turnmill_worker.stack.postgres import EmbeddedPostgres


@pytest.fixture
def place(postgres_server: EmbeddedPostgres, database_url: str, broker_url: str) -> Iterator[Place]:
    with ExitStack() as undo:
        environment = {URL: database_url, BROKER: broker_url}
        yield Place(postgres_server, database_url, broker_url, undo, environment)

"""Servers that may be hurt, apart from those of the other tests."""

import os
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.chaos.books import Books
from tests.chaos.system import Servers, System

#: Minutes instead of seconds, thousands instead of hundreds.
LONG_TESTS = bool(os.environ.get("TURNMILL_LONG_TESTS"))


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with Servers.start() as servers:
        yield servers


@pytest.fixture
def system(servers: Servers) -> Iterator[System]:
    """A system of its own for the test; at the end, its books must be in order."""
    with System(servers) as system:
        yield system
        assert Books.of(system).complaints() == []


@pytest.fixture
def many() -> int:
    """How many turns are in flight at once where the point is that they are many."""
    return 2000 if LONG_TESTS else 300


@pytest.fixture
def outage() -> timedelta:
    """How long a server is away."""
    return timedelta(seconds=60 if LONG_TESTS else 6)

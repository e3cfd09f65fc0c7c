"""Servers that may be hurt, apart from those of the other tests."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.chaos.books import Books
from tests.chaos.system import Servers, System
from tests.doubles.on_a_thread import Vendor


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what kills, freezes and restarts processes to `.ci/run`, which has the time for it."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with Servers.start() as servers:
        yield servers


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    """OpenAI's double, of all tests of a module."""
    vendor = Vendor()
    yield vendor
    vendor.stop()


@pytest.fixture
def system(servers: Servers) -> Iterator[System]:
    """A system of its own for the test; at the end, its books must be in order."""
    with System(servers) as system:
        yield system
        assert Books.of(system).complaints() == []


@pytest.fixture
def many() -> int:
    """How many turns are in flight at once where the point is that they are many."""
    return int(os.environ.get("TURNMILL_TEST_MANY", "500"))


@pytest.fixture
def outage() -> timedelta:
    """How long a server is away."""
    return timedelta(seconds=float(os.environ.get("TURNMILL_TEST_OUTAGE", "5")))

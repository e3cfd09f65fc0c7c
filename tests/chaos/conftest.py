"""Servers that may be hurt, apart from those of the other tests."""

import os
from collections.abc import Iterator

import pytest

from tests.chaos.books import Books
from tests.chaos.system import Servers, System


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("TURNMILL_LONG_TESTS"):
        return
    long = pytest.mark.skip(reason="takes minutes; TURNMILL_LONG_TESTS=1 runs it")
    for item in items:
        if "chaos" in item.path.parts and item.get_closest_marker("slow"):
            item.add_marker(long)

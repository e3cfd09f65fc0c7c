"""A store in memory, for those parts that cannot be tried without one."""

from collections.abc import Iterator

import pytest

from tests import stores
from turnmill.store.database import Database


@pytest.fixture
def store() -> Iterator[Database]:
    store = stores.in_memory()
    yield store
    store.close()

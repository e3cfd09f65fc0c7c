"""Whatever everybody does in whatever order: every promise holds after every step."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests import stores
from tests.integration.protocol_machine import Protocol
from turnmill.store.database import Database

#: TURNMILL_PROPERTY_EXAMPLES=5000 looks longer, and elsewhere each time.
_ASKED = int(os.environ.get("TURNMILL_PROPERTY_EXAMPLES", "0"))


def profile(*, examples: int, steps: int) -> settings:
    return settings(
        max_examples=_ASKED or examples,
        stateful_step_count=steps,
        derandomize=not _ASKED,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
def postgres(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=2)
    yield database
    database.close()


@pytest.fixture
def memory() -> Iterator[Database]:
    database = stores.in_memory()
    yield database
    database.close()


def play(store: Database, **chosen: int) -> None:
    class OnThisStore(Protocol):
        def __init__(self) -> None:
            super().__init__(store)

    run_state_machine_as_test(OnThisStore, settings=profile(**chosen))


@pytest.mark.long
@pytest.mark.timeout(0 if _ASKED else 120)
def test_whatever_happens_in_postgres_every_promise_holds(postgres: Database) -> None:
    play(postgres, examples=10, steps=25)


@pytest.mark.long
@pytest.mark.timeout(0 if _ASKED else 120)
def test_whatever_happens_in_memory_every_promise_holds(memory: Database) -> None:
    play(memory, examples=20, steps=30)

"""A client that runs its turns itself, beside the stand-ins for both vendors."""

from collections.abc import Iterator

import pytest

from tests import closed_targets
from tests.doubles.both_vendors import BothVendors
from tests.falling_back import owed, until
from turnmill import Client


@pytest.fixture(scope="module")
def both() -> Iterator[BothVendors]:
    with BothVendors() as vendors:
        yield vendors


@pytest.fixture(scope="module")
def shared(both: BothVendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    file = tmp_path_factory.mktemp("store") / "turnmill.db"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in both.environment.items():
            patch.setenv(name, value)
        patch.setenv("TURNMILL_DATABASE_URL", f"sqlite:///{file}")
        patch.setenv("TURNMILL_LAYERS", "gate?=tests.closed_targets:gate")
        patch.setenv("TURNMILL_TOOLS", "tests.some_tools")
        with Client.from_env() as client:
            yield client


@pytest.fixture
def vendors(both: BothVendors) -> BothVendors:
    both.forget()
    return both


@pytest.fixture
def client(shared: Client, vendors: BothVendors) -> Client:
    until(lambda: not owed(shared))  # or a fault would meet what is deleted of another test's
    vendors.forget()
    closed_targets.CLOSED.clear()
    closed_targets.ASKED.clear()
    return shared

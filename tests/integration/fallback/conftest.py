"""A client that runs its turns itself, beside the stand-ins for both vendors."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests import closed_targets
from tests.doubles.both_vendors import BothVendors
from tests.falling_back import owed
from tests.waiting import until
from turnmill import Client


class Clients:
    """One client after the other: an account that a test has closed is closed to the next, too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()
        self._open = ExitStack()
        self._client = self._new()

    def one(self) -> Client:
        """Return a client all of whose accounts are open."""
        if self._client.accounts.list():
            self.close()
            self._client = self._new()
        return self._client

    def close(self) -> None:
        self._open.close()

    def _new(self) -> Client:
        file = self._folder / f"{next(self._numbers)}.db"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TURNMILL_DATABASE_URL", f"sqlite:///{file}")
            return self._open.enter_context(Client.from_env())


@pytest.fixture(scope="module")
def both() -> Iterator[BothVendors]:
    with BothVendors() as vendors:
        yield vendors


@pytest.fixture(scope="module")
def clients(both: BothVendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in both.environment.items():
            patch.setenv(name, value)
        patch.setenv("TURNMILL_LAYERS", "gate?=tests.closed_targets:gate")
        patch.setenv("TURNMILL_TOOLS", "tests.some_tools")
        clients = Clients(tmp_path_factory.mktemp("store"))
        yield clients
        clients.close()


@pytest.fixture
def vendors(both: BothVendors) -> BothVendors:
    both.forget()
    return both


@pytest.fixture
def client(clients: Clients, vendors: BothVendors, monkeypatch: pytest.MonkeyPatch) -> Client:
    client = clients.one()
    monkeypatch.setenv("TURNMILL_DATABASE_URL", client.settings.database_url)
    until(lambda: not owed(client))  # or a fault would meet what is deleted of another test's
    vendors.forget()
    closed_targets.CLOSED.clear()
    closed_targets.ASKED.clear()
    return client

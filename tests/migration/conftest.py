"""Files are brought along by their migrations here, each from the first one on."""

import pytest

from turnmill.store.schema import migrate

#: As it was before tests were given copies: see tests/conftest.py.
_upgrade_file = migrate._upgrade_file


@pytest.fixture(autouse=True)
def _each_file_is_migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "_upgrade_file", _upgrade_file)

"""`turnmill doctor` says where what is encrypted by choice is not, or not everywhere."""

from pathlib import Path
from typing import Any

import pytest

from tests import rows
from tests.keyed import at_hand, encrypted
from turnmill import Settings
from turnmill.cli.doctor.findings import Examination, Level
from turnmill.cli.doctor.keys import check_encryption
from turnmill.crypto.keyring import new_key
from turnmill.store.database import Database
from turnmill.store.upkeep.resealing import begin_anew, reseal


def found(store: Database, **options: Any) -> list[tuple[Level, str]]:
    settings = Settings(database_url="sqlite://", **options)
    looked = check_encryption(Examination(settings=settings, environ={}, database=store))
    return [(one.level, one.code) for one in looked if one.level is not Level.OK]


@pytest.mark.parametrize("choice", ["encrypt_metadata", "encrypt_settings"])
def test_a_choice_where_nothing_is_encrypted_is_wrong(store: Database, choice: str) -> None:
    assert found(store, encryption="off") == []
    assert found(store, encryption="off", **{choice: True}) == [(Level.WRONG, "chosen_in_vain")]


def test_settings_that_others_encrypt_and_are_plain_from_here_are_a_note(
    store: Database, tmp_path: Path
) -> None:
    here: dict[str, Any] = {"encryption_keys": new_key("1"), "key_store": str(tmp_path)}
    rows.start(store, settings={"stop": "x"})
    with encrypted(store, at_hand()) as keys:
        sealed_by_upkeep(store)
        assert found(store, **here) == []
        keys.seals_settings = True
        sealed_by_upkeep(store)
        assert found(store, **here, encrypt_settings=True) == []
        assert found(store, **here) == [(Level.NOTE, "not_chosen_here")]
        keys.seals_settings = False  # everywhere, and looked at again
        store.run(begin_anew)
        sealed_by_upkeep(store)
        assert found(store, **here) == []


def sealed_by_upkeep(store: Database) -> None:
    while store.run(reseal):
        pass

"""`turnmill encryption`: a keyring is made, rotated and rewrapped by hand; doctor looks at it."""

import json
from pathlib import Path

import pytest

from tests.acceptance.terminal import Terminal
from tests.keyed import in_a_file
from turnmill.crypto.keyring import parsed

CANARY = "CANARY-4b2a"


@pytest.fixture
def there(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest's own terminal
    keys = {"TURNMILL_ENCRYPTION_KEYS": "keyring", "TURNMILL_KEY_STORE": "wrapped"}
    return Terminal(tmp_path, {"TURNMILL_DATABASE_URL": database_url, **keys})


def test_a_keyring_is_made_once_for_its_owner_only(there: Terminal) -> None:
    made = there.run("encryption", "init", "--out", "keyring")
    assert made.code == 0, made.err
    path = there.folder / "keyring"
    assert list(parsed(path.read_text())) == ["1"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().strip().partition(":")[2] not in made.out + made.err
    assert there.run("encryption", "init", "--out", "keyring").code == 1


def test_a_master_key_is_added_wraps_all_and_the_old_one_may_go(there: Terminal) -> None:
    there.run("encryption", "init", "--out", "keyring")
    session = there.run("send", f"{CANARY} hello", "--user", "ada", "--json")
    assert session.code == 0, session.err
    assert there.run("encryption", "ls", "--json").json()["data_keys"] == {"1": 1}
    assert there.run("encryption", "rotate", "--master").code == 0
    assert there.run("encryption", "rewrap").code == 0
    listed = there.run("encryption", "ls", "--json").json()
    assert (listed["current"], listed["data_keys"], listed["apart"]) == ("2", {"2": 1}, True)
    told = [json.loads(one) for one in there.run("audit", "ls", "--json").out.splitlines()]
    actions = [one["action"] for one in told if one["action"].startswith("keys.")]
    assert actions == ["keys.rewrapped", "keys.created"]
    path = there.folder / "keyring"
    path.write_text(path.read_text().splitlines()[1] + "\n")
    shown = there.run("sessions", "show", session.json()["session_id"], "--text")
    assert f"{CANARY} hello" in shown.out, shown.err


def test_what_was_plain_is_sealed_by_hand_and_a_wrong_key_is_named(there: Terminal) -> None:
    plain = {"TURNMILL_ENCRYPTION": "off"}
    off = Terminal(there.folder, {**there.environment, **plain})
    session = off.run("send", f"{CANARY} hello", "--user", "ada", "--json").json()["session_id"]
    there.run("encryption", "init", "--out", "keyring")
    done = there.run("encryption", "reseal")
    assert "1 sealed anew" in done.out + done.err
    assert "Traceback" not in off.run("sessions", "show", session, "--text").err
    in_a_file(there.folder / "keyring", "1")
    refused = there.run("sessions", "show", session, "--text")
    assert refused.code == 1 and "master key 1" in refused.err
    assert CANARY not in refused.out + refused.err
    found = there.run("doctor", "--json").json()["findings"]
    assert [one["code"] for one in found if one["check"] == "encryption"][:1] == [
        "data_key_missing"
    ]

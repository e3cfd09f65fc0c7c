"""`turnmill users`: archives, erasures and holds, as somebody types them."""

import json
import zipfile
from pathlib import Path

import pytest

from tests.acceptance.terminal import Terminal


@pytest.fixture
def there(tmp_path: Path) -> Terminal:
    """A terminal beside a file in which two users have said something."""
    terminal = Terminal(tmp_path, {"TURNMILL_DATABASE_URL": f"sqlite:///{tmp_path}/turns.db"})
    assert terminal.run("migrate").code == 0
    for user in ("ada", "bob"):
        said = terminal.run("send", f"hello of {user}", "--session", f"{user}:x", "--user", user)
        assert said.code == 0, said.err
    return terminal


def test_a_user_is_exported_erased_and_looked_for(there: Terminal, tmp_path: Path) -> None:
    made = there.run("users", "export", "ada", "ada.zip", "--json").json()
    assert made["rows"]["messages"] >= 1
    with zipfile.ZipFile(tmp_path / "ada.zip") as archive:
        assert b"hello of ada" in archive.read("messages.jsonl")
    assert there.run("users", "erase", "ada").code == 2, "nobody can be asked here"
    erased = there.run("users", "erase", "ada", "--reason", "asked", "--yes", "--json").json()
    assert (erased["done"], erased["rows"]["sessions"]) == (True, 1)
    assert erased["backups"] == {"state": "readable", "until": None}
    again = there.run("users", "erasure", "ada", "--json").json()
    assert again["rows"] == erased["rows"]
    assert "readable until they expire" in there.run("users", "erasure", "ada").out
    looked = there.run("users", "verify-erasure", "ada", "--word", "hello of ada")
    assert (looked.code, "nothing was found" in looked.out) == (0, True)
    # What is typed stands in no list of processes, which others may read.
    looked = there.run("users", "verify-erasure", "ada", "--word", "-", typed="hello of\nof bob\n")
    assert (looked.code, "messages.content" in looked.out) == (1, True)
    found = there.run("users", "verify-erasure", "bob", "--json")
    assert (found.code, found.json()["clean"]) == (1, False)
    said = there.run("send", "again", "--session", "ada:y", "--user", "ada")
    assert (said.code, "user_erased" in said.err) == (1, True)
    assert there.run("users", "admit", "ada").code == 0
    assert there.run("send", "again", "--session", "ada:y", "--user", "ada").code == 0


@pytest.mark.long
def test_a_list_of_erasures_is_one_that_can_be_replayed(there: Terminal, tmp_path: Path) -> None:
    assert there.run("users", "erase", "ada", "--yes").code == 0
    listed = there.run("users", "erasures", "--json")
    (noted,) = listed.lines()
    assert "ada" not in json.dumps(noted)
    (tmp_path / "erasures.jsonl").write_text(listed.out)
    told = there.run("users", "replay-erasures", "--from", "erasures.jsonl", "--json").json()
    assert told == {"known": 1, "erased": 0}


@pytest.mark.long
def test_what_is_on_hold_or_waits_is_told_so(there: Terminal) -> None:
    assert there.run("users", "hold", "ada", "--reason", "case 7").code == 0
    assert [one["user_id"] for one in there.run("users", "holds", "--json").lines()] == ["ada"]
    refused = there.run("users", "erase", "ada", "--yes")
    assert (refused.code, "user_on_hold" in refused.err) == (1, True)
    assert there.run("sessions", "delete", "ada:x", "--yes").code == 1
    assert there.run("users", "release", "ada").code == 0
    assert there.run("users", "release", "ada").code == 3
    waits = there.run("users", "erase", "ada", "--grace-days", "30", "--yes", "--json").json()
    assert [one["what"] for one in waits["pending"]] == ["grace period"]
    assert waits["deleted"] is False
    said = there.run("users", "erasure", "ada").out
    assert said.splitlines()[0] == "ada  is to be erased" and "users withdraw ada" in said
    assert there.run("users", "withdraw", "ada").code == 0
    assert there.run("users", "withdraw", "ada").code == 3
    unknown = there.run("users", "erase", "nobody", "--yes")
    assert (unknown.code, "user_not_found" in unknown.err) == (3, True)

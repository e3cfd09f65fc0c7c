"""`turnmill templates` and `turnmill schedules`: set-ups and what is said later, by hand.

The commands of docs/templates.md are run here.
"""

import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.acceptance.pages import ROOT, blocks_of
from tests.acceptance.terminal import Terminal
from turnmill import Client

FIRST = (
    "model: large\nsystem_prompt: You help with {product}. Be {tone}.\nvariables: {tone: kind}\n"
)


@pytest.fixture
def there(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest's own terminal
    (tmp_path / "templates").mkdir()
    return Terminal(
        tmp_path, {"TURNMILL_DATABASE_URL": database_url, "TURNMILL_TEMPLATES": "templates"}
    )


def sync(there: Terminal, text: str) -> str:
    (there.folder / "templates" / "support.yaml").write_text(text, encoding="utf-8")
    said = there.run("templates", "sync")
    assert said.code == 0, said.err
    return said.out


def test_files_become_versions_that_are_compared_and_rolled_back(there: Terminal) -> None:
    assert sync(there, FIRST) == "support@1  put\n"
    assert sync(there, FIRST) == "support@1  unchanged\n"
    (there.folder / "templates" / "support.yaml").write_text(FIRST.replace("Be", "Always be"))
    assert there.run("templates", "sync", "--dry-run").out == "support@2  would be put\n"
    assert there.run("templates", "sync", "templates", "--json").json()["version"] == 2
    diff = there.run("templates", "diff", "support@1").out.splitlines()
    assert "-  Be {tone}." in diff
    assert "+  Always be {tone}." in diff
    sent = there.run("send", "hi", "--template", "support@1", "--var", "product=x", "--json")
    assert sent.code == 0, sent.err
    listed = there.run("templates", "sessions", "support@1", "--json").json()
    assert (listed["template"], listed["template_version"]) == ("support", 1)
    assert "support@1 is current" in there.run("templates", "roll-back", "support", "1").out
    shown = there.run("templates", "show", "support@2", "--json").json()
    assert (shown["is_current"], shown["definition"]["model"]) == (False, "large")
    told = there.run("templates", "show", "support").out
    assert "You help with {product}." in told
    assert there.run("templates", "show", "nobody").code == 3


def test_a_mistake_is_told_with_its_file_and_nothing_is_put(there: Terminal) -> None:
    sync(there, FIRST)
    (there.folder / "templates" / "other.yaml").write_text("model: a\nmodel: b\n")
    said = there.run("templates", "sync")
    assert said.code == 1
    assert "other.yaml: a key twice at line 2" in said.err
    without = there.run("send", "hi", "--template", "support")
    assert (without.code, "needs variables: product" in without.err) == (1, True)
    assert there.run("send", "hi", "--template", "support", "--var", "product").code == 2


def test_the_commands_of_the_page_are_run(there: Terminal) -> None:
    for n in (1, 2, 3):
        sync(there, FIRST.replace("large", f"large-{n}"))
    page = ROOT / "docs" / "templates.md"
    (block,) = (one for one in blocks_of(page) if one.language == "sh")
    for line in block.text.splitlines():
        said = there.run(*shlex.split(line, comments=True)[1:])
        assert said.code == 0, f"{line}: {said.err}"


def test_the_file_of_the_page_is_a_template(there: Terminal) -> None:
    page = ROOT / "docs" / "templates.md"
    (block,) = (one for one in blocks_of(page) if one.language == "yaml")
    sync(there, block.text)


def test_a_schedule_is_made_shown_paused_and_deleted_by_hand(
    there: Terminal, database_url: str
) -> None:
    with Client(database_url=database_url) as client:
        client.sessions.create(user_id="ada", key="s")
    made = there.run(
        *("schedules", "create", "s", "Good morning.", "--cron", "30 2 * * *"),
        *("--timezone", "US/Pacific", "--missed", "skip", "--key", "daily", "--json"),
    ).json()
    assert "text" not in made
    told = there.run("schedules", "show", made["id"][:18], "--text").out
    assert "30 2 * * * in US/Pacific" in told
    assert "Good morning." in told
    assert len(made["next_runs"]) == 5
    at = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
    once = there.run("schedules", "create", "s", "Later.", "--at", at, "--json").json()
    listed = there.run("schedules", "ls", "--session", "s", "--json").lines()
    assert [one["id"] for one in listed] == [once["id"], made["id"]]
    assert there.run("schedules", "pause", made["id"], "--json").json()["paused"] is True
    assert "active" in there.run("schedules", "resume", made["id"]).out
    assert there.run("schedules", "delete", made["id"], "--yes").code == 0
    assert there.run("schedules", "show", made["id"]).code == 3
    assert there.run("schedules", "create", "s", "x", "--cron", "daily").code == 1
    assert there.run("schedules", "create", "s", "x", "--at", "soon").code == 1

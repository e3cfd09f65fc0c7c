"""`turnmill trial`, `trials` and `experiments`, by hand.

The commands of docs/trials.md and docs/experiments.md are run here.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.pages import ROOT, blocks_of
from tests.acceptance.terminal import Terminal
from tests.trying import asked, had
from turnmill import Client
from turnmill.store.database import Database


@pytest.fixture
def there(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest's own terminal
    return Terminal(tmp_path, {"TURNMILL_DATABASE_URL": database_url})


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    store = Database(database_url)
    yield store
    store.close()


def commands_of(page: str) -> list[list[str]]:
    (block,) = (one for one in blocks_of(ROOT / "docs" / page) if one.language == "sh")
    return [shlex.split(line, comments=True)[1:] for line in block.text.splitlines()]


def test_the_commands_of_the_page_are_run(there: Terminal, store: Database) -> None:
    had(store, "one", "two")
    for command in commands_of("trials.md"):
        said = there.run(*command)
        goes_on = command[:2] == ["trials", "show"]
        assert said.code == (4 if goes_on else 0), f"{command}: {said.err}"


def test_a_trial_is_told_in_words(there: Terminal, store: Database) -> None:
    for n in range(10):
        had(store, f"text {n}", user_id=f"user-{n}")
    started = there.run("trial", "--model", "mock/smaller", "--judge", "exact", "--name", "nano")
    assert started.code == 0, started.err
    assert "10 turns asked again of mock/smaller: 0 answered" in started.out
    asked(store)
    with Client(database_url=there.environment["TURNMILL_DATABASE_URL"]) as client:
        client.trials.wait("nano", timeout=60)
    shown = there.run("trials", "show", "nano")
    assert shown.code == 0, shown.err
    assert "cheaper" in shown.out
    assert "faster" in shown.out
    assert "no clear difference" in shown.out
    assert "100 % agreement (95 % sure:" in shown.out
    document = there.run("trials", "show", "nano", "--json").json()
    assert document["summary"]["cost_usd"]["is_clear"] is True
    assert document["summary"]["agreement"]["mean"] == 1.0
    lines = there.run("trials", "results", "nano").out.splitlines()
    assert len(lines) == 10
    assert there.run("trials", "show", "nobody").code == 3


def test_an_experiment_is_started_looked_at_and_stopped(there: Terminal) -> None:
    with Client(database_url=there.environment["TURNMILL_DATABASE_URL"]) as client:
        client.templates.put("support", provider="mock", model="mock")
    for command in commands_of("experiments.md"):
        said = there.run(*command)
        assert said.code == 0, f"{command}: {said.err}"
    assert "is over" in there.run("experiments", "result", "smaller-first").out
    assert there.run("experiments", "start", "support").code == 1
    assert there.run("experiments", "start", "support", "--settings", "[]").code == 2

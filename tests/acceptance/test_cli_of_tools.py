"""`turnmill tools`: what waits for somebody is listed, answered, approved and rejected by hand.

The commands of docs/tool-approvals.md are run here.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import stepping, steps
from tests.acceptance.pages import ROOT, blocks_of
from tests.acceptance.terminal import Terminal
from turnmill import Client, Turn
from turnmill.domain.states import ToolCallState, TurnState

CANARY = "xyzzy-canary"
OUTSIDE, ASKED = ToolCallState.CALLER, ToolCallState.APPROVAL


@pytest.fixture
def there(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest's own terminal
    return Terminal(tmp_path, {"TURNMILL_DATABASE_URL": database_url})


@pytest.fixture
def client(database_url: str) -> Iterator[Client]:
    with Client(database_url=database_url) as made:
        yield made


def waiting(client: Client, *states: ToolCallState, user: str = "ada") -> Turn:
    """Return a turn that waits for somebody outside."""
    store = client._executor.database
    turn = client.send(client.sessions.create(user_id=user), CANARY)
    claim = steps.take_one(store, turn.id)
    calls = [
        stepping.new_call(n, state=state, expires_in=steps.AGO) for n, state in enumerate(states)
    ]
    stepping.wait(store, stepping.call(store, claim, *calls))
    return turn


def test_what_waits_is_listed_by_what_it_waits_for(client: Client, there: Terminal) -> None:
    outside, asked = waiting(client, OUTSIDE), waiting(client, ASKED, ASKED, user="bob")
    both = there.run("tools", "ls", "--json").lines()
    assert [(one["turn_id"], one["call_id"], one["waits_for"]) for one in both] == [
        (str(asked.id), "call_0", "approval"),
        (str(asked.id), "call_1", "approval"),
        (str(outside.id), "call_0", "tool"),
    ]
    assert "arguments" not in both[0]
    told = there.run("tools", "ls", "--for", "tool", "--text")
    assert told.code == 0
    assert str(outside.id) in told.out
    assert "{}" in told.out
    assert str(asked.id) not in told.out
    first = there.run("tools", "ls", "--limit", "1", "--json")
    assert [one["turn_id"] for one in first.lines()] == [str(asked.id)] * 2
    assert f"more: --after {asked.id}" in first.err
    rest = there.run("tools", "ls", "--after", str(asked.id), "--json").lines()
    assert [one["turn_id"] for one in rest] == [str(outside.id)]
    assert "no call waits" in there.run("tools", "ls", "--user", "nobody").err


def test_an_output_is_submitted_by_hand_or_from_a_pipe(client: Client, there: Terminal) -> None:
    turn = waiting(client, OUTSIDE, OUTSIDE)
    several = there.run("tools", "submit", str(turn.id), "--output", "sunny")
    assert (several.code, "call_0, call_1" in several.err) == (1, True)
    assert there.run("tools", "submit", str(turn.id), "call_1", "--output", "sunny").code == 0
    piped = there.run("tools", "submit", str(turn.id)[:18], "--output", "-", typed="no such city")
    assert piped.code == 0, piped.err
    failed = there.run("tools", "submit", str(turn.id), "call_0", "--output", "x", "--error")
    assert (failed.code, "output_conflict" in failed.err) == (1, True)
    assert [one.output for one in turn.tool_calls()] == ["no such city", "sunny"]


def test_calls_are_approved_and_rejected_and_who_did_so_is_known(
    client: Client, there: Terminal
) -> None:
    turn = waiting(client, ASKED, ASKED, ASKED)
    assert there.run("tools", "approve", str(turn.id)).code == 1
    assert there.run("tools", "approve", str(turn.id), "call_0", "--by", "ada").code == 0
    said = there.run("tools", "reject", str(turn.id), "--all", "--why", "too dear", "--json")
    assert [one["call_id"] for one in said.lines()] == ["call_1", "call_2"]
    first, second, _ = turn.tool_calls()
    assert (first.state, first.decided_by) == (ToolCallState.PENDING, "ada")
    assert (second.state, second.why) == (ToolCallState.REJECTED, "too dear")
    nothing = there.run("tools", "approve", str(turn.id))
    assert (nothing.code, "move_refused" in nothing.err) == (1, True)


def test_the_commands_of_docs_tool_approvals_do_what_they_say(
    client: Client, there: Terminal
) -> None:
    page = ROOT / "docs" / "tool-approvals.md"
    (block,) = [one for one in blocks_of(page) if one.language == "sh"]
    approved, rejected, answered = (waiting(client, one) for one in (ASKED, ASKED, OUTSIDE))
    turns = iter((approved, rejected, answered))
    for line in block.text.splitlines():
        words = shlex.split(line)[1:]
        words = [str(next(turns).id) if one.startswith("01a2") else one for one in words]
        assert there.run(*words).code == 0
    told = [turn.tool_calls()[0] for turn in (approved, rejected, answered)]
    assert [one.state for one in told] == ["pending", "rejected", "done"]
    assert [one.output for one in told] == [None, "refused: too dear", "on Friday"]


def test_what_is_not_there_has_its_own_exit_code(client: Client, there: Terminal) -> None:
    turn = waiting(client, ASKED)
    assert there.run("tools", "approve", str(turn.id), "nonsense").code == 3
    assert there.run("tools", "approve", "01a21734-db86-7fdf-a263-3ea6f09359a0").code == 3
    assert there.run("tools", "approve", str(turn.id), "call_0", "--all").code == 2
    assert there.run("tools", "submit", str(turn.id), "call_0").code == 2


def test_show_says_what_a_turn_waits_for_and_how_to_answer(client: Client, there: Terminal) -> None:
    turn = waiting(client, ASKED, OUTSIDE)
    shown = there.run("turns", "show", str(turn.id))
    assert "until " in shown.out
    assert f"tools approve {turn.id} call_0" in shown.out
    assert f"tools submit {turn.id} call_1 --output" in shown.out
    assert "step 2" in shown.out
    assert CANARY not in shown.out
    document = there.run("turns", "show", str(turn.id), "--json").json()
    assert [one["state"] for one in document["tool_calls"]] == ["approval", "caller"]
    assert "arguments" not in document["tool_calls"][0]
    with_text = there.run("turns", "show", str(turn.id), "--json", "--text").json()
    assert with_text["tool_calls"][0]["arguments"] == {}
    turn.cancel()
    assert turn.refresh().state is TurnState.CANCELLED
    assert "expired" in there.run("turns", "show", str(turn.id)).out

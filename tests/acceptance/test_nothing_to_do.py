"""What commands say that remove, end, stop or let go on what is not there, or is so already."""

import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import rows, stepping, steps
from tests.acceptance.terminal import Terminal
from tests.commands import leaves
from tests.waiting import until
from turnmill import Client, LimitNotFound, Settings
from turnmill.cli import cli
from turnmill.domain.states import ToolCallState
from turnmill.store.database import Database

pytestmark = pytest.mark.long

NONE = "0190b2a4-0000-7000-8000-000000000000"
NOTHING = "nothing to do"

#: In this order: a command, its exit code, and what it says then. `{turn}` and so on are put in.
TOLD = (
    ("limits rm mock", 3, "limit_not_found"),
    ("limits set mock --requests 5", 0, ""),
    ("limits rm mock --model m", 3, "limit_not_found"),
    ("limits rm mock", 0, "not limited any more"),
    ("limits rm mock", 3, "limit_not_found"),
    ("accounts open mock", 1, "nothing of it is closed"),
    ("budget rm --user ada", 3, "budget_not_found"),
    ("queue resume --lane bulk", 0, NOTHING),
    ("queue resume --provider nobody", 1, "nor asked for by any session"),
    ("queue pause --lane bulk", 0, "is paused"),
    ("queue pause --lane bulk", 0, NOTHING),
    ("queue resume --lane bulk", 0, ""),
    ("sessions pause nobody", 3, "session_not_found"),
    ("sessions pause s", 0, "paused"),
    ("sessions pause s", 0, NOTHING),
    ("sessions resume s", 0, "active"),
    ("sessions resume s", 0, NOTHING),
    ("sessions restore s", 0, NOTHING),
    ("sessions archive s --running cancel", 0, "archived"),
    ("sessions archive s", 0, NOTHING),
    ("sessions pause s", 1, "move_refused"),
    ("sessions restore s", 0, "active"),
    ("sessions keep-content --user ada --as-everybody", 0, NOTHING),
    ("sessions deletion {none}", 3, "session_not_found"),
    ("sessions delete {none} --yes", 3, "session_not_found"),
    ("participants remove s bob --yes", 1, "not_a_participant"),
    ("turns retry {turn}", 1, "move_refused"),
    ("turns retry {none}", 3, "turn_not_found"),
    ("turns cancel {turn}", 1, "move_refused"),
    ("turns cancel {none}", 3, "turn_not_found"),
    ("turns release {turn}", 1, "move_refused"),
    ("turns retry --all --state dead", 0, "found: 0 turns"),
    ("turns feedback {turn} --take-back", 1, "no such feedback"),
    ("tools approve {asked} call_9", 3, "tool_call_not_found"),
    ("tools approve {asked} call_0", 0, "approved"),
    ("tools approve {asked} call_0", 0, NOTHING),
    ("tools reject {asked} call_0", 1, "approved already"),
    ("tools submit {asked} call_2 --output sunny", 0, "submitted"),
    ("tools submit {asked} call_2 --output sunny", 0, NOTHING),
    ("tools submit {asked} call_2 --output rainy", 1, "output_conflict"),
    ("schedules resume {schedule}", 0, NOTHING),
    ("schedules pause {schedule}", 0, "paused"),
    ("schedules pause {schedule}", 0, NOTHING),
    ("schedules delete {schedule} --yes", 0, "deleted"),
    ("schedules delete {schedule} --yes", 3, "schedule_not_found"),
    ("files rm {file} --yes", 0, "deleted"),
    ("files rm {file} --yes", 3, "attachment_unknown"),
    ("batch resume {batch}", 0, NOTHING),
    ("batch pause {batch}", 0, "paused"),
    ("batch pause {batch}", 0, NOTHING),
    ("batch retry-failed {batch}", 0, "0 turns run again"),
    ("batch cancel {batch} --yes", 0, "1 lines cancelled"),
    ("batch cancel {batch} --yes", 0, NOTHING),
    ("batch resume {batch}", 1, "move_refused"),
    ("batch retry-failed {batch}", 1, "move_refused"),
    ("events park nobody", 1, "no such reader"),
    ("events park one", 0, "parked"),
    ("events park one", 0, NOTHING),
    ("events park one --undo", 0, "reads again"),
    ("events park one --undo", 0, NOTHING),
    ("events remove one --yes", 0, "forgotten"),
    ("events remove one --yes", 1, "no such reader"),
    ("observers release nobody", 1, "no such observer"),
    ("webhooks release {webhook}", 0, "sent again: 0"),
    ("webhooks replay {webhook} --delivery {none}", 1, "not in the webhook's log"),
    ("webhooks rm {webhook} --yes", 0, "forgotten"),
    ("webhooks rm {webhook} --yes", 3, "webhook_not_found"),
    ("templates roll-back t 2", 0, NOTHING),
    ("templates roll-back t 9", 3, "template_not_found"),
    ("templates rm ghost --yes", 3, "template_not_found"),
    ("experiments stop e", 0, "is over"),
    ("experiments stop e", 0, NOTHING),
    ("experiments stop ghost", 3, "experiment_not_found"),
    ("trials cancel ghost --yes", 3, "trial_not_found"),
    ("users withdraw ada", 3, "no erasure"),
    ("users admit ada", 3, "nobody of this id"),
    ("users release ada", 3, "no such hold [user_not_found]"),
    ("users erase ghost --yes", 3, "user_not_found"),
    ("home remove --yes", 1, "no home"),
)

#: How commands are called that end something, or let it go on.
ENDING = {
    *("rm", "remove", "delete", "cancel", "stop", "release", "withdraw", "admit", "erase", "open"),
    *("pause", "resume", "restore", "archive", "park", "retry", "retry-failed", "replay"),
    *("roll-back", "approve", "reject", "submit", "deletion", "keep-content"),
}
#: Which makes something, and is called as one that ends something.
MAKING = {"batch submit"}


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    (tmp_path / "jobs").write_text(
        '{"user_id": "bob", "text": "hi", "provider": "later", "model": "m"}\n'
    )
    url = f"sqlite:///{tmp_path}/turns.db"
    return Terminal(
        tmp_path, {"TURNMILL_DATABASE_URL": url, "TURNMILL_HOME": str(tmp_path / "home")}
    )


@pytest.fixture
def named(terminal: Terminal) -> Mapping[str, str]:
    """Let there be one of each, in a store where nothing runs by itself that is not asked for."""
    url = terminal.environment["TURNMILL_DATABASE_URL"]
    with Client(settings=Settings(database_url=url, home=terminal.folder / "home")) as client:
        client.lanes.pause(provider="later", force=True)
        batch = client.batches.create(terminal.folder / "jobs", name="b")
        session = client.sessions.create(user_id="ada", key="s")
        for model in ("small", "large"):
            client.templates.put("t", model=model)
        client.experiments.start("t", model="other", name="e")
        client.events.add_reader("one")
        found = {
            "none": NONE,
            "batch": str(batch.id),
            "schedule": str(client.schedules.create(session, "hi", cron="@yearly").id),
            "webhook": str(client.webhooks.create(url="https://a.example/", events=["*"]).id),
            "file": str(client.attachments.put(b"words", user_id="ada").id),
        }
    store = Database(url)
    turn = steps.send(store, rows.start(store, user_id="ada")).turn_id
    steps.answer(store, turn)
    asked = steps.send(store, rows.start(store, user_id="ada")).turn_id
    states = (ToolCallState.APPROVAL, ToolCallState.APPROVAL, ToolCallState.CALLER)
    calls = [stepping.new_call(n, state=state) for n, state in enumerate(states)]
    stepping.wait(store, stepping.call(store, steps.take_one(store, asked), *calls))
    store.close()
    return found | {"turn": str(turn), "asked": str(asked)}


def test_a_command_that_changes_nothing_says_so(
    terminal: Terminal, named: Mapping[str, str]
) -> None:
    for line, code, words in TOLD:
        said = terminal.run(*shlex.split(line.format(**named)))
        assert (said.code, words in said.out + said.err) == (code, True), (line, said)
        if code:
            assert "error: " in said.err and "hint: " in said.err, (line, said.err)
            assert not said.out, (line, said.out)


def test_every_command_that_ends_something_is_tried_on_what_is_not_there() -> None:
    tried = {line for line, code, words in TOLD if code or words == NOTHING or ": 0" in words}
    for command in leaves(cli):
        if command.rpartition(" ")[2] in ENDING and command not in MAKING:
            assert any(f"{line} ".startswith(f"{command} ") for line in tried), command


def test_a_client_tells_whether_anything_was_done(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text(
        '{"user_id": "bob", "text": "hi", "provider": "later", "model": "m"}\n'
    )
    with Client(settings=Settings(database_url="sqlite://")) as client:
        assert client.lanes.pause(provider="later", lane="bulk", force=True)
        assert client.lanes.pause(lane="bulk") is False
        assert client.lanes.resume(lane="bulk")
        assert client.lanes.resume(lane="bulk") is False
        client.events.add_reader("one")
        assert [client.events.park_reader("one") for _ in range(2)] == [True, False]
        batch = client.batches.create(tmp_path / "jobs")
        assert [batch.pause() for _ in range(2)] == [True, False]
        assert [batch.resume() for _ in range(2)] == [True, False]
        assert batch.resume(max_cost_usd=1)
        with pytest.raises(LimitNotFound) as caught:
            client.limits.remove(provider="mock")
        assert caught.value.hint


def test_a_batch_that_has_ended_is_not_told_of_again_where_nothing_of_it_runs_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "jobs").write_text('{"user_id": "bob", "text": "hi"}\n')
    with Client(settings=Settings(database_url="sqlite://")) as client:
        batch = client.batches.create(tmp_path / "jobs")
        batch.wait(timeout=30)
        until(lambda: client.batches.get(batch.id).record.ended_at is not None)
        assert batch.retry_failed() == 0
        assert client.batches.get(batch.id).record.ended_at is not None


def test_what_changed_nothing_is_not_written_down(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/turns.db"
    settings = Settings(database_url=url, home=tmp_path / "home", by_hand=True)
    with Client(settings=settings) as client:
        session = client.sessions.create(user_id="ada")
        for _ in range(2):
            client.sessions.pause(session)
            client.lanes.pause(lane="bulk")
        for _ in range(2):
            client.sessions.resume(session)
            client.lanes.resume(lane="bulk")
        done = sorted(str(one.action) for one in client.audit.list())
    assert done == ["paused", "paused", "resumed", "resumed"]

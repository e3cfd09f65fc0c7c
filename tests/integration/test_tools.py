"""Tools in a running system: what a model is told, what is bounded, and how a turn is stopped."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import some_tools, stepping, steps
from tests.talking import Talking, installed
from turnmill import Client, ToolOutput, Turn, TurnFailed
from turnmill.domain.errors import InvalidSetting, TurnCancelled
from turnmill.domain.states import ToolCallState
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill_worker.providers.registry import ProviderRegistry
from turnmill_worker.stack.process import wait_until

SOON = timedelta(seconds=20)
MEBIBYTE = 1_000_000


class Runs:
    """A store in a file, an application that runs its turns, and the model."""

    def __init__(self, url: str, model: Talking) -> None:
        self.url = url
        self.model = model
        self.store = Database(url)
        self.client = self.begin()

    def begin(self, **settings: Any) -> Client:
        values: dict[str, Any] = {"tools": "tests.some_tools", "grace": timedelta(seconds=0.2)}
        return Client(settings=Settings(database_url=self.url, **values | settings))

    def send(self, *rounds: Sequence[Sequence[Any]], **settings: Any) -> Turn:
        """Let the model make these calls, one round after the other."""
        named = sorted({call[0] for calls in rounds for call in calls})
        session = self.client.sessions.create(
            user_id="ada", provider="talking", model="m", settings={"tools": named} | settings
        )
        return self.client.send(session, "go", metadata={"calls": list(rounds), "told": "yes"})

    def outputs(self, *calls: Sequence[Any], **settings: Any) -> list[str]:
        """Return what the model is told of the calls, which it makes in one round."""
        text = self.send(calls, **settings).result(timeout=20).text
        told: list[str] = json.loads(text)["outputs"]
        return told

    def close(self) -> None:
        self.client.close()
        steps.assert_sound(self.store)
        self.store.close()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    model, real = Talking(), ProviderRegistry.get
    monkeypatch.setattr(
        ProviderRegistry,
        "get",
        lambda self, name: model if name == "talking" else real(self, name),
    )
    monkeypatch.syspath_prepend(installed(tmp_path))
    some_tools.GO_ON.clear()
    found = Runs(f"sqlite:///{tmp_path / 'turns.db'}", model)
    yield found
    some_tools.GO_ON.set()
    found.close()


def test_a_model_is_told_what_its_tools_return(runs: Runs) -> None:
    assert runs.outputs(
        ["weather", {"city": "Rome"}],
        ["add", {"a": 2}],
        ["weather", {"city": "", "at": {"lat": 3}}],
    ) == ["sunny in Rome", '{"sum":3}', "sunny at 3"]
    offered = {one.name: one for one in runs.model.asked[0].tools}
    assert offered["add"].description == "Add two numbers."
    assert offered["weather"].parameters["properties"]["city"] == {
        "description": "As people there call it.",
        "type": "string",
    }


def test_what_a_tool_makes_when_it_is_read_or_its_arguments_are_is_made_beside_the_loop(
    runs: Runs,
) -> None:
    told = runs.outputs(
        ["yields", {"names": ["a", "b"]}],
        ["maps", {"names": ["c"]}],
        ["holds_lazy", {"names": ["d"]}],
        ["minds", {"name": "e"}],
    )
    assert told == ['["a False","b False"]', '["C FALSE"]', '{"rows":["D FALSE"]}', "e False"]


def test_calls_of_one_reply_run_beside_one_another(runs: Runs) -> None:
    assert runs.outputs(
        ["meet", {"me": "a", "other": "b"}], ["meet", {"me": "b", "other": "a"}]
    ) == ["a met b", "b met a"]


@pytest.mark.parametrize(
    ("call", "told", "code"),
    [
        (["add", {"a": "much"}], "a: Input should be a valid integer", "bad_arguments"),
        (["add", "{"], "Invalid JSON", "bad_arguments"),
        (["add", {"a": 1, "c": 2}], "c: Extra inputs are not permitted", "bad_arguments"),
        (["breaks", {}], "The tool failed: ValueError.", "raised:ValueError"),
        (["exits", {}], "The tool failed: SystemExit.", "raised:SystemExit"),
        (["apologises", {}], "the card was declined", "tool_error"),
        (["sleeps", {}], "longer than 0.2 seconds. It may have had its effect", "tool_timeout"),
        (["dawdles", {}], "longer than 0.2 seconds.", "tool_timeout"),
        (["shouts", {"length": MEBIBYTE + 1}], "longer than 1000000 bytes", "output_too_large"),
        (["mute", {}], "The tool's output is no JSON: object.", "output_unreadable"),
        (["counts", {}], "longer than 1000000 bytes", "output_too_large"),
        (["holds_endless", {}], "longer than 1000000 bytes", "output_too_large"),
        (["is_held", {"name": "x"}], "within 0.2 seconds, and nothing was", "tool_timeout"),
        (["hushes", {}], "The tool failed.", "tool_error"),
    ],
)
def test_what_goes_wrong_with_a_call_is_told_to_the_model_and_ends_no_turn(
    runs: Runs, call: list[Any], told: str, code: str
) -> None:
    turn = runs.send([call, ["weather", {"city": "Rome"}]])
    turn.result(timeout=20)
    outputs = [one for message in turn.messages() for one in message.parts]
    first, second = [one for one in outputs if isinstance(one, ToolOutput)]
    assert told in first.output
    assert (first.is_error, second.is_error) == (True, False)
    receipt = stepping.receipts(runs.store, turn.id)[0]
    assert (receipt.state, receipt.error_code) == (ToolCallState.FAILED, code)


def test_the_words_of_an_error_stay_in_the_tool(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    told = runs.outputs(["breaks", {}], ["exits", {}])
    assert some_tools.SECRET not in "".join([*told, caplog.text])
    assert "tool breaks raised ValueError at " in caplog.text


def test_a_tool_that_the_model_made_up_is_told_as_an_error(runs: Runs) -> None:
    turn = runs.send([["weather", {"city": "Rome"}]])
    turn.result(timeout=20)
    session = runs.client.sessions.create(
        user_id="ada", provider="talking", settings={"tools": ["weather"]}
    )
    again = runs.client.send(session, "go", metadata={"calls": [[["invent", {}]]]})
    assert "There is no such tool." in again.result(timeout=20).text


def test_a_tool_is_told_whose_call_it_is_and_a_key_that_stays(runs: Runs) -> None:
    turn = runs.send([["tells", {}]], [["tells", {}]])
    first, second = json.loads(turn.result(timeout=20).text)["outputs"]
    assert first == f"('ada', 'yes', 1, 1) call_1_0 {turn.id}:2"
    assert second == f"('ada', 'yes', 1, 2) call_2_0 {turn.id}:4"


def test_a_session_that_names_a_tool_that_is_not_there_is_told_so_and_nothing_is_imported(
    runs: Runs,
) -> None:
    turn = runs.send([["antigravity", {}]])
    with pytest.raises(TurnFailed) as caught:
        turn.result(timeout=20)
    assert caught.value.error_code == "unknown_tool"
    assert runs.model.asked == []
    assert "antigravity" not in sys.modules


def test_a_provider_that_knows_no_tools_is_not_asked_with_some(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs.model, "accepts", frozenset(), raising=False)
    with pytest.raises(TurnFailed) as caught:
        runs.send([["weather", {"city": "Rome"}]]).result(timeout=20)
    assert caught.value.error_code == "unsupported_part"
    assert runs.model.asked == []


def test_a_model_that_calls_tools_for_ever_is_stopped(runs: Runs) -> None:
    rounds = [[["weather", {"city": "Rome"}]]] * 4
    turn = runs.send(*rounds, max_tool_rounds=3)
    with pytest.raises(TurnFailed) as caught:
        turn.result(timeout=20)
    assert caught.value.error_code == "too_many_tool_rounds"
    assert [one.outcome for one in turn.attempts()] == ["called"] * 3 + ["failed"]
    assert turn.refresh().record.input_tokens == 40  # it was paid for all the same
    more = replace_settings(runs, turn, max_tool_rounds=4)
    runs.client.turns.get(turn.id).retry()
    assert len(json.loads(turn.result(timeout=20).text)["outputs"]) == 4, more


def test_a_turn_of_a_hundred_rounds_is_one_turn(runs: Runs) -> None:
    turn = runs.send(*[[["add", {"a": n}]] for n in range(100)], max_tool_rounds=120)
    outputs = json.loads(turn.result(timeout=60).text)["outputs"]
    assert outputs == [f'{{"sum":{n + 1}}}' for n in range(100)]
    assert [len(one.messages) for one in runs.model.asked] == [1 + 2 * n for n in range(101)]


FORM = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
FITS, MISFITS = '{"city": "Rome"}', '{"town": "Rome"}'


def said(runs: Runs, *texts: str, form: Any = FORM) -> Turn:
    """Let the model answer with these, step by step, where a form is asked for."""
    session = runs.client.sessions.create(
        user_id="ada", provider="talking", settings={"response_format": form}
    )
    return runs.client.send(session, "go", metadata={"texts": list(texts)})


def test_a_reply_has_the_form_that_is_asked_for(runs: Runs) -> None:
    turn = said(runs, FITS)
    assert turn.result(timeout=20).text == FITS
    assert [one.output_schema for one in runs.model.asked] == [FORM]
    assert len(turn.attempts()) == 1


@pytest.mark.parametrize("wrong", [MISFITS, "In Rome.", '{"city": 7}'])
def test_a_model_whose_reply_has_another_form_is_told_so_once(runs: Runs, wrong: str) -> None:
    turn = said(runs, wrong, FITS)
    assert turn.result(timeout=20).text == FITS
    _, mended = runs.model.asked
    assert [one.role for one in mended.messages] == ["user", "assistant", "user"]
    assert "does not fit the JSON schema" in mended.messages[-1].text
    assert [one.error_code for one in turn.attempts()] == ["output_invalid", None]


def test_a_form_that_cannot_be_had_fails_the_turn_and_leaves_nothing_behind(runs: Runs) -> None:
    turn = said(runs, MISFITS, MISFITS)
    with pytest.raises(TurnFailed) as caught:
        turn.result(timeout=20)
    assert caught.value.error_code == "output_invalid"
    assert turn.refresh().record.input_tokens == 20
    later = runs.client.send(turn.record.session_id, "go", metadata={"texts": [FITS]})
    assert later.result(timeout=20).text == FITS
    assert list(runs.model.asked[-1].history) == []
    # As another turn it goes on where it was, told already what is wrong with its form.
    again = runs.client.turns.get(turn.id).retry()
    with pytest.raises(TurnFailed):
        again.result(timeout=20)
    assert [one.role for one in runs.model.asked[-1].messages] == ["user", "assistant", "user"]
    assert len(runs.model.asked) == 4


@pytest.mark.parametrize(
    "city",
    [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:9/schema"}, {"pattern": "(?=a)"}],
    ids=str,
)
def test_a_form_that_is_no_schema_fails_the_turn_before_anybody_is_asked_or_paid(
    runs: Runs, city: dict[str, Any]
) -> None:
    form = {"type": "object", "properties": {"city": city}}
    with pytest.raises(TurnFailed) as caught:
        said(runs, FITS, form=form).result(timeout=20)
    assert caught.value.error_code == "setting_refused"
    assert runs.model.asked == []


def replace_settings(runs: Runs, turn: Turn, **settings: Any) -> dict[str, Any]:
    session = turn.record.session_id
    known = dict(runs.client.sessions.get(session).settings) | settings
    runs.client.sessions.update(session, settings=known)
    return known


def test_a_cancelled_turn_stops_its_tools(runs: Runs) -> None:
    turn = runs.send([["lingers", {"name": "cancelled"}]])
    assert wait_until(lambda: "cancelled" in some_tools.BEGUN, timeout=SOON)
    turn.cancel()
    with pytest.raises(TurnCancelled):
        turn.result(timeout=20)
    assert wait_until(lambda: "cancelled" in some_tools.STOPPED, timeout=SOON)


def test_a_worker_that_ends_gives_the_turn_back_with_what_is_done(runs: Runs) -> None:
    turn = runs.send([["weather", {"city": "Rome"}], ["lingers", {"name": "drained"}]])
    done = [ToolCallState.DONE, ToolCallState.RUNNING]
    assert wait_until(
        lambda: [one.state for one in stepping.receipts(runs.store, turn.id)] == done, timeout=SOON
    )
    runs.client.close()
    record = steps.turn(runs.store, turn.id)
    assert (record.state, record.attempt, record.step) == ("queued", 0, 2)
    stepping.set_receipt(runs.store, turn.id, effects="at_most_once")
    runs.client = runs.begin()
    outputs = json.loads(runs.client.turns.get(turn.id).result(timeout=20).text)["outputs"]
    assert outputs[0] == "sunny in Rome"
    assert "outcome of this call is unknown" in outputs[1]
    assert [one.runs for one in stepping.receipts(runs.store, turn.id)] == [1, 1]


def test_a_call_that_is_left_of_a_tool_which_the_next_worker_lacks_fails_its_turn(
    runs: Runs,
) -> None:
    turn = runs.send([["lingers", {"name": "left"}]])
    assert wait_until(lambda: "left" in some_tools.BEGUN, timeout=SOON)
    runs.client.close()
    with runs.begin(tools="") as client, pytest.raises(TurnFailed) as failed:
        client.turns.get(turn.id).result(timeout=20)
    assert failed.value.error_code == "unknown_tool"
    runs.client = runs.begin()
    again = runs.client.turns.get(turn.id).retry()
    assert wait_until(lambda: some_tools.BEGUN.count("left") == 2, timeout=SOON)
    again.cancel(wait=True)


def test_synchronous_tools_hold_up_nobody_else(runs: Runs) -> None:
    held = runs.send([["holds", {}]] * 3)
    assert wait_until(lambda: stepping.states(runs.store, held.id) == ["running"] * 3, timeout=SOON)
    assert runs.outputs(["weather", {"city": "Rome"}]) == ["sunny in Rome"]
    assert stepping.states(runs.store, held.id) == ["running"] * 3
    some_tools.GO_ON.set()
    assert json.loads(held.result(timeout=20).text)["outputs"] == ["went on"] * 3


def test_what_the_caller_answers_is_waited_for_beside_what_a_worker_runs(runs: Runs) -> None:
    turn = waiting(runs, expires=30)
    assert [one.state.value for one in stepping.receipts(runs.store, turn.id)] == ["done", "caller"]
    assert turn.refresh().record.waits_for == "tool"
    assert runs.model.asked[-1].step == 1


def test_a_call_that_nobody_answers_in_time_is_told_to_the_model(runs: Runs) -> None:
    turn = waiting(runs, expires=0.5)
    outputs = json.loads(turn.result(timeout=20).text)["outputs"]
    assert outputs == ["sunny in Rome", "Nobody answered this call in time."]
    assert stepping.states(runs.store, turn.id) == ["done", "expired"]


def waiting(runs: Runs, *, expires: float) -> Turn:
    theirs = {"name": "ask", "parameters": {"type": "object"}, "expires": expires}
    session = runs.client.sessions.create(
        user_id="ada", provider="talking", settings={"tools": ["weather", theirs]}
    )
    calls = [["weather", {"city": "Rome"}], ["ask", {}]]
    turn = runs.client.send(session, "go", metadata={"calls": [calls]})
    assert wait_until(lambda: turn.refresh().state in {"waiting", "succeeded"}, timeout=SOON)
    return turn


def test_a_call_that_somebody_agrees_to_is_run_then(runs: Runs) -> None:
    turn = runs.send([["pays", {"amount": 3}]])
    assert wait_until(lambda: turn.refresh().state == "waiting", timeout=SOON)
    assert turn.record.waits_for == "approval"
    stepping.set_receipt(runs.store, turn.id, state=ToolCallState.PENDING)
    steps.due_now(runs.store, turn.id)
    assert json.loads(turn.result(timeout=20).text)["outputs"] == ["paid 3"]


def test_calls_that_no_vendor_could_tell_apart_fail_the_turn(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Talking.send

    async def send(self: Talking, request: Any, emit: Any = None) -> Any:
        done: Any = await real(self, request, emit)
        return replace(done, parts=[replace(one, id="same") for one in done.parts])

    monkeypatch.setattr(Talking, "send", send)
    turn = runs.send([["weather", {"city": "Rome"}], ["weather", {"city": "Oslo"}]])
    with pytest.raises(TurnFailed) as caught:
        turn.result(timeout=20)
    assert caught.value.error_code == "bad_answer"


@pytest.mark.parametrize(
    "listed",
    [
        "tests.some_tools:Place",
        "tests.some_tools:nothing",
        "tests.no_such_tools",
        "tests.some_tools,tests.other=1",
        "tests.talking",
    ],
)
def test_a_worker_whose_tools_are_not_there_does_not_begin(runs: Runs, listed: str) -> None:
    with pytest.raises(InvalidSetting) as caught, runs.begin(tools=listed) as client:
        client.sessions.list()
    assert "TURNMILL_TOOLS" in str(caught.value)
    assert caught.value.hint

"""What lines came to: in the input's order, in several formats, and while the batch still runs."""

import csv
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import rows
from tests.batch_clients import batches_of
from turnmill.domain.content import Text
from turnmill.domain.errors import BatchTimeout, InvalidInput
from turnmill.domain.replying import FinishReason
from turnmill.domain.states import TurnState
from turnmill.store.batch_records import BatchResult
from turnmill.store.database import Database
from turnmill.sync.batches import Batch, Batches
from turnmill.verbs.batch_results import FollowedFile
from turnmill.verbs.openai_shape import as_openai

PATIENCE = 30
CHAT = {"method": "POST", "url": "/v1/chat/completions"}
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def batches(store: Database) -> Batches:
    return batches_of(store)


@pytest.fixture
def batch(batches: Batches, tmp_path: Path) -> Batch:
    path = tmp_path / "jobs.jsonl"
    lines: list[dict[str, Any]] = [
        {"custom_id": f"{n}", "user_id": "ada", "text": "hi"} for n in range(3)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return batches.create(path)


def settle(store: Database, batch: Batch, *states: TurnState | None, code: str = "broken") -> None:
    for one, state in zip(batch.iter_results(), states, strict=True):
        if state is not None:
            assert one.turn_id is not None
            error = None if state is TurnState.SUCCEEDED else code
            rows.run(store, one.turn_id, state, error_code=error)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_what_its_answer_would_be_over_http(
    store: Database, batch: Batch, tmp_path: Path
) -> None:
    settle(store, batch, TurnState.SUCCEEDED, TurnState.FAILED, None, code="http_404")
    out = tmp_path / "out.jsonl"
    assert batch.results(out) == 3
    found = read(out)
    assert [one["status_code"] for one in found] == [200, 404, None]
    assert [one["attempts"] for one in found] == [1, 1, 0]
    assert [one["state"] for one in found] == ["succeeded", "failed", "queued"]


@pytest.mark.parametrize("named", [True, False])
def test_results_are_a_csv_where_that_is_said(
    store: Database, batch: Batch, tmp_path: Path, named: bool
) -> None:
    settle(store, batch, TurnState.SUCCEEDED, TurnState.DEAD, None)
    out = tmp_path / ("out.csv" if named else "out")
    assert batch.results(out, format=None if named else "csv") == 3
    with out.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [one["custom_id"] for one in found] == ["0", "1", "2"]
    assert [one["text"] for one in found] == ["yes", "", ""]
    assert [one["error_code"] for one in found] == ["", "broken", ""]


def test_what_was_said_stands_in_a_csv_as_it_was_said(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    said = ["=cmd|' /C calc'!A0", "- one", "+1", "@here"]
    path = tmp_path / "jobs.jsonl"
    lines = [{"custom_id": one, "user_id": "ada", "text": one} for one in said]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out.csv"
    assert batches.create(path).results(out) == len(said)
    with out.open(newline="") as file:  # programs read it: no sign is added for spreadsheets
        assert [one["custom_id"] for one in csv.DictReader(file)] == said


def test_results_in_openais_shape_are_those_of_lines_that_ended(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.jsonl"
    answers = {"method": "POST", "url": "/v1/responses", "body": {"model": "m", "input": "hi"}}
    lines = [
        CHAT | {"custom_id": "a", "body": BODY},
        answers | {"custom_id": "b"},
        CHAT | {"custom_id": "c", "body": BODY},
        CHAT | {"custom_id": "d", "body": BODY},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    batch = batches.create(path, user_id="ada", provider="mock")
    settle(
        store, batch, TurnState.SUCCEEDED, TurnState.SUCCEEDED, TurnState.FAILED, None,
        code="rate_limited",
    )  # fmt: skip
    out = tmp_path / "out.jsonl"
    assert batch.results(out, shape="openai") == 3
    chat, response, failed = read(out)
    assert [one["custom_id"] for one in (chat, response, failed)] == ["a", "b", "c"]
    assert chat["response"]["body"]["choices"][0]["message"]["content"] == "yes"
    assert chat["response"]["body"]["usage"]["total_tokens"] == 15
    assert response["response"]["body"]["output"][0]["content"][0]["text"] == "yes"
    assert (failed["response"]["status_code"], failed["error"]) == (429, None)
    assert failed["response"]["body"]["error"]["code"] == "rate_limited"
    batch.cancel()
    batch.results(out, shape="openai")
    assert read(out)[3] == {
        "id": read(out)[3]["id"],
        "custom_id": "d",
        "response": None,
        "error": {"code": "batch_cancelled", "message": "This request was cancelled."},
    }


@pytest.mark.parametrize(
    "given", [{"format": "xml"}, {"shape": "x"}, {"shape": "openai", "format": "csv"}]
)
def test_what_nobody_knows_how_to_write_is_refused(
    batch: Batch, tmp_path: Path, given: dict[str, Any]
) -> None:
    for follow in (False, True):
        with pytest.raises(InvalidInput):
            batch.results(tmp_path / "out", follow=follow, **given)
    assert not (tmp_path / "out").exists()


def test_results_that_are_followed_grow_in_the_order_of_the_file(
    store: Database, batch: Batch, tmp_path: Path
) -> None:
    out, turns = tmp_path / "out.jsonl", [one.turn_id for one in batch.iter_results()]
    written: list[int] = []
    follower = threading.Thread(
        target=lambda: written.append(batch.results(out, follow=True, timeout=PATIENCE))
    )
    follower.start()
    grown: list[int] = []
    for n in (1, 0, 2):
        turn = turns[n]
        assert turn is not None
        rows.run(store, turn)
        expected = {1: 0, 0: 2, 2: 3}[n]
        while out.exists() and len(read(out)) < expected:
            follower.join(0.05)
        grown.append(expected)
    follower.join(PATIENCE)
    assert (grown, written) == ([0, 2, 3], [3])
    assert [one["custom_id"] for one in read(out)] == ["0", "1", "2"]
    assert out.stat().st_mode & 0o777 == 0o600


def test_following_gives_up_in_time_and_keeps_what_was_written(
    store: Database, batch: Batch, tmp_path: Path
) -> None:
    settle(store, batch, TurnState.SUCCEEDED, None, None)
    out = tmp_path / "out.jsonl"
    with pytest.raises(BatchTimeout, match="line 2"):
        batch.results(out, follow=True, timeout=0.01)
    assert [one["text"] for one in read(out)] == ["yes"]


def test_lines_that_are_no_turns_yet_are_in_the_results_all_the_same(
    batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from turnmill.store.nouns import batch_feeding

    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"custom_id": "a", "user_id": "ada", "text": "hi"}\n' * 1)
    path.write_text(path.read_text() + path.read_text().replace('"a"', '"b"'))
    batch = batches.create(path)
    out = tmp_path / "out.jsonl"
    batch.results(out)
    states: Sequence[str] = [one["state"] for one in read(out)]
    assert states == ["queued", "staged"]


def one_result(**more: Any) -> BatchResult:
    known = {"line": 1, "custom_id": "a", "turn_id": None, "session_id": None, "model": "m"}
    used = {"input_tokens": 10, "output_tokens": 5, "cached_tokens": 2, "cost_usd": None}
    said = {"state": TurnState.SUCCEEDED, "parts": [Text("yes")], "error_code": None}
    found: dict[str, Any] = known | used | said | more
    return BatchResult(**found)


@pytest.mark.long
@pytest.mark.parametrize("used", [{}, {"input_tokens": None}])
@pytest.mark.parametrize("reason", [*FinishReason, None, "a word of somebody's own"])
def test_results_in_openais_shape_are_what_its_own_readers_take(
    reason: str | None, used: dict[str, Any]
) -> None:
    from openai.types.chat import ChatCompletion
    from openai.types.responses import Response

    def body(**more: Any) -> Any:
        line = as_openai(one_result(finish_reason=reason, **more, **used))
        assert line is not None
        return line["response"]["body"]

    chat = ChatCompletion.model_validate(body(api="chat"))
    response = Response.model_validate(body(api="responses"))
    refused = reason == FinishReason.REFUSAL
    assert (chat.choices[0].message.refusal or response.output_text) == "yes"
    assert (chat.choices[0].message.content, response.output_text) == (
        (None, "") if refused else ("yes", "yes")
    )
    assert (chat.usage is None, response.usage is None) == (bool(used), bool(used))
    is_cut = reason in ("length", "context_full", "content_filter")
    assert response.status == ("incomplete" if is_cut else "completed")


def test_a_file_that_somebody_follows_results_into_is_not_begun_anew_by_another(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out.jsonl"
    first = FollowedFile(out)
    first.write_results([one_result()])
    before = out.read_bytes()
    with pytest.raises(InvalidInput, match="already"):
        FollowedFile(out)
    assert out.read_bytes() == before
    first.close()
    FollowedFile(out).close()
    assert out.read_bytes() == b""


def test_a_result_is_one_line_for_every_reader(tmp_path: Path) -> None:
    out, said = tmp_path / "out.jsonl", "one\u2028two\u2029three\x85four\r\nfive\x0b"
    file = FollowedFile(out)
    file.write_results([one_result(parts=[Text(said)])])
    file.close()
    (line,) = out.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["text"] == said

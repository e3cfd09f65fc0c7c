"""Lines that hold pictures, documents and tools, as vendors' own batch files have them."""

import json
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from tests import rows
from tests.attachments import PDF, a_png
from tests.batch_clients import batches_of
from turnmill import InvalidBatchFile, Settings
from turnmill.domain.content import File, Image, Text
from turnmill.domain.ids import SessionId
from turnmill.store.database import Database
from turnmill.store.line.claim import claim
from turnmill.store.nouns import attachments as attachment_rows
from turnmill.store.nouns import batch_feeding, sessions
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.file_tables import attachment_uses, attachments
from turnmill.store.types import db_asof_after
from turnmill.sync.batches import Batch, Batches

PNG = b64encode(a_png()).decode()
URL = f"data:image/png;base64,{PNG}"
DOCUMENT = b64encode(PDF).decode()
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.fixture
def batches(store: Database, tmp_path: Path) -> Batches:
    return batches_of(store, settings=Settings(home=tmp_path))


def chat(content: Any, **body: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": content}]
    return {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "gpt-4o-mini", "messages": said, **body},
    }


def responses(content: Any, **body: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": content}]
    body = {"model": "gpt-5", "input": said, **body}
    return {"custom_id": "b", "method": "POST", "url": "/v1/responses", "body": body}


def claude(content: Any, **params: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": content}]
    return {
        "custom_id": "c",
        "params": {"model": "claude-sonnet-4-5", "max_tokens": 7, "messages": said, **params},
    }


def submit(batches: Batches, path: Path, *lines: dict[str, Any], **given: Any) -> Batch:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return batches.create(path, **{"user_id": "ada", **given})


def asked(store: Database, batch: Batch, line: int = 0) -> Sequence[Any]:
    """Return the parts of what a worker would be given."""
    session_id = [one.session_id for one in batch.iter_results()][line]
    assert session_id is not None
    with store.begin() as conn:
        head = sessions.get(conn, session_id).head_turn_id
        assert head is not None
        (found,) = claim(conn, [head], owner="w", lease=rows.LEASE)
    return found.messages[-1].parts


def settings_of(store: Database, batch: Batch) -> dict[str, Any]:
    (session_id,) = {one.session_id for one in batch.iter_results()}
    with store.begin() as conn:
        return dict(sessions.get(conn, SessionId(session_id)).settings)  # type: ignore[arg-type]


TEXT = {"type": "text", "text": "What is this?"}
WITH_A_PICTURE = {
    "chat": chat([TEXT, {"type": "image_url", "image_url": {"url": URL, "detail": "low"}}]),
    "responses": responses(
        [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": URL}]
    ),
    "anthropic": claude(
        [
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": PNG},
            },
            TEXT,
        ]
    ),
    "ours": {
        "custom_id": "d",
        "messages": chat([TEXT, {"type": "image_url", "image_url": {"url": URL}}])["body"][
            "messages"
        ],
    },
}


@pytest.mark.parametrize("shape", WITH_A_PICTURE)
def test_a_picture_in_a_line_is_kept_once_and_shown_to_the_model(
    store: Database, batches: Batches, tmp_path: Path, shape: str
) -> None:
    line = WITH_A_PICTURE[shape]
    batch = submit(batches, tmp_path / "jobs.jsonl", line, {**line, "custom_id": "again"})
    pictures = []
    for n in range(2):
        parts = asked(store, batch, n)
        assert [one.text for one in parts if isinstance(one, Text)] == ["What is this?"]
        (picture,) = [one for one in parts if isinstance(one, Image)]
        assert (picture.media_type, picture.width) == ("image/png", 8)
        assert picture.detail == ("low" if shape == "chat" else "")
        pictures.append(picture)
    assert pictures[0].id == pictures[1].id
    with store.begin() as conn:
        uses = conn.execute(select(attachment_uses.c.attachment_id)).all()
        (kept,) = attachment_rows.find(conn, user_id="ada")
        due = conn.scalar(select(attachments.c.due_at))
    assert len(uses) == 2
    assert str(kept.id) == pictures[0].id
    assert due is None  # turns hold it


@pytest.mark.parametrize(
    "line",
    [
        chat(
            [
                {
                    "type": "file",
                    "file": {
                        "filename": "a.pdf",
                        "file_data": f"data:application/pdf;base64,{DOCUMENT}",
                    },
                }
            ]
        ),
        responses([{"type": "input_file", "filename": "a.pdf", "file_data": DOCUMENT}]),
        claude(
            [
                {
                    "type": "document",
                    "title": "a.pdf",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": DOCUMENT},
                }
            ]
        ),
    ],
    ids=["chat", "responses", "anthropic"],
)
def test_a_document_in_a_line_is_kept_by_its_name(
    store: Database, batches: Batches, tmp_path: Path, line: dict[str, Any]
) -> None:
    batch = submit(batches, tmp_path / "jobs.jsonl", line)
    (document,) = asked(store, batch)
    assert isinstance(document, File)
    assert (document.media_type, document.name) == ("application/pdf", "a.pdf")


REFUSED = {
    "a file that the vendor keeps": (
        responses([{"type": "input_image", "file_id": "file-1"}]),
        "unknown_parameter",
        "messages[0].content[0].file_id",
    ),
    "sounds": (
        chat([TEXT, {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]),
        "invalid_value",
        "messages[0].content[1]: a line holds no sounds",
    ),
    "no base64": (
        chat([{"type": "image_url", "image_url": {"url": "data:image/png;base64,%%"}}]),
        "invalid_value",
        "messages[0].content[0].url is no base64",
    ),
    "another scheme": (
        chat([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]),
        "invalid_value",
        "neither an http(s) URL nor base64",
    ),
    "neither": (
        claude([{"type": "image", "source": {"type": "file"}}]),
        "invalid_type",
        "messages[0].content[0] has neither",
    ),
    "no picture at all": (
        chat(
            [
                {
                    "type": "image_url",
                    "image_url": {"url": f"data:image/png;base64,{b64encode(b'<svg/>').decode()}"},
                }
            ]
        ),
        "invalid_value",
        "a file: ",
    ),
    "a private address": (
        chat([{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/cat.png"}}]),
        "invalid_value",
        "a file: ",
    ),
    "a result of a tool beside it": (
        claude(
            [
                {"type": "tool_result", "tool_use_id": "x", "content": "1"},
                {"type": "image", "source": {"type": "base64", "data": PNG}},
            ]
        ),
        "invalid_value",
        "messages[0].content[0] cannot stand beside a file",
    ),
    "a tool of the vendor's own": (
        responses("hi", tools=[{"type": "web_search"}]),
        "unknown_parameter",
        "tools[0] is a tool of the vendor's own",
    ),
    "a strict function": (
        responses(
            "hi", tools=[{"type": "function", "name": "f", "parameters": {}, "strict": True}]
        ),
        "invalid_value",
        "tools[0].strict",
    ),
    "a field of a tool that nobody here has": (
        claude("hi", tools=[{"name": "f", "input_schema": WEATHER, "cache_control": {}}]),
        "unknown_parameter",
        "tools[0].cache_control",
    ),
    "a call that has to be made": (
        chat("hi", tools=[{"type": "function", "function": {"name": "f"}}], tool_choice="required"),
        "invalid_value",
        "tool_choice is not auto",
    ),
    "one call at a time": (
        claude("hi", tool_choice={"type": "auto", "disable_parallel_tool_use": True}),
        "unknown_parameter",
        "tool_choice: disable_parallel_tool_use",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_run_as_it_says_is_refused_by_its_field_and_nothing_is_left(
    store: Database, batches: Batches, tmp_path: Path, what: str
) -> None:
    line, code, said = REFUSED[what]
    with pytest.raises(InvalidBatchFile) as refused:
        submit(batches, tmp_path / "jobs.jsonl", {"text": "fine"}, line)
    ((number, given, what_is_wrong),) = refused.value.problems
    assert (number, given) == (2, code)
    assert said in what_is_wrong
    assert PNG not in what_is_wrong
    assert batches.list() == []
    with store.begin() as conn:
        assert conn.execute(select(batch_lines.c.line)).all() == []
        assert attachment_rows.find(conn, user_id="ada") == []


def test_a_file_before_the_last_reply_is_refused(batches: Batches, tmp_path: Path) -> None:
    line = WITH_A_PICTURE["chat"]
    said = [*line["body"]["messages"], {"role": "assistant", "content": "A cat."}]
    line = {**line, "body": {**line["body"], "messages": [*said, {"role": "user", "content": "?"}]}}
    with pytest.raises(InvalidBatchFile, match="before the last reply"):
        submit(batches, tmp_path / "jobs.jsonl", line)


def test_a_file_is_kept_while_its_line_waits_and_a_line_whose_file_is_gone_ends(
    store: Database, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    lines = [{"custom_id": "first", "text": "hi"}, WITH_A_PICTURE["chat"], {"text": "last"}]
    batch = submit(batches, tmp_path / "jobs.jsonl", *lines)
    with store.begin() as conn:
        far = select(attachments.c.id).where(attachments.c.due_at > db_asof_after(29 * 86_400.0))
        assert len(conn.execute(far).all()) == 1
        conn.execute(update(attachments).values(due_at=db_asof_after(-1.0)))
        attachment_rows.mark_due(conn)
        conn.execute(delete(attachment_uses))
    monkeypatch.undo()
    with store.begin() as conn:
        batch_feeding.feed(conn, batch.id)
    found = list(batch.iter_results())
    assert [(one.state, one.error_code) for one in found] == [
        ("queued", None),
        ("failed", "attachment_not_found"),
        ("queued", None),
    ]


FUNCTION = {"name": "weather", "description": "The weather", "parameters": WEATHER}
WITH_A_TOOL = {
    "chat": chat("hi", tools=[{"type": "function", "function": FUNCTION}], tool_choice="auto"),
    "responses": responses("hi", tools=[{"type": "function", "strict": False, **FUNCTION}]),
    "anthropic": claude(
        "hi",
        tools=[
            {"name": "weather", "description": "The weather", "input_schema": WEATHER},
        ],
        tool_choice={"type": "auto"},
    ),
}


@pytest.mark.parametrize("shape", WITH_A_TOOL)
def test_functions_of_a_line_are_tools_whose_calls_are_answered_from_outside(
    store: Database, batches: Batches, tmp_path: Path, shape: str
) -> None:
    batch = submit(batches, tmp_path / "jobs.jsonl", WITH_A_TOOL[shape])
    assert settings_of(store, batch)["tools"] == [FUNCTION]


def test_a_dry_run_keeps_nothing_and_does_not_know_what_a_picture_costs(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(json.dumps(WITH_A_PICTURE["chat"]) + "\n" + json.dumps({"text": "hi"}) + "\n")
    found = batches.estimate(path, user_id="ada", provider="mock")
    assert (found.lines, found.unknown) == (2, 2)
    with store.begin() as conn:
        assert attachment_rows.find(conn, user_id="ada") == []


def test_equal_words_on_different_pictures_are_no_equal_lines(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    submit(batches, tmp_path / "jobs.jsonl", WITH_A_PICTURE["chat"])
    with store.begin() as conn:
        assert conn.scalars(select(batch_lines.c.key)).all() == [None]

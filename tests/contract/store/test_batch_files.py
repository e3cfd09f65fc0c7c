"""Files that people have: taken as they are, each line one turn, or several in their order."""

import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import rows
from tests.batch_clients import batches_of
from turnmill.domain.content import Message
from turnmill.domain.errors import Conflict, InvalidBatchFile, InvalidInput
from turnmill.domain.ids import SessionId
from turnmill.domain.states import Lane
from turnmill.store.database import Database
from turnmill.store.line.claim import claim
from turnmill.store.nouns import sessions
from turnmill.store.records import Claim, SessionRecord
from turnmill.sync.batches import Batch, Batches

LINE = {"user_id": "ada", "text": "hi"}


@pytest.fixture
def batches(store: Database) -> Batches:
    return batches_of(store, max_text_bytes=1000)


def write(path: Path, *lines: dict[str, Any], end: str = "\n") -> Path:
    path.write_text("".join(json.dumps(line) + end for line in lines), encoding="utf-8")
    return path


def session_of(store: Database, batch: Batch, line: int = 0) -> SessionRecord:
    found = [one.session_id for one in batch.iter_results()][line]
    assert found is not None
    with store.begin() as conn:
        return sessions.get(conn, found)


def said_in(store: Database, session: SessionId) -> list[tuple[str, str]]:
    with store.begin() as conn:
        return [(one.role, one.text) for one in sessions.history(conn, session)]


def asked(store: Database, batch: Batch) -> Sequence[Claim]:
    """Return what workers would be given now."""
    named = _sessions(batch)
    with store.begin() as conn:
        heads = [sessions.get(conn, one).head_turn_id for one in named]
        ids = [one for one in heads if one is not None]
        return claim(conn, ids, owner="w", lease=rows.LEASE, lanes=[Lane.BULK])


def _sessions(batch: Batch) -> list[SessionId]:
    return [one.session_id for one in batch.iter_results() if one.session_id is not None]


def shown(one: Claim) -> list[tuple[str, str]]:
    said: list[Message] = [*(one.history or ()), *one.messages]
    return [(message.role, message.text) for message in said]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.rstrip(b"\n"),
        lambda data: b"\n \n" + data.replace(b"\n", b"\n\n"),
        gzip.compress,
        lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]),
    ],
    ids=["bom", "crlf", "no last newline", "blank lines", "gz", "gz in members"],
)
def test_what_surrounds_lines_makes_no_difference(
    batches: Batches, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path / "jobs.jsonl", *(LINE | {"custom_id": f"{n}"} for n in range(5)))
    path.write_bytes(spoil(path.read_bytes()))
    batch = batches.create(path)
    assert [one.custom_id for one in batch.iter_results()] == [f"{n}" for n in range(5)]


def test_what_is_open_is_read_once_and_known_by_its_content(batches: Batches) -> None:
    data = b"".join(json.dumps(LINE | {"custom_id": f"{n}"}).encode() + b"\n" for n in range(3))
    first = batches.create(io.BytesIO(data))
    assert first.name.startswith("stdin-")
    assert batches.create(io.BytesIO(data)).id == first.id
    assert batches.create(io.BytesIO(gzip.compress(data))).id == first.id
    assert batches.create(io.BytesIO(data.replace(b'"0"', b'"9"'))).id != first.id
    assert len(batches.list()) == 2
    named = batches.create(io.BytesIO(data), name="nightly")
    assert batches.create(io.BytesIO(data), name="nightly").id == named.id
    with pytest.raises(Conflict):
        batches.create(io.BytesIO(data.replace(b'"0"', b'"9"')), name="nightly")
    with pytest.raises(InvalidInput, match="open for text"):
        batches.create(io.StringIO("hi"))  # type: ignore[arg-type]


def test_lines_that_name_no_user_are_the_batchs_owners(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    path = write(tmp_path / "jobs.jsonl", {"text": "hi"}, LINE | {"user_id": "bob"})
    with pytest.raises(InvalidBatchFile):
        batches.create(path)
    batch = batches.create(path, user_id="carol")
    assert [session_of(store, batch, n).user_id for n in range(2)] == ["carol", "bob"]
    assert batch.record.user_id == "carol"


def test_settings_of_a_line_go_before_those_of_the_batch(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    own = LINE | {"settings": {"temperature": 1, "top_p": 0.5}, "system_prompt": "be kind"}
    batch = batches.create(
        write(tmp_path / "jobs.jsonl", LINE, own), settings={"temperature": 0, "seed": 7}
    )
    plain, other = session_of(store, batch), session_of(store, batch, 1)
    assert plain.settings == {"temperature": 0, "seed": 7}
    assert other.settings == {"temperature": 1, "seed": 7, "top_p": 0.5}
    assert (plain.system_prompt, other.system_prompt) == (None, "be kind")


def test_a_line_says_how_long_its_reply_may_be_by_whatever_name_the_batch_does(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    own = LINE | {"settings": {"max_output_tokens": 5}}
    path = write(tmp_path / "jobs.jsonl", LINE, own)
    batch = batches.create(path, settings={"max_tokens": 4000})
    assert session_of(store, batch).settings == {"max_tokens": 4000}
    assert session_of(store, batch, 1).settings == {"max_output_tokens": 5}


def test_a_conversation_goes_on_with_its_last_message(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    talk = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [{"type": "text", "text": "three"}]},
    ]
    line = {"user_id": "ada", "messages": talk}
    batch = batches.create(write(tmp_path / "jobs.jsonl", line, LINE))
    session = session_of(store, batch)
    assert (session.system_prompt, session.turns_succeeded) == ("be brief", 1)
    (first, _) = asked(store, batch)
    assert shown(first) == [("user", "one"), ("assistant", "two"), ("user", "three")]


def test_several_questions_are_answered_in_order_each_with_the_reply_to_the_last(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    talk = [{"from": "human", "value": "one"}, {"from": "human", "value": "two"}]
    batch = batches.create(
        write(tmp_path / "jobs.jsonl", {"user_id": "ada", "conversations": talk})
    )
    assert batch.counts.total == 1
    (result,) = batch.iter_results()
    session = result.session_id
    assert session is not None
    with store.begin() as conn:
        first = sessions.get(conn, session).head_turn_id
    assert first is not None
    assert first != result.turn_id
    rows.run(store, first)
    (later,) = asked(store, batch)
    assert shown(later) == [("user", "one"), ("assistant", "yes"), ("user", "two")]
    assert later.turn_id == result.turn_id


CHAT = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": "hi"},
        ],
        "max_tokens": 5,
        "temperature": 0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"type": "object", "properties": {}}},
        },
    },
}
RESPONSES = {
    "custom_id": "b",
    "method": "POST",
    "url": "/v1/responses",
    "body": {"model": "gpt-5", "input": "hi", "instructions": "be kind", "max_output_tokens": 9},
}
CLAUDE = {
    "custom_id": "c",
    "params": {
        "model": "claude-sonnet-4-5",
        "max_tokens": 7,
        "system": [{"type": "text", "text": "be"}, {"type": "text", "text": "good"}],
        "messages": [{"role": "user", "content": "hi"}],
    },
}


def test_lines_of_vendors_own_batches_are_taken_as_they_are(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    path = write(tmp_path / "jobs.jsonl", CHAT, RESPONSES, CLAUDE)
    batch = batches.create(path, user_id="ada")
    chat, responses, claude = (session_of(store, batch, n) for n in range(3))
    assert (chat.provider, chat.model, chat.system_prompt) == ("openai", "gpt-4o-mini", "be brief")
    assert chat.settings == {
        "api": "chat",
        "max_tokens": 5,
        "temperature": 0,
        "response_format": {"type": "object", "properties": {}},
    }
    assert (responses.provider, responses.model) == ("openai", "gpt-5")
    assert responses.system_prompt == "be kind"
    assert responses.settings == {"api": "responses", "max_output_tokens": 9}
    assert (claude.provider, claude.system_prompt) == ("anthropic", "be\n\ngood")
    assert claude.settings == {"max_tokens": 7, "prompt_cache": "off"}
    assert [one.custom_id for one in batch.iter_results()] == ["a", "b", "c"]
    here = batches.create(path, user_id="ada", provider="mock", name="here")
    assert {session_of(store, here, n).provider for n in range(3)} == {"mock"}


def test_a_csv_has_a_field_in_each_column_that_is_named_for_one(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    path = tmp_path / "prompts.csv"
    path.write_bytes(
        "\ufeffcustom_id,prompt,category,system_prompt\r\n"
        '1,"Hello, ""you""\r\nthere",x,\r\n2,Hi,y,be kind\r\n\r\n'.encode()
    )
    batch = batches.create(path, columns={"text": "prompt"}, user_id="ada")
    assert [one.custom_id for one in batch.iter_results()] == ["1", "2"]
    first, second = (session_of(store, batch, n) for n in range(2))
    assert said_in(store, first.id) == [("user", 'Hello, "you"\r\nthere')]
    assert (first.system_prompt, second.system_prompt) == (None, "be kind")
    assert batches.create(path, columns={"text": "prompt"}, user_id="ada").id == batch.id


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("of-excel.csv", "custom_id;prompt;user_id\r\n1;Hi, you;ada\r\n"),
        ("of-excel.csv", '"custom_id";"prompt";"user_id"\r\n"1";"Hi, you";"ada"\r\n'),
        ("said.csv", "sep=;\r\ncustom_id;prompt;user_id\r\n1;Hi, you;ada\r\n"),
        ("tabs.csv", "custom_id\tprompt\tuser_id\n1\tHi, you\tada\n"),
        ("tabs.tsv.gz", "\n\ncustom_id\tprompt\tnote, if any\tuser_id\n1\tHi, you\t\tada\n"),
    ],
)
def test_columns_are_separated_by_what_makes_most_of_the_head(
    store: Database, batches: Batches, tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / name
    path.write_text(text, newline="")
    batch = batches.create(path, columns={"text": "prompt"})
    assert [one.custom_id for one in batch.iter_results()] == ["1"]
    assert said_in(store, session_of(store, batch, 0).id) == [("user", "Hi, you")]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("text\nhi\n", [(1, "missing_required_parameter")]),
        ("user_id,text\na,hi\nb\nc,ho\n", [(2, "invalid_value")]),
        ("user_id,text\na,hi\nb,\n", [(2, "missing_required_parameter")]),
        ('user_id,text\na,hi\nb,"ho\n', [(2, "invalid_json_line")]),
    ],
)
def test_rows_of_a_csv_are_refused_by_their_numbers(
    batches: Batches, tmp_path: Path, text: str, problems: list[tuple[int, str]]
) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text(text)
    with pytest.raises(InvalidBatchFile) as caught:
        batches.create(path)
    assert [(line, code) for line, code, _ in caught.value.problems] == problems
    assert batches.list() == []


def test_a_column_that_is_not_there_is_an_error(batches: Batches, tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text("user_id,question\na,hi\n")
    with pytest.raises(InvalidInput, match="no column 'prompt'"):
        batches.create(path, columns={"text": "prompt"})


def test_a_parquet_file_is_read_and_written(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    talk = [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
    table = arrow.Table.from_pylist(
        [
            {"id": "1", "prompt": "hi", "messages": None},
            {"id": "2", "prompt": None, "messages": talk},
        ]
    )
    path = tmp_path / "prompts.parquet"
    parquet.write_table(table, path)
    columns = {"text": "prompt", "custom_id": "id"}
    batch = batches.create(path, columns=columns, user_id="ada")
    assert [one.custom_id for one in batch.iter_results()] == ["1", "2"]
    first = next(batch.iter_results())
    assert first.turn_id is not None
    rows.run(store, first.turn_id)
    out = tmp_path / "out.parquet"
    assert batch.results(out) == 2
    read = parquet.read_table(out).to_pylist()
    assert [one["text"] for one in read] == ["yes", None]
    assert [one["status_code"] for one in read] == [200, None]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InvalidBatchFile, match="Parquet"):
        batches.create(path, columns=columns, user_id="ada")


def test_settings_and_metadata_of_a_row_are_json_in_their_columns(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    path = tmp_path / "prompts.csv"
    path.write_bytes(
        b"\r  \rtext,user_id,settings,metadata,note\r"
        b'hi,ada,"{""temperature"": 0.5}","{""a"": 1}",{\r'
    )
    batch = batches.create(path)
    assert session_of(store, batch, 0).settings == {"temperature": 0.5}
    (claim,) = asked(store, batch)
    assert claim.metadata == {"a": 1}


def test_what_is_null_in_a_line_says_nothing(batches: Batches, tmp_path: Path) -> None:
    fields = ("messages", "conversations", "session", "provider", "model", "settings", "metadata")
    empty = dict.fromkeys((*fields, "custom_id", "system_prompt", "fallback"))
    path = write(tmp_path / "jobs.jsonl", empty | {"text": "hi", "user_id": "ada"})
    assert batches.create(path).counts.total == 1
    nobodys = write(tmp_path / "nobodys.jsonl", empty | {"text": "hi", "user_id": None})
    assert batches.create(nobodys, user_id="ada").counts.total == 1
    mute = write(tmp_path / "mute.jsonl", empty | {"text": None, "user_id": "ada"})
    for path in (nobodys, mute):
        with pytest.raises(InvalidBatchFile) as caught:
            batches.create(path, name="other")
        assert [code for _, code, _ in caught.value.problems] == ["missing_required_parameter"]


def test_columns_of_a_parquet_file_are_read_as_its_tools_write_them(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    talk = [{"role": "user", "content": "hi", "name": None}]
    columns = {
        "custom_id": arrow.array([7, None]),
        "user_id": arrow.array([1, 2]),
        "messages": arrow.array([json.dumps(talk), json.dumps(talk)]),
        "settings": arrow.array([{"temperature": 0.5, "top_p": None}, None]),
        "other": arrow.array([1, 2]),
    }
    path = tmp_path / "prompts.parquet"
    table = arrow.table([*columns.values(), columns["other"]], names=[*columns, "other"])
    parquet.write_table(table, path)
    batch = batches.create(path)
    assert [one.custom_id for one in batch.iter_results()] == ["7", None]
    first, second = (session_of(store, batch, n) for n in range(2))
    assert (first.settings, second.settings) == ({"temperature": 0.5}, {})
    assert said_in(store, first.id) == [("user", "hi")]
    assert first.user_id == "1"
    spoilt = arrow.array([b"hi", b"\xff"]).cast(arrow.string(), safe=False)
    parquet.write_table(arrow.table([columns["user_id"], spoilt], names=["user_id", "text"]), path)
    with pytest.raises(InvalidBatchFile) as caught:
        batches.create(path, name="spoilt")
    assert [(n, code) for n, code, _ in caught.value.problems] == [(2, "invalid_json_line")]

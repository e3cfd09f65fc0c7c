"""Files that are no batch files: each is refused with the right lines and codes, whole."""

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.batch_clients import batches_of
from turnmill.domain.errors import InvalidBatchFile, InvalidInput
from turnmill.store.database import Database
from turnmill.sync.batches import Batches

MOST = 1000  #: bytes of a text

GOOD = b'{"custom_id": "good-%d", "user_id": "ada", "text": "hi"}\n'
NO_JSON, TWICE, MISSING = "invalid_json_line", "duplicate_custom_id", "missing_required_parameter"
UNKNOWN, TYPE, VALUE = "unknown_parameter", "invalid_type", "invalid_value"
LONG, URL, SESSION = "string_above_max_length", "invalid_url", "session_not_found"


def own(**fields: Any) -> bytes:
    return json.dumps({"user_id": "ada", "text": "hi"} | fields).encode()


def without(name: str) -> bytes:
    fields = {"user_id": "ada", "text": "hi"}
    del fields[name]
    return json.dumps(fields).encode()


def chat(url: Any = "/v1/chat/completions", **fields: Any) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | fields.pop("body", {})
    body = {name: one for name, one in body.items() if one is not ...}
    line = {"custom_id": "c", "method": "POST", "url": url, "body": body} | fields
    return json.dumps({name: one for name, one in line.items() if one is not ...}).encode()


def claude(**params: Any) -> bytes:
    said = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    found = {name: one for name, one in (said | params).items() if one is not ...}
    return json.dumps({"custom_id": "c", "params": found}).encode()


#: What stands in the second line of three, and the code that it is refused with.
LINES: dict[str, tuple[bytes, str]] = {
    "half an object": (b'{"user_id": "ada", "te', NO_JSON),
    "a bracket": (b"{", NO_JSON),
    "null": (b"null", NO_JSON),
    "a list": (b'[{"text": "hi"}]', NO_JSON),
    "a text": (b'"hi"', NO_JSON),
    "a number": (b"7", NO_JSON),
    "true": (b"true", NO_JSON),
    "words": (b"hello there", NO_JSON),
    "single quotes": (b"{'text': 'hi'}", NO_JSON),
    "a trailing comma": (b'{"user_id": "ada", "text": "hi",}', NO_JSON),
    "two objects": (own() + own(), NO_JSON),
    "a comment": (b'{"text": "hi"} // hi', NO_JSON),
    "NaN": (b'{"user_id": "ada", "text": "hi", "metadata": {"a": NaN}}', NO_JSON),
    "Infinity": (b'{"user_id": "ada", "text": "hi", "metadata": {"a": -Infinity}}', NO_JSON),
    "a number beyond floats": (
        b'{"user_id": "ada", "text": "hi", "metadata": {"a": 1e999}}',
        NO_JSON,
    ),
    "a number of 5000 digits": (b'{"text": ' + b"9" * 5000 + b"}", NO_JSON),
    "a key twice": (b'{"user_id": "ada", "text": "hi", "text": "ho"}', NO_JSON),
    "a key twice within": (
        b'{"user_id": "ada", "text": "hi", "metadata": {"a": 1, "a": 2}}',
        NO_JSON,
    ),
    "broken UTF-8": (b'{"user_id": "ada", "text": "h\xff"}', NO_JSON),
    "half a character": (b'{"user_id": "ada", "text": "h\xc3', NO_JSON),
    "latin-1": ('{"user_id": "ada", "text": "hé"}'.encode("latin-1"), NO_JSON),
    "a control character": (b'{"user_id": "ada", "text": "a\x01b"}', NO_JSON),
    "deep nesting": (b'{"a": ' + b"[" * 100_000 + b"}", NO_JSON),
    "a line too long": (own(text="x" * 1_006_001), LONG),
    "a text too long": (own(text="x" * (MOST + 1)), LONG),
    "a text too long in bytes": (own(text="é" * (MOST // 2 + 1)), LONG),
    "an empty text": (own(text=""), VALUE),
    "a blank text": (own(text=" \n"), VALUE),
    "a NUL": (own(text="a\0b"), VALUE),
    "a lone surrogate": (own(text="a\ud800"), VALUE),
    "a text that is none": (own(text=7), TYPE),
    "no text": (without("text"), MISSING),
    "text and messages": (own(messages=[{"role": "user", "content": "hi"}]), VALUE),
    "messages twice": (
        b'{"user_id": "ada", "messages": [{"role": "user", "content": "hi"}], "conversations": []}',
        VALUE,
    ),
    "nobody": (without("user_id"), MISSING),
    "a user and a session": (own(session="s"), VALUE),
    "a user that is none": (own(user_id=7), TYPE),
    "an empty user": (own(user_id=""), VALUE),
    "an id too long": (own(custom_id="x" * 201), LONG),
    "an id that is a number": (own(custom_id=7), TYPE),
    "an id that cannot be printed": (own(custom_id="a\nb"), VALUE),
    "an id that stands before": (own(custom_id="good-1"), TWICE),
    "an unknown field": (own(txt="hi"), UNKNOWN),
    "an unknown session": (b'{"session": "nobody", "text": "hi"}', SESSION),
    "a session with a model": (b'{"session": "s", "text": "hi", "model": "m"}', VALUE),
    "a session with a history": (
        b'{"session": "s", "messages": [{"role": "user", "content": "hi"},'
        b' {"role": "assistant", "content": "ho"}, {"role": "user", "content": "hi"}]}',
        VALUE,
    ),
    "no model": (own(provider="openai"), MISSING),
    "settings that are none": (own(settings=[]), VALUE),
    "a setting that is refused": (own(settings={"timeout": -1}), VALUE),
    "metadata that is none": (own(metadata=[]), VALUE),
    "messages that are none": (b'{"user_id": "ada", "messages": "hi"}', TYPE),
    "no messages": (b'{"user_id": "ada", "messages": []}', VALUE),
    "an answered conversation": (
        b'{"user_id": "ada", "messages": [{"role": "user", "content": "hi"},'
        b' {"role": "assistant", "content": "ho"}]}',
        VALUE,
    ),
    "an unknown role": (b'{"user_id": "ada", "messages": [{"role": "x", "content": "hi"}]}', VALUE),
    "a picture of no kind": (
        b'{"user_id": "ada", "messages": [{"role": "user", "content":'
        b' [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]}',
        VALUE,
    ),
    "OpenAI's without an id": (chat(custom_id=...), MISSING),
    "OpenAI's for another URL": (chat("/v1/embeddings"), URL),
    "OpenAI's without a URL": (chat(url=...), MISSING),
    "OpenAI's by GET": (chat(method="GET"), VALUE),
    "OpenAI's without a model": (chat(body={"model": ...}), MISSING),
    "OpenAI's without messages": (chat(body={"messages": ...}), MISSING),
    "OpenAI's as a stream": (chat(body={"stream": True}), VALUE),
    "OpenAI's with several replies": (chat(body={"n": 2}), VALUE),
    "OpenAI's with a body that is none": (
        chat(body={}).replace(b'"body": {', b'"body": 7, "b": {'),
        UNKNOWN,
    ),
    "a part whose kind is no word": (
        chat(body={"messages": [{"role": "user", "content": [{"type": ["text"], "text": "x"}]}]}),
        VALUE,
    ),
    "a part whose kind is no word, beside a file": (
        claude(messages=[{"role": "user", "content": [{"type": {}}, {"type": "image"}]}]),
        VALUE,
    ),
    "a form whose kind is no word": (chat(body={"response_format": {"type": []}}), VALUE),
    "Anthropic's without max_tokens": (claude(max_tokens=...), MISSING),
    "Anthropic's without a model": (claude(model=...), MISSING),
    "Anthropic's with an answered conversation": (
        claude(messages=[{"role": "assistant", "content": "hi"}]),
        VALUE,
    ),
}


@pytest.fixture
def batches(store: Database) -> Batches:
    return batches_of(store, max_text_bytes=MOST)


def problems_of(batches: Batches, path: Path, **options: Any) -> list[tuple[int, str]]:
    """Return the lines that are refused, and their codes; nothing of the file is left."""
    with pytest.raises(InvalidBatchFile) as submitted:
        batches.create(path, **options)
    with pytest.raises(InvalidBatchFile) as tried:
        batches.estimate(path, **options)
    assert batches.list() == []
    found = [(line, code) for line, code, _ in submitted.value.problems]
    assert [(line, code) for line, code, _ in tried.value.problems] == found
    return found


@pytest.mark.parametrize("name", [name for name, (_, code) in LINES.items() if code != SESSION])
def test_a_line_is_refused_with_its_number_and_a_code(
    batches: Batches, tmp_path: Path, name: str
) -> None:
    line, code = LINES[name]
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(GOOD % 1 + line + b"\n" + GOOD % 3)
    owner = {} if name == "nobody" else {"user_id": "owner"}
    assert problems_of(batches, path, **owner) == [(2, code)]


def test_all_of_them_are_named_at_once_in_the_order_of_the_file(
    batches: Batches, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.jsonl"
    named = {name: one for name, one in LINES.items() if name != "nobody"}
    path.write_bytes(
        b"".join(GOOD % n + line + b"\n" for n, (line, _) in enumerate(named.values()))
    )
    with pytest.raises(InvalidBatchFile) as caught:
        batches.create(path, user_id="owner")
    found = [(line, code) for line, code, _ in caught.value.problems]
    assert found == [(2 * n + 2, code) for n, (_, code) in enumerate(named.values())]
    assert batches.list() == []


def test_the_first_thousand_of_them_are_named(batches: Batches, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b"null\n" * 5000)
    assert problems_of(batches, path) == [(n, NO_JSON) for n in range(1, 1001)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_that_is_no_utf_8_is_refused_at_its_first_line(
    batches: Batches, tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes((GOOD % 1 + GOOD % 2).decode().encode(encoding))
    assert problems_of(batches, path) == [(1, NO_JSON)]


@pytest.mark.parametrize("cut", [20, 40])
def test_a_packed_file_that_is_broken_off_is_refused_where_it_is(
    batches: Batches, tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "jobs.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(GOOD % n for n in range(200)))[:-cut])
    ((line, code),) = problems_of(batches, path)
    assert code == NO_JSON
    assert line > 1


_CSV = b"user_id,text\na,hi\nb,hi\nc,hi\nd,hi\n"

#: What is no table, by the name of its file: refused as a whole, or at its first row.
TABLES: dict[str, tuple[str, bytes, list[tuple[int, str]]]] = {
    "nothing": ("jobs.csv", b"", []),
    "a column twice": ("jobs.csv", b"text,text,user_id\na,b,ada\n", []),
    "no Parquet": ("jobs.parquet", b"PAR1 and no more PAR1", []),
    "lines that are called Parquet": ("jobs.parquet", GOOD % 1, []),
    "a key twice in a conversation": (
        "jobs.csv",
        b'user_id,messages\nada,"[{""role"": ""user"", ""content"": ""hi"", ""content"": """"}]"\n',
        [(1, NO_JSON)],
    ),
    "CSV that is no UTF-8 in two rows": (
        "jobs.csv",
        _CSV.replace(b"b,hi", b"b,h\xff").replace(b"d,hi", b"d,\xe9"),
        [(2, NO_JSON), (4, NO_JSON)],
    ),
    "CSV without a column of texts": ("jobs.csv", b"user_id,prompt\nada,hi\n", []),
    "CSV without a head": ("jobs.csv", b"ada,hi\nada,ho\n", []),
    "a workbook": ("jobs.xlsx", b"PK\x03\x04" + b"\0" * 99, [(1, NO_JSON)]),
    "a workbook that is called CSV": ("jobs.csv", b"PK\x03\x04" + b"\0" * 99, [(1, NO_JSON)]),
    "Parquet that is called lines": ("jobs.jsonl", b"PAR1\n\nPAR1", [(1, NO_JSON)]),
    "lines packed by bzip2": ("jobs.jsonl.bz2", bz2.compress(GOOD % 1), [(1, NO_JSON)]),
    "an array in one line": ("jobs.json", b"[" + (GOOD % 1).strip() + b"]", [(1, NO_JSON)]),
    "an array in many lines": ("jobs.json", b"[\n" + GOOD % 1 + b"]\n", [(1, NO_JSON)]),
    "CSV in UTF-16": ("jobs.csv", _CSV.decode().encode("utf-16"), [(1, NO_JSON)]),
    "CSV in UTF-16 without a mark": ("jobs.csv", _CSV.decode().encode("utf-16-le"), [(1, NO_JSON)]),
    "packed CSV that is broken off": ("jobs.csv.gz", gzip.compress(_CSV)[:-8], [(5, NO_JSON)]),
    "packed CSV of which a byte is wrong": (
        "jobs.csv.gz",
        gzip.compress(_CSV)[:-8] + b"12345678",
        [(5, NO_JSON)],
    ),
    "CSV with a cell too long": (
        "jobs.csv",
        _CSV.replace(b"c,hi", b"c," + b"x" * 1_006_001),
        [(3, LONG)],
    ),
    "CSV with a quote that never ends": (
        "jobs.csv",
        _CSV.replace(b"c,hi", b'c,"hi'),
        [(3, NO_JSON)],
    ),
    "CSV with cells too many and too few": (
        "jobs.csv",
        _CSV.replace(b"a,hi", b"a,hi,ho").replace(b"c,hi", b"c"),
        [(1, VALUE), (3, VALUE)],
    ),
    "settings that are no JSON": ("jobs.csv", b"user_id,text,settings\na,hi,{a\n", [(1, NO_JSON)]),
    "NaN in a conversation": ("jobs.csv", b"user_id,messages\nada,[NaN]\n", [(1, NO_JSON)]),
}


@pytest.mark.parametrize("name", TABLES)
def test_what_is_no_table_leaves_nothing(batches: Batches, tmp_path: Path, name: str) -> None:
    called, content, problems = TABLES[name]
    (tmp_path / called).write_bytes(content)
    assert problems_of(batches, tmp_path / called) == problems


def test_a_table_without_the_column_that_is_named_leaves_nothing(
    batches: Batches, tmp_path: Path
) -> None:
    (tmp_path / "jobs.csv").write_bytes(b"user_id,text\nada,hi\n")
    with pytest.raises(InvalidInput):
        batches.create(tmp_path / "jobs.csv", columns={"text": "prompt"})
    assert batches.list() == []


def test_no_problem_quotes_what_the_line_says(batches: Batches, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    for line, _ in LINES.values():
        path.write_bytes(
            line.replace(b'"hi"', b'"canary"').replace(b'"ada"', b'"canary"') + b"\nnull\n"
        )
        with pytest.raises(InvalidBatchFile) as caught:
            batches.create(path)
        assert "canary" not in str(caught.value) + str(caught.value.problems)


def test_there_are_sixty_of_them() -> None:
    assert len(LINES) >= 60

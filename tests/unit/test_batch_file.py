"""What a batch file may hold, line by line; checked before anything is written."""

import gzip
import io
import mmap
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from tests.batch_clients import batches_of
from tests.batch_files import Write, hello, writing
from tests.integration.odd_values import Loud
from turnmill.domain.errors import InvalidBatchFile, InvalidInput
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.sync.batches import Batches
from turnmill.verbs.batch_files.sources import path_of


@pytest.fixture
def batches(store: Database) -> Batches:
    return batches_of(store, max_text_bytes=1000)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writing(tmp_path)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ({"text": "hi"}, "needs one of"),
        ({"text": "hi", "user_id": "a", "session": "b"}, "needs one of"),
        (hello(0, text=""), "text is empty"),
        (hello(0, text=7), "text must be a str"),
        (hello(0, text="x" * 1001), "more than 1000"),
        (hello(0, text="a\0b"), "NUL"),
        (hello(0, text="a\ud800b"), "surrogate"),
        (hello(0, txt="hi"), "unknown field 'txt'"),
        (hello(0, custom_id=""), "custom_id"),
        (hello(0, user_id=None), "user_id"),
        (hello(0, metadata=[]), "metadata"),
        (hello(0, provider="openai"), "model"),
        ({"session": "nobody", "text": "hi"}, "no session of this id or key"),
        ({"session": str(new_id()), "text": "hi"}, "no session of this id or key"),
        ({"session": "s", "text": "hi", "model": "m"}, "the session has its own"),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(
    batches: Batches, write: Write, line: Any, what: str
) -> None:
    with pytest.raises(InvalidBatchFile, match=f"line 2: .*{what}") as caught:
        batches.create(write(hello(1), line, hello(3)))
    assert [number for number, _, _ in caught.value.problems] == [2]
    assert batches.list() == []


def test_all_bad_lines_are_named_at_once(batches: Batches, write: Write) -> None:
    with pytest.raises(InvalidBatchFile, match="and 2 more") as caught:
        batches.create(write("{", hello(2), "{", "{", "", "{", {"session": "no", "text": "hi"}))
    assert [number for number, _, _ in caught.value.problems] == [1, 3, 4, 6, 7]


def test_the_error_for_a_bad_line_does_not_quote_it(batches: Batches, write: Write) -> None:
    with pytest.raises(InvalidBatchFile) as caught:
        batches.create(write('{"text": "canary', hello(1, text="canary\0"), '"canary"'))
    assert "canary" not in str(caught.value) + str(caught.value.problems)


def test_an_empty_file_is_refused(batches: Batches, write: Write) -> None:
    with pytest.raises(InvalidBatchFile, match="no lines"):
        batches.create(write("", "  "))


@pytest.mark.parametrize("name", ["missing.jsonl", "n" * 300, "d/" * 3000, ".", "x/../x"])
def test_a_file_that_cannot_be_read_is_refused(batches: Batches, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidBatchFile, match="cannot read") as caught:
        batches.create(tmp_path / name)
    assert "path" in caught.value.hint


def test_a_name_that_no_file_has_is_refused_where_it_is_read_and_written(
    batches: Batches, write: Write
) -> None:
    batch = batches.create(write(hello(1)))
    for verb in (batches.create, batches.estimate, batch.results):
        with pytest.raises(InvalidInput, match="no file has such a name"):
            verb("\ud800.jsonl")


def test_what_can_be_read_once_only_is_refused_and_not_waited_for(
    batches: Batches, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(InvalidBatchFile, match="read twice"):
            batches.create(path)


class Breaking(io.BytesIO):
    """A file of a caller's own, which breaks off, or has nothing to read for now."""

    def __init__(self, content: bytes, then: Exception | None) -> None:
        super().__init__(content)
        self._then = then

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size) or self._end()

    def readline(self, size: int | None = -1) -> bytes:
        return super().readline(size) or self._end()

    def _end(self) -> bytes:
        if self._then is not None:
            raise self._then
        return cast("bytes", None)


def closed() -> io.BytesIO:
    file = io.BytesIO(b"{}")
    file.close()
    return file


def breaking(content: bytes, then: Exception | None) -> Callable[[], Any]:
    return lambda: Breaking(content, then)


LINES_OF_A_FILE = b'{"user_id": "ada", "text": "hi"}\n' * 60
UNREADABLE: dict[str, Callable[[], Any]] = {
    "closed": closed,
    "for writing": lambda: io.BufferedWriter(cast("io.RawIOBase", io.BytesIO())),
    "of another kind": lambda: mmap.mmap(-1, 10),
    "not packed": lambda: gzip.GzipFile(fileobj=io.BytesIO(LINES_OF_A_FILE)),
    **{
        f"{type(error).__name__} {where}": breaking(content, error)
        for where, content in (("at once", b""), ("in the middle", LINES_OF_A_FILE))
        for error in (RuntimeError("canary"), OSError(5, "failed"), MemoryError(), None)
    },
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_open_file_that_cannot_be_read_to_its_end_is_refused_and_nothing_is_left_of_it(
    batches: Batches, name: str
) -> None:
    for verb in (batches.create, batches.estimate):
        with closing(UNREADABLE[name]()) as file, pytest.raises(InvalidBatchFile) as caught:
            verb(file)
        assert str(caught.value).startswith("cannot read on: ")
        assert "canary" not in str(caught.value) and "bytes" in caught.value.hint
    assert batches.list() == []


def test_blank_lines_and_a_byte_order_mark_are_no_lines(batches: Batches, write: Write) -> None:
    path = write(hello(1), "", hello(3))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    batch = batches.create(path)
    assert batch.counts.total == 2
    assert [result.line for result in batch.iter_results()] == [1, 3]


def test_a_line_too_long_to_be_a_message_is_not_read_into_memory(
    batches: Batches, write: Write
) -> None:
    with pytest.raises(InvalidBatchFile, match="line 2: longer than 1006000 bytes"):
        batches.create(write(hello(1), hello(2, text="x" * 1_006_001)))


def test_a_path_is_what_it_holds_and_not_what_it_says(tmp_path: Path) -> None:
    assert path_of(Loud(tmp_path)) == tmp_path
    assert type(str(path_of(Loud(tmp_path)))) is str

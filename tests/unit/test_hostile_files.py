"""Files that mean harm are refused, with what is wrong with each, and nothing of them is kept."""

import asyncio
import io
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.unit.hostile_files import (
    HOSTILE,
    TAKEN,
    Hostile,
    ended_by_its_index,
    jpeg,
    png,
    recorded,
)
from turnmill import AsyncClient, AttachmentRefused, Client, InvalidInput, Settings
from turnmill.files.kinds import HEAD
from turnmill.files.port import CHUNK


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("files")
    settings = Settings(database_url="sqlite://", files_url=str(folder), max_file_bytes=3_000_000)
    with Client(settings=settings) as made:
        yield made


def bytes_in(client: Client) -> list[str]:
    root = Path(client.settings.files_url)
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]


def refused(client: Client, source: Any, **said: Any) -> str:
    with pytest.raises(AttachmentRefused) as caught:
        client.attachments.put(source, user_id="mallory", **said)
    assert (client.attachments.list(user_id="mallory"), bytes_in(client)) == ([], [])
    assert client.attachments.usage("mallory") == 0
    assert caught.value.hint
    return str(caught.value)


def test_there_are_two_hundred_of_them() -> None:
    assert len({one.what for one in HOSTILE}) == len(HOSTILE) >= 200


@pytest.mark.parametrize("one", HOSTILE, ids=lambda one: one.what)
def test_a_file_that_means_harm_is_refused_and_nothing_is_kept(
    one: Hostile, client: Client
) -> None:
    said = refused(client, one.content, name=one.name, media_type=one.media_type)
    assert said and "passwd" not in said


def test_a_text_of_comments_alone_is_looked_at_once(client: Client) -> None:
    kept = client.attachments.put(b"<!--a-->" * 60_000 + b"x", user_id="ada")
    assert kept.media_type == "text/plain"
    client.attachments.delete(kept)


@pytest.mark.parametrize(
    "content",
    [b"# PDFs\n\nThey begin with `%PDF-1.7`.\n", b"<p align=center>\n\n# Hello", b"<!-- a --> b"],
)
def test_a_text_that_speaks_of_markup_is_a_text(content: bytes, client: Client) -> None:
    kept = client.attachments.put(content, user_id="ada")
    assert kept.media_type == "text/plain"
    client.attachments.delete(kept)


@pytest.mark.parametrize("told", TAKEN)
def test_a_true_file_is_what_its_bytes_are(told: str, client: Client) -> None:
    kept = client.attachments.put(TAKEN[told], user_id="ada", name="it")
    assert (kept.media_type, kept.size, kept.name) == (told, len(TAKEN[told]), "it")
    client.attachments.delete(kept)


@pytest.mark.parametrize("brand", [b"M4A ", b"mp42", b"isom", b"iso5", b"dash", b"3gp4"])
def test_a_sound_is_taken_as_phones_and_browsers_record_it(brand: bytes, client: Client) -> None:
    said = {"name": "question.m4a", "media_type": "audio/mp4;codecs=mp4a.40.2"}
    kept = client.attachments.put(recorded(brand, b"soun"), user_id="ada", **said)
    assert kept.media_type == "audio/mp4"
    client.attachments.delete(kept)


@pytest.mark.parametrize("before", [300_000, HEAD - 20, HEAD, 3 * CHUNK - 12, 2_900_000])
def test_a_recording_whose_index_stands_at_its_end_is_a_sound(before: int, client: Client) -> None:
    content = ended_by_its_index(b"mp42", b"soun", before=before)
    for source in (content, Unseekable(content)):
        kept = client.attachments.put(source, user_id="ada", name="memo.m4a")
        assert (kept.media_type, kept.size) == ("audio/mp4", len(content))
        client.attachments.delete(kept)


def test_what_tells_of_a_video_is_found_wherever_pieces_end(client: Client) -> None:
    for before in range(3 * CHUNK - 40, 3 * CHUNK + 4, 3):
        late = ended_by_its_index(b"isom", b"vide", b"soun", before=before)
        assert "a video" in refused(client, late, name="memo.m4a")


def test_a_picture_is_measured_behind_whatever_stands_before_its_frame(client: Client) -> None:
    photo = jpeg(4000, 3000, comment=b"x" * 65_000)
    kept = client.attachments.put(photo, user_id="ada")
    assert (kept.width, kept.height) == (4000, 3000)
    client.attachments.delete(kept)


class Unseekable(io.BytesIO):
    """A file that can be read once."""

    def seekable(self) -> bool:
        return False


class Endless(io.RawIOBase):
    """A file that has no end, and cannot be read twice."""

    def __init__(self, piece: bytes) -> None:
        self.piece, self.given = piece, 0

    def read(self, size: int = -1) -> bytes:
        self.given += len(self.piece)
        return self.piece


@pytest.mark.parametrize("piece", [b"hello " * 1000, b"\0" * 6000, b"x" * 10_000_000])
def test_a_body_without_end_is_read_no_further_than_may_be(piece: bytes, client: Client) -> None:
    body = Endless(piece)
    refused(client, body)
    assert body.given <= client.settings.max_file_bytes + HEAD + len(piece)


def test_a_file_that_is_refused_costs_no_memory_to_speak_of(client: Client) -> None:
    tracemalloc.start()
    try:
        refused(client, Endless(b"hello " * 10_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * HEAD


def test_only_a_plain_file_is_read_by_its_path(client: Client, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, "/dev/zero", "/dev/tty0"):
        with pytest.raises(InvalidInput):
            client.attachments.put(path, user_id="mallory")
    assert bytes_in(client) == []


def test_a_name_is_the_last_part_of_a_path(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a\u202ecat\x07.png"
    path.write_bytes(png())
    kept = client.attachments.put(path, user_id="ada")
    assert kept.name == "acat.png"
    client.attachments.delete(kept)


@pytest.mark.parametrize("source", [None, 7, 1.5, object(), {}, "", "no such file", "a\0b"])
def test_what_is_no_file_is_refused(source: Any, client: Client) -> None:
    with pytest.raises(InvalidInput):
        client.attachments.put(source, user_id="ada")


def test_a_file_that_gives_text_or_raises_is_refused(client: Client) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise RuntimeError("what the user said")

    class Forward(io.BytesIO):
        def seek(self, *_: Any) -> int:
            raise OSError("what the user said")

    for source in (io.StringIO("hello"), Broken(), Forward(b"hello")):
        with pytest.raises(InvalidInput) as caught:
            client.attachments.put(source, user_id="ada")
        assert "what the user said" not in str(caught.value)


def test_half_a_file_is_not_kept_where_the_rest_has_not_come_yet(client: Client) -> None:
    class Waiting(io.RawIOBase):
        pieces: ClassVar[list[bytes | None]] = [b"half of ", None, b"what was said"]

        def read(self, size: int = -1) -> bytes | None:
            return self.pieces.pop(0)

    with pytest.raises(InvalidInput, match="not come yet"):
        client.attachments.put(Waiting(), user_id="mallory")
    assert client.attachments.list(user_id="mallory") == []


def test_a_message_with_one_bad_file_is_not_sent(client: Client) -> None:
    session = client.sessions.create(user_id="eve", provider="mock", model="mock")
    with pytest.raises(AttachmentRefused):
        client.send(session, "look", attachments=[b"fine", b"\x7fELF"])
    assert client.turns.list(session=session) == []


def test_a_client_for_asyncio_refuses_the_same(tmp_path: Path) -> None:
    async def run() -> None:
        settings = Settings(database_url="sqlite://", files_url=str(tmp_path / "files"))
        async with AsyncClient(settings=settings) as client:
            with pytest.raises(AttachmentRefused):
                await client.attachments.put(b"\x7fELF", user_id="mallory")
            assert await client.attachments.list() == []

    asyncio.run(run())

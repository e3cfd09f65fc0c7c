"""Files in messages: kept for the user, given to models, and said to be gone when they are."""

import asyncio
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from tests.forked import forked
from tests.unit.hostile_files import TAKEN, gif, pdf, png, wav
from turnmill import (
    AsyncClient,
    AttachmentNotFound,
    AttachmentRefused,
    Audio,
    Client,
    File,
    FilesQuotaExceeded,
    Image,
    InvalidInput,
    Settings,
    Text,
    Turn,
    TurnFailed,
    UnsupportedPart,
)
from turnmill.store.nouns import attachments as rows


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(database_url="sqlite://") as made:
        made.sessions.create(user_id="ada", key="s", provider="mock", model="mock")
        yield made


def said(client: Client, *said: Any, **options: Any) -> str:
    turn: Turn = client.send("s", *said, **options)
    return turn.result(timeout=30).text


def test_all_that_a_file_may_be_given_as_is_kept_and_shown_to_the_model(
    client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "cat.gif"
    path.write_bytes(gif())
    kept = client.attachments.put(pdf(), user_id="ada", name="a.pdf")
    reply = said(
        client,
        "look",
        attachments=[str(path), path, png(), bytearray(wav()), io.BytesIO(b"words"), kept, kept.id],
    )
    for one in ("image/gif", "image/png", "audio/wav", "text/plain", "application/pdf"):
        assert one in reply
    assert len(client.attachments.list(user_id="ada")) == 5, "each content once"


def test_a_part_says_what_it_refers_to(client: Client) -> None:
    turn = client.send("s", [Text("look "), Image(png(3, 4), detail="low", name="cat.png")])
    turn.result(timeout=30)
    (kept,) = client.attachments.list()
    asked = turn.messages()[0]
    assert asked.text == "look "
    assert asked.parts[1] == Image(
        id=str(kept.id),
        sha256=kept.sha256,
        media_type="image/png",
        name="cat.png",
        size=kept.size,
        width=3,
        height=4,
        detail="low",
    )
    assert turn.messages()[0].parts[1].source is None  # type: ignore[union-attr]


def test_a_message_may_be_a_file_alone(client: Client) -> None:
    assert "image/png" in said(client, Image(png()))
    assert "audio/wav" in said(client, Audio(wav()))
    assert "text/plain" in said(client, [File(b"words")])


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (Image(pdf()), AttachmentRefused),
        (Audio(png()), AttachmentRefused),
        (File(png()), AttachmentRefused),
        (Image(), InvalidInput),
        (Image(b"x", id="y"), InvalidInput),
        (Image(png(), detail="closely"), InvalidInput),
        (Image(png(), media_type="image/gif"), AttachmentRefused),
        (Image(png(), name="../a.png"), AttachmentRefused),
        (Image(id="01a218a5-f061-7f38-a916-68ae34250a73"), AttachmentNotFound),
    ],
)
def test_a_part_that_is_not_what_it_says_is_refused_and_nothing_is_sent(
    part: Any, error: type[Exception], client: Client
) -> None:
    with pytest.raises(error):
        client.send("s", [Text("look"), part])
    assert client.turns.list() == []


def test_more_files_than_a_message_may_have_are_refused(client: Client) -> None:
    with pytest.raises(InvalidInput):
        client.send("s", "look", attachments=[b"%d" % n for n in range(21)])
    assert client.attachments.list() == []
    for wrong in ("cat.png", b"x", 7):
        with pytest.raises(InvalidInput):
            client.send("s", "look", attachments=wrong)  # type: ignore[arg-type]


def test_the_file_of_one_user_is_unknown_in_the_session_of_another(client: Client) -> None:
    theirs = client.attachments.put(b"secret", user_id="eve")
    for given in (theirs, theirs.id, str(theirs.id), File(theirs), File(id=str(theirs.id))):
        with pytest.raises(AttachmentNotFound):
            client.send("s", "look", attachments=[given])
    forged = File(id=str(theirs.id), sha256=theirs.sha256, media_type="text/plain", size=6)
    with pytest.raises(AttachmentNotFound):
        client.send("s", [Text("look"), forged])
    with pytest.raises(AttachmentNotFound):
        client.send_many([("s", [forged])])
    assert client.turns.list() == []


def test_a_file_that_is_deleted_is_said_to_be_gone_and_the_conversation_goes_on(
    client: Client,
) -> None:
    turn = client.send("s", "look", attachments=[png()])
    turn.result(timeout=30)
    (kept,) = client.attachments.list()
    client.attachments.delete(kept)
    assert "[2 before]" in said(client, "and now?")
    with pytest.raises(AttachmentNotFound):
        client.attachments.get(kept)
    with pytest.raises(AttachmentNotFound):
        client.send("s", "look", attachments=[kept])


def test_bytes_that_are_missing_do_not_brick_a_session(client: Client, tmp_path: Path) -> None:
    client.send("s", "look", attachments=[png()]).result(timeout=30)
    client._executor.files.delete(next(iter(client._executor.files.keys())).key)
    assert "[2 before]" in said(client, "and now?")


def test_a_provider_that_takes_words_alone_is_sent_no_file(client: Client) -> None:
    client.sessions.create(user_id="ada", key="v", provider="openai", model="gpt-5")
    turn = client.send("v", "look", attachments=[wav()])
    with pytest.raises(TurnFailed):
        turn.result(timeout=30)


def test_many_messages_may_have_files(client: Client) -> None:
    turns = client.send_many([("s", "one"), ("s", [Text("two"), File(b"words")])])
    assert "text/plain" in turns[1].result(timeout=30).text
    with pytest.raises(UnsupportedPart):
        client.count_tokens("s", [Image("cat.png")])


def test_an_idempotency_key_stands_for_the_words_and_the_files(client: Client) -> None:
    first = client.send("s", "look", attachments=[png()], idempotency_key="k")
    assert client.send("s", "look", attachments=[png()], idempotency_key="k").id == first.id
    with pytest.raises(Exception, match="idempotency key"):
        client.send("s", "look", attachments=[gif()], idempotency_key="k")


def test_files_belong_to_the_callers_transaction(database_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=database_url, files_url=str(tmp_path / "files"))
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with Client(settings=settings) as client:
        client.sessions.create(user_id="ada", key="s")
        with engine.connect() as conn:
            client.send("s", "look", attachments=[png()], connection=conn)
            conn.rollback()
        assert client.turns.list() == []
        with engine.begin() as conn:
            client.send("s", "look", attachments=[png()], connection=conn)
        (turn,) = client.turns.list()
        with client._executor.database.begin() as conn:
            assert rows.mark_due(conn) == 0
        assert turn.messages()[0].parts[1].kind == "image"
    engine.dispose()


def test_a_quota_is_exact_under_fifty_uploads_of_clients(database_url: str, tmp_path: Path) -> None:
    settings = Settings(
        database_url=database_url, files_url=str(tmp_path / "files"), files_quota=200_000
    )

    def put(n: int) -> int:
        try:
            return made.attachments.put(b"%02d" % n * 5_000, user_id="ada").size
        except FilesQuotaExceeded:
            return 0

    with Client(settings=settings) as made, ThreadPoolExecutor(50) as threads:
        done = list(threads.map(put, range(50)))
        assert (sum(done), done.count(10_000)) == (200_000, 20)
        assert made.attachments.usage("ada") == 200_000
        assert len(made.attachments.list()) == 20
    kept = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
    assert (len(kept), sum(path.stat().st_size for path in kept)) == (20, 200_000)


def test_a_file_is_kept_in_a_forked_child(database_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=database_url, files_url=str(tmp_path / "files"))
    with Client(settings=settings) as client:
        client.attachments.put(b"before", user_id="ada")
        made = forked(lambda: client.attachments.put(b"within", user_id="ada").id)
        assert b"".join(client.attachments.open(made)) == b"within"


def test_a_client_for_asyncio_does_the_same() -> None:
    async def run() -> None:
        async with AsyncClient(database_url="sqlite://") as client:
            session = await client.sessions.create(user_id="ada", provider="mock", model="mock")
            kept = await client.attachments.put(TAKEN["image/png"], user_id="ada")
            turn = await client.send(session, [Text("look"), Image(kept)], attachments=[b"words"])
            reply = await turn.result(timeout=30)
            assert "image/png" in reply.text and "text/plain" in reply.text
            assert b"".join([one async for one in client.attachments.open(kept)]) == png()
            await client.attachments.delete(kept)
            assert [one.media_type for one in await client.attachments.list()] == ["text/plain"]
            assert await client.attachments.usage("ada") == 5

    asyncio.run(run())

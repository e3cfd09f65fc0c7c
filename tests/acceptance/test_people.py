"""Several people in a session, as applications and operators have it.

The commands of docs/people.md are run here.
"""

import asyncio
import shlex
import threading
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.pages import ROOT, blocks_of
from tests.acceptance.terminal import Terminal
from turnmill import (
    AsyncClient,
    Client,
    File,
    Happened,
    InvalidInput,
    MoveRefused,
    NotAParticipant,
    RoleForbids,
    SessionNotFound,
    UnsupportedPart,
)
from turnmill.store.rules.wanted import forget
from turnmill.testing import memory_client

WAIT = 20.0


@pytest.fixture
def client() -> Iterator[Client]:
    with memory_client() as made:
        made.sessions.create(user_id="ada", key="desk:1")
        made.sessions.participants.add("desk:1", "bob")
        yield made


def test_a_message_by_name_is_answered_and_told_to_all_of_them(client: Client) -> None:
    reply = client.send("desk:1", "Where?", sender="bob").result(timeout=WAIT)
    assert reply.text.endswith("You said: bob: Where? [0 before]")
    for name in ("ada", "bob"):
        found = list(client.follow("desk:1", as_=name, after=1, timeout=0))
        assert [(one.kind, one.sender, one.text) for one in found] == [
            ("turn.accepted", "bob", "Where?"),
            ("turn.started", None, ""),
            ("turn.succeeded", None, reply.text),
        ]
    assert [one.sender for one in client.sessions.history("desk:1")] == ["bob", None]


def test_a_note_comes_back_at_once_and_no_turn_comes_of_it(client: Client) -> None:
    client.sessions.pause("desk:1")
    note = client.send("desk:1", "psst", sender="bob", to="participants", idempotency_key="k")
    again = client.send("desk:1", "psst", sender="bob", to="participants", idempotency_key="k")
    assert (note.text, note.created, again.cursor, again.created) == (
        *("psst", True, note.cursor, False),
    )
    assert client.turns.list() == []
    (said,) = client.sessions.history("desk:1")
    assert (said.text, said.to, said.sender, said.turn_id) == ("psst", "participants", "bob", None)


def test_what_is_refused_is_refused_by_its_type_and_nothing_is_written(client: Client) -> None:
    client.sessions.participants.add("desk:1", "eve", role="observer")
    refused: list[tuple[type[Exception], dict[str, Any]]] = [
        (NotAParticipant, {"sender": "zed"}),
        (RoleForbids, {"sender": "eve"}),
        (RoleForbids, {"sender": "eve", "to": "participants"}),
        (InvalidInput, {"sender": "", "to": "participants"}),
        (InvalidInput, {"sender": "bob", "to": "everybody"}),
        (InvalidInput, {"sender": "bob", "to": "participants", "stream": True}),
        (InvalidInput, {"sender": "bob", "to": "participants", "lane": "bulk"}),
        (InvalidInput, {"sender": "bob", "to": "participants", "attachments": [b"words"]}),
    ]
    for kind, options in refused:
        with pytest.raises(kind):
            client.send("desk:1", "hello", **options)
    kept = client.attachments.put(b"words", user_id="ada")
    file = File(id=str(kept.id), sha256=kept.sha256, media_type=kept.media_type, size=kept.size)
    with pytest.raises(UnsupportedPart):
        client.send("desk:1", [file], sender="bob", to="participants")
    assert list(client.sessions.history("desk:1")) == []


def test_who_is_removed_is_told_no_more(client: Client) -> None:
    follows = client.follow("desk:1", as_="bob", timeout=WAIT)
    client.send("desk:1", "psst", to="participants")
    assert next(follows).text == "psst"
    client.sessions.participants.remove("desk:1", "bob")
    with pytest.raises(NotAParticipant):
        list(follows)
    with pytest.raises(NotAParticipant):
        next(client.follow("desk:1", as_="bob"))
    with pytest.raises(MoveRefused):
        client.sessions.participants.remove("desk:1", "ada")


def test_who_follows_a_session_that_is_deleted_is_told_so(client: Client) -> None:
    follows = client.follow("desk:1", as_="ada", timeout=WAIT)
    next(follows)
    client.sessions.delete("desk:1")
    with pytest.raises(SessionNotFound):
        list(follows)


def test_what_somebody_was_given_is_read_when_he_asks_for_the_next(client: Client) -> None:
    for n in range(3):
        client.send("desk:1", f"note {n}", to="participants")
    for one in client.follow("desk:1", as_="bob"):
        if one.text == "note 1":
            break
    again = list(client.follow("desk:1", as_="bob", timeout=0))
    assert [one.text for one in again] == ["note 1", "note 2"]
    ada, bob = client.sessions.participants.list("desk:1")
    assert (ada.unread, bob.unread) == (3, 0)
    assert client.sessions.participants.mark_read("desk:1", "ada").unread == 0


def test_who_waits_is_woken_by_what_others_say(database_url: str) -> None:
    """On Postgres: he would not look by himself."""
    forget()
    with Client(database_url=database_url) as client, Client(database_url=database_url) as other:
        client.sessions.create(user_id="ada", key="desk:1")
        heard: list[Happened] = []
        woken = threading.Semaphore(0)

        def listen() -> None:
            for one in other.follow("desk:1", as_="ada", timeout=WAIT):
                heard.append(one)
                woken.release()
                if one.text == "last":
                    return

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("turnmill.sync.participants._LOOK_SECONDS", 60)
            patch.setattr("turnmill.store.nouns.turns.finished", lambda conn, ids: [])
            listener = threading.Thread(target=listen)
            listener.start()
            for n in range(3):
                client.send("desk:1", f"note {n}", to="participants")
                assert woken.acquire(timeout=WAIT)
            client.send("desk:1", "last", sender="ada")
            listener.join(timeout=WAIT)
        assert [one.text for one in heard] == ["note 0", "note 1", "note 2", "last"]


def test_an_event_loop_has_it_all(tmp_path: Path) -> None:
    async def run() -> list[tuple[str, str | None]]:
        found = []
        async with AsyncClient(database_url=f"sqlite:///{tmp_path}/turns.db") as client:
            session = await client.sessions.create(user_id="ada")
            bob = await client.sessions.participants.add(session, "bob", by="ada")
            await client.send(session, "psst", sender="bob", to="participants")
            turn = await client.send(session, "Where?", sender="bob")
            told: Any = client.follow(session, as_="ada", timeout=WAIT)
            async with aclosing(told) as follows:
                async for one in follows:
                    found.append((one.kind, one.sender))
                    if one.turn_id == turn.id and one.state == "succeeded":
                        break
            assert (await client.sessions.participants.mark_read(session, "bob")).read > bob.read
            said = [one.to async for one in client.sessions.history(session)]
            assert said == ["participants", None, None]
            await client.sessions.participants.remove(session, "bob")
            assert len(await client.sessions.participants.list(session)) == 1
        return found

    assert asyncio.run(run()) == [
        *(("participant.joined", "bob"), ("note.posted", "bob"), ("turn.accepted", "bob")),
        *(("turn.started", None), ("turn.succeeded", None)),
    ]


@pytest.fixture
def there(tmp_path: Path) -> Terminal:
    url = f"sqlite:///{tmp_path}/turns.db"
    with Client(database_url=url) as client:
        client.sessions.create(user_id="ada", key="desk:1")
    return Terminal(tmp_path, {"TURNMILL_DATABASE_URL": url})


def test_the_commands_of_the_page_do_what_it_says(there: Terminal) -> None:
    page = ROOT / "docs" / "people.md"
    (block,) = (one for one in blocks_of(page) if one.language == "sh")
    said = {}
    for line in block.text.splitlines():
        words = shlex.split(line)[1:]
        if words[0] == "follow":
            words += ["--timeout", "0"]
        if words[:2] == ["participants", "remove"]:
            words += ["--yes"]
        done = there.run(*words)
        assert done.code == 0, (line, done.err)
        said[words[0], words[1]] = done.out
    assert "bob" in said["participants", "ls"]
    assert "Where shall we eat?" in said["follow", "desk:1"]
    assert "note.posted" in said["follow", "desk:1"]
    shown = there.run("sessions", "show", "desk:1", "--text").out
    assert "to participants" in shown
    assert "bob" in shown


def test_what_commands_refuse_ends_them_with_its_code_and_content_is_asked_for(
    there: Terminal,
) -> None:
    there.run("send", "hello", "--session", "desk:1", "--sender", "ada", "--to", "participants")
    refused = there.run("send", "hello", "--session", "desk:1", "--sender", "bob")
    assert (refused.code, "not_a_participant" in refused.err) == (1, True)
    both = there.run("send", "x", "--session", "desk:1", "--to", "participants", "--wait")
    assert both.code == 2
    followed = there.run("follow", "desk:1", "--as", "ada", "--timeout", "0", "--json").lines()
    assert [one["cursor"] for one in followed] == list(range(1, len(followed) + 1))
    assert not any("text" in one for one in followed)

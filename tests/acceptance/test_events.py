"""Events as an application and an operator read them."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.terminal import Terminal
from turnmill import AsyncClient, Client, Event, EventKind, InvalidInput
from turnmill.domain.states import FINAL
from turnmill.store.rules.endings import Happening


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Yield the client of a file in which two sessions had three turns each."""
    with Client(database_url=f"sqlite:///{tmp_path}/turns.db") as client:
        for key in ("a", "b"):
            client.sessions.create(user_id="ada", key=key)
            for _ in range(2):
                client.send(key, "hello").result(timeout=20)
            client.sessions.pause(key)
            client.send(key, "never mind").cancel()
        yield client


@pytest.fixture
def there(client: Client, tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, {"TURNMILL_DATABASE_URL": f"sqlite:///{tmp_path}/turns.db"})


def kinds(found: list[Event]) -> list[tuple[str, int]]:
    return [(one.kind, one.n) for one in found]


OF_ONE = [("turn.succeeded", 1), ("turn.succeeded", 2), ("turn.cancelled", 3)]


def test_events_are_read_in_pages_by_session_and_by_kind(client: Client) -> None:
    pages = [client.events.read(limit=4)]
    pages.append(client.events.read(after=pages[0][-1].place))
    assert sorted(kinds([*pages[0], *pages[1]])) == sorted(OF_ONE * 2)
    assert kinds(client.events.read(session="b")) == OF_ONE
    assert kinds(client.events.read(kinds=["turn.cancelled"])) == OF_ONE[2:] * 2
    session = client.sessions.get("a")
    client.sessions.delete("a")
    assert kinds(client.events.read(session=session.id)) == OF_ONE


def test_who_follows_for_a_reader_and_breaks_off_goes_on_with_the_same_event(
    client: Client,
) -> None:
    client.events.add_reader("bill")
    client.events.add_reader("bill")
    seen: list[Event] = []
    for event in client.events.follow(reader="bill", session="a", timeout=0):
        seen.append(event)
        if len(seen) == 2:
            break
    again = list(client.events.follow(reader="bill", session="a", timeout=0))
    assert kinds(seen) == OF_ONE[:2] and kinds(again) == OF_ONE[1:]
    (reader,) = client.events.readers()
    assert (reader.name, reader.behind, reader.missed) == ("bill", 0, 0)
    client.events.remove_reader("bill")
    assert client.events.readers() == []


def test_who_follows_is_told_of_what_comes(client: Client) -> None:
    async def run() -> list[Event]:
        found = []
        async with AsyncClient(settings=client.settings, database_url=url_of(client)) as other:
            follows = other.events.follow(session="b", kinds=["turn.succeeded"], timeout=20)
            async for event in follows:
                found.append(event)
                if event.n == 2:
                    client.sessions.resume("b")
                    client.send("b", "once more")
                if event.n > 2:
                    break
        return found

    assert kinds(asyncio.run(run())) == [*OF_ONE[:2], ("turn.succeeded", 4)]


def url_of(client: Client) -> str:
    return client._executor.database.url.render_as_string(hide_password=False)


WRONG: dict[str, Callable[[Client], Any]] = {
    "after": lambda c: c.events.read(after=-1),
    "after and reader": lambda c: c.events.read(after=1, reader="x"),
    "kind": lambda c: c.events.read(kinds=["turn.born"]),
    "kinds": lambda c: c.events.read(kinds="turn.failed"),
    "limit": lambda c: c.events.read(limit=0),
    "reader": lambda c: c.events.read(reader="nobody"),
    "to follow": lambda c: c.events.follow(reader="observer:log"),
    "timeout": lambda c: c.events.follow(timeout=-1),
    "a name": lambda c: c.events.add_reader("observer:log"),
    "to pass": lambda c: c.events.passed("nobody", c.events.read()[0]),
    "a place of an event": lambda c: c.events.passed("one", 1),  # type: ignore[arg-type]
    "no event": lambda c: c.events.passed("nobody", "1"),  # type: ignore[arg-type]
    "to park": lambda c: c.events.park_reader("nobody"),
    "to remove": lambda c: c.events.remove_reader("nobody"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_read_is_refused_with_a_hint(what: str, client: Client) -> None:
    with pytest.raises(InvalidInput) as caught:
        WRONG[what](client)
    assert caught.value.hint


def test_there_is_a_kind_for_whatever_happens() -> None:
    written = {f"turn.{state}" for state in FINAL} | set(Happening) | {"gap"}
    written |= {"account.closed", "account.opened", "budget.threshold"}
    written |= {"alert.opened", "alert.closed", "report.made"}
    written |= {"turn.accepted", "turn.started", "turn.retrying", "turn.waiting"}
    written |= {"batch.finished", "batch.paused", "batch.expired", "webhook.parked"}
    written |= {"turn.feedback", "participant.joined", "participant.left", "note.posted"}
    of_sessions = ("opened", "updated", "paused", "resumed", "archived", "restored", "forked")
    written |= {f"session.{one}" for one in (*of_sessions, "deleted", "purged")}
    assert {kind.value for kind in EventKind} == written


def test_an_operator_lists_and_follows_events(there: Terminal) -> None:
    first = there.run("events", "ls", "--json", "--limit", "4")
    after = first.err.strip().removeprefix("more: ").split()
    rest = there.run("events", "ls", "--json", *after)
    found = [*first.lines(), *rest.lines()]
    assert [one["place"] for one in found] == [1, 2, 3, 4, 5, 6] and not rest.err
    assert set(found[0]) == {
        *("place", "kind", "session_id", "turn_id", "n", "at", "id", "state"),
    }
    table = there.run("events", "ls", "--session", "b", "--kind", "turn.cancelled").out
    assert table.count("turn.cancelled") == 1
    followed = there.run("events", "follow", "--json", "--timeout", "0")
    assert followed.lines() == found
    assert there.run("events", "follow", "--timeout", "0").out.count("\n") == 6
    assert there.run("events", "ls", "--session", "nobody").code == 3


def test_an_operator_parks_and_removes_readers(there: Terminal, client: Client) -> None:
    assert "nobody reads" in there.run("events", "readers").err
    client.events.add_reader("bill")
    assert there.run("events", "park", "bill").code == 0
    (reader,) = there.run("events", "readers", "--json").lines()
    assert (reader["name"], reader["parked"]) == ("bill", True)
    assert "parked" in there.run("events", "readers").out
    assert there.run("events", "park", "bill", "--undo").code == 0
    assert there.run("events", "remove", "bill", "--yes").code == 0
    assert there.run("events", "remove", "bill", "--yes").code == 1

"""Ten people in one session, from three processes, read by processes that are killed."""

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests import steps
from tests.integration.talking_people import say
from turnmill import Client, Happened
from turnmill.domain.ids import SessionId
from turnmill.domain.states import Lane
from turnmill.store.database import Database
from turnmill.store.line.shared_log import catch_up
from turnmill.store.records import Locked
from turnmill_worker.stack.process import wait_until

NAMES = [f"p{n}" for n in range(10)]


class Crowd:
    """Processes that say things, and processes that read them and are killed."""

    def __init__(self, url: str, session: str, folder: Path) -> None:
        self._of = (url, session)
        self._folder = folder
        self._readers: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}

    def say(self, first: int, count: int) -> subprocess.Popen[bytes]:
        return self._start("say", str(first), str(count), *NAMES)

    def read(self, *names: str) -> None:
        self._readers[names] = self._start("read", str(self._folder), *names)

    def cut(self, names: tuple[str, ...]) -> None:
        """Kill one that reads, wherever it is, and let it begin again."""
        self._kill(self._readers[names])
        self.read(*names)

    def close(self) -> None:
        for one in self._readers.values():
            self._kill(one)

    def had(self, name: str) -> list[str]:
        """Return the whole lines that somebody has noted."""
        path = self._folder / name
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []

    def _start(self, what: str, *words: str) -> subprocess.Popen[bytes]:
        program = ("-m", "tests.integration.talking_people", what, *self._of, *words)
        return subprocess.Popen([sys.executable, *program])

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait(timeout=10)


@contextmanager
def answering(store: Database) -> Iterator[None]:
    """Answer whatever is due, as a worker does."""
    over = threading.Event()

    def answer() -> None:
        while not over.is_set():
            for claim in steps.take_due(store, Lane.INTERACTIVE):
                while isinstance(steps.end(store, claim), Locked):
                    over.wait(0.002)  # somebody speaks just now
            over.wait(0.002)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=10)


def run(url: str, folder: Path, *, messages: int, cuts: int) -> None:
    """Have so many messages said by three processes, and read by three that are cut so often."""
    store = Database(url)
    dice = random.Random(7)
    groups = [tuple(NAMES[n::3]) for n in range(3)]
    with Client(database_url=url) as client:
        session = client.sessions.create(user_id=NAMES[0])
        for name in NAMES[1:]:
            client.sessions.participants.add(session, name)
        crowd = Crowd(url, str(session.id), folder)
        try:
            for group in groups:
                crowd.read(*group)
            share = messages // 3
            with answering(store):
                talking = [crowd.say(n * share, share) for n in range(3)]
                for n in range(cuts):
                    enough = messages * (n + 1) // (cuts + 1)
                    await_lines(crowd, [dice.choice(NAMES)], enough)
                    crowd.cut(dice.choice(groups))
                assert [one.wait(timeout=300) for one in talking] == [0, 0, 0]
                # Who joined, notes, and three of each turn.
                await_lines(crowd, NAMES, 9 + share + 3 * 2 * share)
        finally:
            crowd.close()
        _judge(client, session.id, {name: crowd.had(name) for name in NAMES}, messages=share * 3)
    steps.assert_sound(store)
    store.close()


def await_lines(crowd: Crowd, names: list[str], lines: int) -> None:
    """Wait until each of these has noted so many."""
    assert wait_until(
        lambda: all(len(crowd.had(name)) >= lines for name in names),
        timeout=timedelta(seconds=300),
    )


def _judge(client: Client, session: SessionId, had: dict[str, list[str]], *, messages: int) -> None:
    lines = had[NAMES[0]]
    assert all(one == lines for one in had.values())
    assert [int(line.partition(" ")[0]) for line in lines] == list(range(1, len(lines) + 1))
    words = [line.split(" ", 3) for line in lines]
    said = [one[3] for one in words if one[1] in ("turn.accepted", "note.posted")]
    assert sorted(said) == sorted(f"message {n}" for n in range(messages))
    in_history = [
        one.text for one in client.sessions.history(session) if one.role == "user" and not one.to
    ]
    assert [one[3] for one in words if one[1] == "turn.accepted"] == in_history
    for n in range(3):  # what one process said stands in the order in which it was said
        mine = range(n * messages // 3, (n + 1) * messages // 3)
        told = [int(one.split()[1]) for one in said]
        assert [one for one in told if one in mine] == list(mine)
    answered = [one[3] for one in words if one[1] == "turn.succeeded"]
    assert answered == [f"answer to {one}" for one in in_history]


def test_people_who_are_cut_are_told_everything_once_and_in_one_order(database_url: str) -> None:
    store = Database(database_url)
    with Client(database_url=database_url) as client:
        session = client.sessions.create(user_id=NAMES[0]).id
        for name in NAMES[1:]:
            client.sessions.participants.add(session, name)
        everything = 9 + 10 + 3 * 2 * 10
        with answering(store), ThreadPoolExecutor(8) as at_once:
            reading = [at_once.submit(told, client, session, one, everything) for one in NAMES[:5]]
            talking = [
                at_once.submit(say, client, str(session), n * 10, NAMES, 10) for n in range(3)
            ]
            had = [one.result(timeout=100) for one in reading]
            assert [one.result(timeout=10) for one in talking] == [None] * 3
    assert had == had[:1] * 5
    assert [one.cursor for one in had[0]] == list(range(1, everything + 1))
    said = [one.text for one in had[0] if one.kind in ("turn.accepted", "note.posted")]
    assert sorted(said) == sorted(f"message {n}" for n in range(30))
    asked = [one.text for one in had[0] if one.kind == "turn.accepted"]
    answers = [one.text for one in had[0] if one.kind == "turn.succeeded"]
    assert answers == [f"answer to {one}" for one in asked]
    steps.assert_sound(store)
    store.close()


def test_whoever_speaks_waits_for_nobody_who_puts_down_what_has_happened(database_url: str) -> None:
    store = Database(database_url)
    with Client(database_url=database_url) as client:
        session = client.sessions.create(user_id="ada").id
        client.sessions.participants.add(session, "bob")
        with store.begin() as conn:
            assert catch_up(conn, session) is not None  # the log is in our hands
            client.send(session, "hello", sender="bob")
            (claim,) = steps.take_due(store, Lane.INTERACTIVE)
            assert not isinstance(steps.end(store, claim), Locked)
            first = list(client.follow(session, as_="bob", after=0, timeout=0))
            assert [one.kind for one in first] == ["participant.joined"]
        then = list(client.follow(session, as_="bob", after=0, timeout=0))
    assert [one.kind for one in then[1:]] == ["turn.accepted", "turn.started", "turn.succeeded"]
    store.close()


def told(client: Client, session: SessionId, name: str, everything: int) -> list[Happened]:
    """Return what somebody is told, who lets go now and then and goes on behind a cursor."""
    dice, had = random.Random(name), list[Happened]()
    while len(had) < everything:
        most, cursor = dice.randrange(1, 15), had[-1].cursor if had else 0
        for one in client.follow(session, as_=name, after=cursor, timeout=90):
            had.append(one)
            most -= 1
            if not most or len(had) == everything:
                break
    return had


@pytest.mark.long
@pytest.mark.timeout(300)
def test_people_of_several_processes_that_are_killed_read_everything_once_and_in_one_order(
    database_url: str, tmp_path: Path
) -> None:
    run(database_url, tmp_path, messages=300, cuts=2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_thousand_messages_of_ten_people_are_read_once_and_in_one_order_by_all(
    database_url: str, tmp_path: Path
) -> None:
    run(database_url, tmp_path, messages=2000, cuts=6)

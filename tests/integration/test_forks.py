"""A client that was used, and then the process forked: each process has what is its own."""

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests import rows, steps
from tests.forked import Forked, forked
from turnmill import AsyncClient, BegunBeforeFork, Client, UnsupportedByStore
from turnmill.domain.ids import SessionId
from turnmill.store.database import Database

SESSIONS = 4
CHILDREN = 8
READS = 20


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def sessions(store: Database) -> list[SessionId]:
    """Sessions of as many users, each with messages that name it."""
    found = [rows.start(store, user_id=f"user {number}") for number in range(SESSIONS)]
    for session in found:
        for _ in range(3):
            rows.send(store, session, f"said in {session}")
    return found


class Blocking:
    """Reads with a `Client`."""

    def __init__(self, database_url: str, broker_url: str) -> None:
        self.client = Client(database_url=database_url, broker_url=broker_url)

    def texts(self, sessions: Sequence[SessionId]) -> list[list[str]]:
        """Return what was said in each of the sessions, read one after the other."""
        return [[one.text for one in self.client.sessions.history(each)] for each in sessions]

    def send(self, session: SessionId) -> None:
        self.client.send(session, f"said in {session}")

    def close(self) -> None:
        self.client.close()


class OnLoops:
    """Reads with an `AsyncClient`, on a new event loop each time."""

    def __init__(self, database_url: str, broker_url: str) -> None:
        self.client = AsyncClient(database_url=database_url, broker_url=broker_url)

    def texts(self, sessions: Sequence[SessionId]) -> list[list[str]]:
        async def read(session: SessionId) -> list[str]:
            return [message.text async for message in self.client.sessions.history(session)]

        async def read_all() -> list[list[str]]:
            return [await read(session) for session in sessions]

        return asyncio.run(read_all())

    def send(self, session: SessionId) -> None:
        asyncio.run(self.client.send(session, f"said in {session}"))

    def close(self) -> None:
        asyncio.run(self.client.close())


Reader = Blocking | OnLoops


@pytest.fixture(params=[Blocking, OnLoops])
def reader(request: pytest.FixtureRequest, database_url: str, broker_url: str) -> Iterator[Reader]:
    reader = request.param(database_url, broker_url)
    yield reader
    reader.close()


@contextmanager
def busy(*works: Callable[[], None]) -> Iterator[None]:
    """Do these again and again, each on a thread of its own, and see that none fails."""
    over, errors = threading.Event(), []

    def run(work: Callable[[], None]) -> None:
        try:
            while not over.is_set():
                work()
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=30)
    assert errors == []


def foreign(reader: Reader, sessions: Sequence[SessionId], first: int) -> list[str]:
    """Read the sessions in turns, from the first one on; return what was said elsewhere."""
    turns = [sessions[(first + number) % len(sessions)] for number in range(READS)]
    return [
        text
        for session, texts in zip(turns, reader.texts(turns), strict=True)
        for text in texts or ["nothing"]
        if text != f"said in {session}"
    ]


def eight_children(reader: Reader, sessions: list[SessionId]) -> list[list[str]]:
    """Let eight children read at once; return what each of them saw that was said elsewhere."""
    children = [
        Forked(lambda first=number: foreign(reader, sessions, first))  # type: ignore[misc]
        for number in range(CHILDREN)
    ]
    return [child.result() for child in children]


def test_no_child_sees_what_was_said_to_another_user(
    reader: Reader, sessions: list[SessionId]
) -> None:
    assert foreign(reader, sessions, 0) == []  # it is used before it is inherited
    assert eight_children(reader, sessions) == [[]] * CHILDREN
    assert foreign(reader, sessions, 0) == []


def test_no_child_sees_what_threads_of_its_parent_read_and_send_meanwhile(
    reader: Reader, sessions: list[SessionId], store: Database
) -> None:
    elsewhere = rows.start(store, user_id="somebody else")

    def read() -> None:
        assert foreign(reader, sessions, 0) == []

    with busy(read, lambda: reader.send(elsewhere)):
        assert eight_children(reader, sessions) == [[]] * CHILDREN


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_child_of_fifty_times_eight_sees_what_was_said_to_another_user(
    reader: Reader, sessions: list[SessionId]
) -> None:
    for _ in range(50):
        assert foreign(reader, sessions, 0) == []
        assert eight_children(reader, sessions) == [[]] * CHILDREN

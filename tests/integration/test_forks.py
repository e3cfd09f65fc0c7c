"""A client that was used, and then the process forked: each process has what is its own."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Connection, text

from tests import rows, steps
from tests.forked import Forked, fork, forked
from turnmill import AsyncClient, AsyncTurn, BegunBeforeFork, Client, Turn, UnsupportedByStore
from turnmill.broker.publisher import Publisher
from turnmill.domain.ids import SessionId
from turnmill.forking import importing
from turnmill.prefetch import prefetched
from turnmill.store.database import Database
from turnmill_worker.pool.async_task import background_loop
from turnmill_worker.stack.process import wait_until

SESSIONS = 4
CHILDREN = 8
READS = 20
WAIT = 15


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

    def create(self) -> SessionId:
        return self.client.sessions.create(user_id="ada").id

    def send(self, session: SessionId) -> Turn | AsyncTurn:
        return self.client.send(session, f"said in {session}")

    def result(self, turn: Any) -> str:
        return str(turn.result(timeout=WAIT).text)

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

    def create(self) -> SessionId:
        return asyncio.run(self.client.sessions.create(user_id="ada")).id

    def send(self, session: SessionId) -> Turn | AsyncTurn:
        return asyncio.run(self.client.send(session, f"said in {session}"))

    def result(self, turn: Any) -> str:
        return str(asyncio.run(turn.result(timeout=WAIT)).text)

    def close(self) -> None:
        asyncio.run(self.client.close())


Reader = Blocking | OnLoops


@pytest.fixture(params=[Blocking, OnLoops])
def reader(request: pytest.FixtureRequest, database_url: str, broker_url: str) -> Iterator[Reader]:
    reader = request.param(database_url, broker_url)
    yield reader
    reader.close()


@pytest.fixture
def client(database_url: str, broker_url: str) -> Iterator[Client]:
    with Client(database_url=database_url, broker_url=broker_url) as client:
        yield client


@contextmanager
def busy(*runtime: Callable[[], None]) -> Iterator[None]:
    """Do these again and again, each on a thread of its own, and see that none fails."""
    over, errors = threading.Event(), []

    def run(work: Callable[[], None]) -> None:
        try:
            while not over.is_set():
                work()
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in runtime]
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

    def send() -> None:
        reader.send(elsewhere)

    with busy(read, send):
        assert eight_children(reader, sessions) == [[]] * CHILDREN


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_child_of_fifty_times_eight_sees_what_was_said_to_another_user(
    reader: Reader, sessions: list[SessionId]
) -> None:
    for _ in range(50):
        assert foreign(reader, sessions, 0) == []
        assert eight_children(reader, sessions) == [[]] * CHILDREN


def test_a_message_sent_before_the_fork_is_answered_to_the_child(
    reader: Reader, store: Database
) -> None:
    session = reader.create()
    turn = reader.send(session)
    child = Forked(lambda: reader.result(turn))
    steps.answer(store, turn.id)
    assert child.result() == reader.result(turn) == f"answer to said in {session}"


def test_a_child_that_closes_its_client_and_ends_closes_nothing_of_the_parents(
    database_url: str, broker_url: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.forking_program", database_url, broker_url],
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("the same connections\n", 0), done.stderr


def test_a_transaction_that_was_open_at_the_fork_is_the_parents_alone(store: Database) -> None:
    rows.start(store)

    def use(conn: Connection) -> list[str]:
        codes = []
        for move in (lambda: conn.execute(text("SELECT 1")), conn.commit):
            with pytest.raises(BegunBeforeFork) as caught:
                move()
            codes.append(caught.value.code)
        with store.begin() as own:
            own.execute(text("SELECT 1"))
        return codes

    with store.begin() as conn:
        conn.execute(text("UPDATE turnmill.sessions SET model = 'new'"))
        assert forked(lambda: use(conn)) == ["begun_before_fork"] * 2
    with store.begin() as conn:
        assert conn.execute(text("SELECT model FROM turnmill.sessions")).scalar_one() == "new"


def test_the_server_notices_the_death_of_a_parent_whose_child_lives_on(
    database_url: str, store: Database
) -> None:
    def begin_and_die() -> None:
        own = Database(database_url)
        with own.begin() as conn:
            conn.execute(text("SELECT 'left behind'"))
            if fork() == 0:
                os.read(over, 1)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)

    def left_behind() -> int:
        with store.single() as conn:
            counted = text(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%left behind%'"
                " AND pid <> pg_backend_pid() AND datname = current_database()"
            )
            return int(conn.execute(counted).scalar_one())

    over, going_on = os.pipe()  # the grandchild lives as long as we hold the other end
    parent = fork()
    if parent == 0:
        os.close(going_on)
        begin_and_die()
    assert os.WTERMSIG(os.waitpid(parent, 0)[1]) == signal.SIGKILL
    os.close(over)
    assert wait_until(lambda: left_behind() == 0, timeout=timedelta(seconds=10))
    os.close(going_on)


def test_a_thread_that_waits_for_the_broker_at_the_fork_holds_up_no_child(
    database_url: str, store: Database
) -> None:
    session, another = rows.start(store), rows.start(store)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with Client(database_url=database_url, broker_url=url) as client:
            sender = threading.Thread(target=client.send, args=(session, "hello"))
            sender.start()
            with silent.accept()[0]:  # it says nothing: the thread waits, and holds a lock
                turn = forked(lambda: client.send(another, "from the child").id)
                sender.join(timeout=20)
            assert client.turns.get(turn).session_id == another


def test_threads_that_hold_every_lock_at_the_fork_hold_up_no_child(
    client: Client, store: Database
) -> None:
    turn = client.send(client.sessions.create(user_id="ada"), "hello")
    held = [
        client._executor.waiter._lock,
        client._executor.database._lock,
        cast("Publisher", client._executor.announcer)._lock,
    ]
    ready, over = threading.Event(), threading.Event()

    def hold() -> None:
        for lock in held:
            lock.acquire()
        ready.set()
        over.wait(30)
        for lock in held:
            lock.release()

    holder = threading.Thread(target=hold)
    holder.start()
    assert ready.wait(10)
    child = Forked(lambda: turn.result(timeout=10).text)
    over.set()
    holder.join()
    steps.answer(store, turn.id)
    assert child.result() == "answer to hello"


def test_a_fork_waits_for_an_import_that_a_thread_has_begun() -> None:
    begun, over = threading.Event(), threading.Event()

    def load() -> None:
        with importing:
            begun.set()
            over.wait(10)

    loader = threading.Thread(target=load)
    loader.start()
    assert begun.wait(10)
    threading.Timer(0.2, over.set).start()
    assert forked(lambda: importing.acquire(timeout=5))
    assert over.is_set()
    loader.join()


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("name", ["file.db", ""])
def test_a_store_without_a_server_is_refused_to_a_child_and_goes_on_for_its_parent(
    tmp_path: Path, name: str, *, asynchronous: bool
) -> None:
    url = f"sqlite:///{tmp_path / name}" if name else "sqlite://"
    reader = OnLoops(url, "") if asynchronous else Blocking(url, "")
    session = reader.create()
    reader.result(reader.send(session))

    def use() -> list[str]:
        codes = []
        for move in (
            reader.create,
            partial(reader.send, session),
            partial(foreign, reader, [session], 0),
        ):
            with pytest.raises(UnsupportedByStore) as caught:
                move()
            assert "fork" in str(caught.value)
            assert caught.value.hint
            codes.append(caught.value.code)
        reader.close()
        return codes

    assert forked(use) == ["unsupported_by_store"] * 3
    assert "[2 before]" in reader.result(reader.send(session))
    reader.close()


def test_a_submission_that_was_cut_by_a_fork_does_not_wait_for_the_parents_thread() -> None:
    pieces = prefetched(iter(range(3)))
    assert next(pieces) == 0

    def go_on() -> str:
        with pytest.raises(BegunBeforeFork) as caught:
            next(pieces)
        return caught.value.code

    assert forked(go_on) == "begun_before_fork"
    assert list(pieces) == [1, 2]


def test_a_child_that_was_forked_out_of_a_running_loop_has_one_of_its_own(
    database_url: str, broker_url: str, sessions: list[SessionId]
) -> None:
    reader = OnLoops(database_url, broker_url)

    async def fork_while_running() -> None:
        assert len(await reader.client.sessions.list()) == SESSIONS
        assert forked(lambda: foreign(reader, sessions, 0)) == []
        assert len(await reader.client.sessions.list()) == SESSIONS
        await reader.client.close()

    asyncio.run(fork_while_running())


def test_coroutines_of_a_child_run_on_a_loop_of_its_own() -> None:
    async def answer() -> int:
        return os.getpid()

    def ask() -> int:
        return asyncio.run_coroutine_threadsafe(answer(), background_loop()).result(timeout=10)

    assert ask() == os.getpid()
    child = Forked(ask)
    assert child.result() == child.pid
    assert ask() == os.getpid()

"""A database that refuses what it is given, and workers with paid replies in their hands."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.chaos.books import Books
from tests.chaos.load import await_calls, await_end, start_turns
from tests.chaos.system import PATIENCE, System

WAIT = PATIENCE.total_seconds()


def test_workers_on_a_database_that_defaults_to_serializable_buy_every_reply_once(
    system: System,
) -> None:
    system.servers.administer(
        f"ALTER DATABASE {system.database} SET default_transaction_isolation = 'serializable'"
    )
    system.launch_worker()
    system.start_worker()
    with system.client() as client:
        lines = [client.sessions.create(user_id="ada").id for _ in range(20)]

        def talk(number: int) -> None:
            for turn in [client.send(line, f"hello {number}") for line in lines]:
                assert turn.result(timeout=WAIT).text

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(talk, range(8)))
    books = Books.of(system)
    assert books.count("succeeded") == len(books.attempts) == len(books.calls) == 160


@pytest.mark.long
def test_replies_in_hand_outlive_connections_that_an_operator_ends_again_and_again(
    system: System, many: int
) -> None:
    system.start_worker(concurrency=many)
    with system.client() as client:
        start_turns(client, many, script={"latency": 3.0})
        await_calls(system, many)
    done = threading.Event()

    def end_connections() -> None:
        with psycopg.connect(system.database_url, autocommit=True) as admin:
            while not done.wait(0.25):  # leases are extended in between
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'turnmill'"
                )

    operator = threading.Thread(target=end_connections)
    operator.start()
    try:
        await_end(system)
    finally:
        done.set()
        operator.join()
    books = Books.of(system)
    assert books.count("succeeded") == len(books.attempts) == len(books.calls) == many

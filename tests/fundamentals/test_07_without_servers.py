"""For tests and small tools: the same client on SQLite or in memory, turns run in this process."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session as OrmSession

from turnmill import Client, TurnDead
from turnmill.testing import memory_client, messages_seen, script

WAIT = 30


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path / 'turnmill.db'}"


def test_a_message_is_answered_without_any_server(url: str) -> None:
    with Client(database_url=url) as client:
        session = client.sessions.create(user_id="ada")
        assert "Hello" in client.send(session, "Hello").result(timeout=WAIT).text


def test_order_and_history_are_kept_without_any_server(url: str) -> None:
    with Client(database_url=url) as client:
        session = client.sessions.create(user_id="ada")
        turns = [client.send(session, str(n)) for n in range(5)]
        replies = [turn.result(timeout=WAIT).text for turn in turns]
    assert [f"[{2 * n} before]" in text for n, text in enumerate(replies)] == [True] * 5


def test_retries_and_dead_letters_work_without_any_server(url: str) -> None:
    with Client(database_url=url) as client:
        session = client.sessions.create(user_id="ada", max_attempts=2)
        turn = client.send(session, "no", metadata={"mock": {"faults": "overloaded"}})
        with pytest.raises(TurnDead):
            turn.result(timeout=WAIT)
        assert len(turn.attempts()) == 2


def test_a_file_is_gone_on_with_by_the_next_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'turnmill.db'}"
    with Client(database_url=url) as client:
        client.sessions.create(user_id="ada", key="ada:notes")
        client.send("ada:notes", "first").result(timeout=WAIT)
    with Client(database_url=url) as client:
        assert "[2 before]" in client.send("ada:notes", "second").result(timeout=WAIT).text


def test_my_own_tests_script_the_mock_provider() -> None:
    with memory_client() as client:
        session = client.sessions.create(user_id="ada")
        client.send(session, "first").result(timeout=WAIT)
        told = script(faults=["overloaded", "ok"], latency=timedelta(seconds=0.01))
        reply = client.send(session, "second", metadata=told).result(timeout=WAIT)
        scripted = client.send(session, "third", metadata=script(reply="as you say"))
        assert messages_seen(reply.text) == 2
        assert len(reply.attempts) == 2
        assert scripted.result(timeout=WAIT).text == "as you say"


def test_a_message_joins_the_transaction_of_an_orm_session(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'turnmill.db'}"
    with Client(database_url=url) as client:
        session = client.sessions.create(user_id="ada")
        with OrmSession(client._executor.database.engine) as mine:
            turn = client.send(session, "from my unit of work", connection=mine)
            mine.commit()
        assert "unit of work" in turn.result(timeout=WAIT).text

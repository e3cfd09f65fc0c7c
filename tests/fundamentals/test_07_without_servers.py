"""For tests and small tools: the same client on SQLite or in memory, turns run in this process."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session as OrmSession

from tests.waiting import until
from turnmill import Client, TurnDead, TurnmillError, tool
from turnmill.testing import async_memory_client, memory_client, messages_seen, script

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


def test_what_is_kept_in_memory_is_gone_with_its_client_and_whoever_asks_is_told_so() -> None:
    with memory_client() as client:
        turn = client.send(client.sessions.create(user_id="ada"), "Hello")
    for verb in (turn.refresh, turn.result, turn.attempts, client.turns.list):
        with pytest.raises(TurnmillError, match="its client was closed") as caught:
            verb()
        assert caught.value.code == "stopped"
        assert "make another" in caught.value.hint
    client.close()

    async def afterwards() -> None:
        async with async_memory_client() as client:
            turn = await client.send(await client.sessions.create(user_id="ada"), "Hello")
        for verb in (turn.refresh, turn.result, turn.attempts, client.turns.list):
            with pytest.raises(TurnmillError, match="its client was closed"):
                await verb()

    asyncio.run(afterwards())


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


@tool(effects="none")
def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


def test_my_own_tools_are_called_in_my_own_tests() -> None:
    told = script(calls=[(weather, {"city": "Rome"})], chunks=["It is ", "{outputs}"])
    with memory_client(tools=[weather]) as client:
        session = client.sessions.create(user_id="ada", tools=[weather])
        turn = client.send(session, "Weather?", metadata=told, stream=True)
        kinds = [str(event.kind) for event in turn.stream(timeout=WAIT)]
        assert kinds.count("tool_call") == kinds.count("tool_output") == 1
        assert turn.result(timeout=WAIT).text == "It is weather: sunny in Rome"


def test_my_own_tests_may_be_asynchronous() -> None:
    async def main() -> str:
        async with async_memory_client(tools=[weather]) as client:
            session = await client.sessions.create(user_id="ada", tools=[weather])
            told = script(calls=[(weather, {"city": "Oslo"})])
            turn = await client.send(session, "Weather?", metadata=told)
            return (await turn.result(timeout=WAIT)).text

    assert "sunny in Oslo" in asyncio.run(main())


def test_work_in_the_background_that_is_cancelled_was_not_for_nothing() -> None:
    with memory_client() as client:
        session = client.sessions.create(user_id="ada")
        for minutes, ends in ((60, "cancelled"), (0, "succeeded")):
            slow = script(faults="running", latency=timedelta(minutes=minutes))
            turn = client.send(session, "Take your time. " * 10, metadata=slow)
            if ends == "cancelled":
                until(lambda: turn.refresh().state == "waiting")  # noqa: B023
                turn.cancel(wait=True)
            else:
                turn.result(timeout=WAIT)
            used = [one for one in turn.attempts() if one.input_tokens]
            assert turn.refresh().state == ends
            assert [one.estimated for one in used] == [ends == "cancelled"]
            assert sum(one.input_tokens or 0 for one in used) == turn.record.input_tokens

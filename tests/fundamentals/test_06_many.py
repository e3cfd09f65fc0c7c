"""Many messages at once: bulk for machines, interactive for people who wait."""

import asyncio

from tests.fundamentals.conftest import System
from turnmill import AsyncClient, Client

WAIT = 120


def test_many_messages_are_accepted_in_one_call(client: Client) -> None:
    sessions = [client.sessions.create(user_id=f"user-{n}") for n in range(50)]
    turns = client.send_many([(session, "to all") for session in sessions])
    assert all(turn.result(timeout=WAIT).text for turn in turns)


def test_several_messages_of_one_session_in_one_call_keep_their_order(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    turns = client.send_many([(session, f"line {n}") for n in range(5)])
    replies = [turn.result(timeout=WAIT).text for turn in turns]
    assert [f"[{2 * n} before]" in text for n, text in enumerate(replies)] == [True] * 5


async def _thousand(system: System) -> int:
    async with AsyncClient(
        database_url=system.database_url, broker_url=system.broker_url
    ) as client:
        sessions = await asyncio.gather(
            *(client.sessions.create(user_id=f"user-{n}") for n in range(1000))
        )
        turns = await asyncio.gather(*(client.send(session, "hi") for session in sessions))
        replies = await asyncio.gather(*(turn.result(timeout=WAIT) for turn in turns))
        return len({reply.turn_id for reply in replies})


def test_a_thousand_sessions_at_once_are_all_answered(system: System) -> None:
    assert asyncio.run(_thousand(system)) == 1000


async def _chat(system: System) -> list[str]:
    async with AsyncClient(
        database_url=system.database_url, broker_url=system.broker_url
    ) as client:
        session = await client.sessions.create(user_id="ada")
        turn = await client.send(session, "Hello from asyncio")
        await turn.result(timeout=WAIT)
        return [message.role async for message in client.sessions.history(session)]


def test_the_async_client_has_the_same_verbs(system: System) -> None:
    assert asyncio.run(_chat(system)) == ["user", "assistant"]

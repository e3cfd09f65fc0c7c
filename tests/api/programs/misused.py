"""A user's program in which every line that ends in a code is refused with it."""

from turnmill import AsyncClient, Client


def on_threads(client: Client) -> None:
    session = client.sessions.create(user_id="ada", temprature=1)  # [call-arg]
    client.sessions.update(session, idle_ttl=60)  # [arg-type]
    client.send(session, "hello", deliver_at="tomorrow")  # [call-overload]
    client.send(session, "hello", idempotency_kee="k")  # [call-overload]
    client.send_many([(session, "hello")], connection=None)  # [call-arg]
    client.batches.create("jobs.jsonl", modle="gpt")  # [call-arg]


async def on_asyncio(client: AsyncClient) -> None:
    session = await client.sessions.create(user_id="ada", max_attempts="3")  # [arg-type]
    await client.send(session, "hello", lane=1)  # [call-overload]
    await client.send_many([(session, b"hello")])  # [list-item]
    await client.lanes.pause(lain="bulk")  # [call-arg]

"""A message is made of parts; a text is a message of one."""

import asyncio

import pytest

from tests import contents
from tests.fundamentals.conftest import System
from turnmill import AsyncClient, Audio, Client, File, Image, Text, UnsupportedPart


def test_a_message_of_several_texts_is_asked_as_one_and_stays_as_it_was_said(
    client: Client,
) -> None:
    session = client.sessions.create(user_id="ada", provider="mock", model="mock")
    said = [Text("Good "), Text("morning")]
    turn, other = client.send(session, said), client.send_many([(session, said)])[0]
    reply = turn.result(timeout=30)
    assert "You said: Good morning" in reply.text
    assert reply.parts == (Text(reply.text),)
    assert "[2 before]" in other.result(timeout=30).text
    asked, replied = turn.messages()
    assert (asked.role, asked.parts, asked.text) == ("user", tuple(said), "Good morning")
    assert (replied.role, replied.parts) == ("assistant", reply.parts)


@pytest.mark.parametrize(
    "part", [one for one in contents.EACH if not isinstance(one, Text | Image | File | Audio)]
)
def test_what_no_provider_can_be_sent_is_refused_at_the_door(client: Client, part: object) -> None:
    session = client.sessions.create(user_id="ada", provider="mock", model="mock")
    with pytest.raises(UnsupportedPart) as caught:
        client.send(session, [Text("Look:"), part])  # type: ignore[list-item]
    assert caught.value.hint
    with pytest.raises(UnsupportedPart):
        client.send_many([(session, "first"), (session, part)])  # type: ignore[list-item]
    assert list(client.sessions.history(session)) == []


async def _said(system: System) -> str:
    async with AsyncClient(
        database_url=system.database_url, broker_url=system.broker_url
    ) as client:
        session = await client.sessions.create(user_id="ada", provider="mock", model="mock")
        with pytest.raises(UnsupportedPart):
            await client.send(session, contents.EACH[-1])
        turn = await client.send(session, Text("Good morning"))
        return (await turn.result(timeout=30)).text


def test_the_asynchronous_client_takes_the_same(system: System) -> None:
    assert "You said: Good morning" in asyncio.run(_said(system))

"""What callers got may be copied and handed on, or says what to hand on in its place."""

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from turnmill import InvalidInput
from turnmill.domain.counting import TokenCount
from turnmill.testing import async_memory_client, memory_client

WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_count_of_tokens_says_in_a_copy_too_whether_it_is_exact(way: str) -> None:
    for exact in (True, False):
        again = WAYS[way](TokenCount(7, exact=exact))
        assert (again, again.exact, type(again)) == (7, exact, TokenCount)


def test_a_copy_of_a_handle_goes_on_with_the_same_client() -> None:
    with memory_client() as client:
        turn = client.send(client.sessions.create(user_id="ada"), "Hello")
        for way in (copy.copy, copy.deepcopy):
            assert way(turn).result(timeout=60).turn_id == turn.id
            assert way(client).turns.get(turn.id).id == turn.id


def test_handles_are_not_pickled_and_say_what_to_hand_on() -> None:
    with memory_client() as client:
        turn = client.send(client.sessions.create(user_id="ada"), "Hello")
        for one in (client, client.sessions, turn):
            refuses_to_be_pickled(one)
        assert pickle.loads(pickle.dumps(turn.result(timeout=60))).turn_id == turn.id

    async def on_a_loop() -> None:
        async with async_memory_client() as client:
            turn = await client.send(await client.sessions.create(user_id="ada"), "Hello")
            refuses_to_be_pickled(turn)
            assert (await copy.deepcopy(turn).result(timeout=60)).turn_id == turn.id

    asyncio.run(on_a_loop())


def refuses_to_be_pickled(one: object) -> None:
    with pytest.raises(InvalidInput, match="not pickled") as caught:
        pickle.dumps(one)
    assert "its id" in caught.value.hint

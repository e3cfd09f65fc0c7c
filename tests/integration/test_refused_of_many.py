"""Of many messages that are sent in one call, the error says which one is wrong, on every store."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from turnmill import Client, SessionArchived, SessionNotFound, TurnmillError

Pairs = list[tuple[Any, Any]]


@pytest.fixture(params=["postgres", "memory"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    url = request.getfixturevalue("database_url") if request.param == "postgres" else "sqlite://"
    with Client(database_url=url) as client:
        for key in ("here", "archived", "answered"):
            client.sessions.create(user_id="ada", key=key)
            client.sessions.pause(key)
        client.send("answered", "one", idempotency_key="k")
        client.sessions.archive("archived")
        yield client


#: The pairs, whether each has a key, which one is wrong, and what is said of it.
WRONG: dict[str, tuple[Pairs, bool, int, str]] = {
    "an unknown id": ([("here", "x"), (UUID(int=5), "x")], False, 1, "1 names no session"),
    "an unknown key": ([("here", "x"), ("nobody", "x")], False, 1, "1 names no session"),
    "an archived one": ([("here", "x"), ("archived", "x")], False, 1, "message 1 is archived"),
    "no session": ([("here", "x"), (5, "x")], False, 1, "message 1: session must be a record"),
    "no text": ([("here", "x"), ("here", "")], False, 1, "message 1: text is empty"),
    "no text, with a key": ([("here", "x"), ("here", 5)], True, 1, "message 1: text must be a str"),
    "another text": ([("here", "x"), ("answered", "two")], True, 1, "message 1 stands for other"),
    "two, of which the session is looked at first": (
        [("here", 5), ("archived", "x")],
        False,
        1,
        "message 1 is archived",
    ),
    "two, with a key": ([("answered", "two"), (UUID(int=5), "x")], True, 0, "message 0 stands"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_error_says_which_message_is_wrong_and_nothing_is_sent(
    client: Client, case: str
) -> None:
    pairs, has_keys, index, told = WRONG[case]
    before = len(client.turns.list())
    with pytest.raises(TurnmillError, match=told) as caught:
        client.send_many(pairs, idempotency_key="k" if has_keys else None)
    assert (caught.value.index, bool(caught.value.hint)) == (index, True)
    assert len(client.turns.list()) == before


def gone(client: Client) -> None:
    client.sessions.delete("here")


@pytest.mark.parametrize(
    ("leave", "error"),
    [(lambda client: client.sessions.archive("here"), None), (gone, SessionNotFound)],
    ids=["archived", "deleted"],
)
def test_sent_again_by_its_key_it_is_found_as_long_as_its_session_is(
    client: Client, leave: Callable[[Client], Any], error: type[TurnmillError] | None
) -> None:
    pairs: Pairs = [(client.sessions.get("here").id, "x")]
    (turn,) = client.send_many(pairs, idempotency_key="again")
    turn.cancel()
    leave(client)
    if error is not None:
        with pytest.raises(error):
            client.send_many(pairs, idempotency_key="again")
        return
    (found,) = client.send_many(pairs, idempotency_key="again")
    assert (found.id, found.created) == (turn.id, False)
    assert client.send(*pairs[0], idempotency_key="again").id == turn.id
    with pytest.raises(SessionArchived):
        client.send_many(pairs, idempotency_key="another")

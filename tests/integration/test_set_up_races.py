"""What is set up by many at once, and removed meanwhile, is one of both, and no error of ours."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.crowd import DEADLINE, at_once, until_blocked
from turnmill import Client, TurnmillError
from turnmill.domain.errors import StoreError
from turnmill.store.line import pauses

ROUNDS = 25


@pytest.fixture
def client(database_url: str) -> Iterator[Client]:
    with Client(database_url=database_url) as client:
        yield client


def test_of_two_who_pause_a_lane_at_once_one_has_done_it(client: Client) -> None:
    store = client._executor.database
    with ThreadPoolExecutor(1) as other:
        with store.begin() as conn:
            assert pauses.pause(conn, kind=pauses.LANE, name="bulk")
            second = other.submit(client.lanes.pause, lane="bulk")
            until_blocked(store)
        assert second.result(timeout=DEADLINE) is False
    assert client.lanes.paused().lanes == {"bulk"}


#: What makes one, and what removes it.
PAIRS: dict[str, tuple[Callable[[Client, int], Any], Callable[[Client], Any]]] = {
    "a template": (
        lambda client, n: client.templates.put("support", model=f"model-{n}"),
        lambda client: client.templates.remove("support"),
    ),
    "a budget": (
        lambda client, n: client.budgets.set(limit_usd=n + 1, user_id="ada"),
        lambda client: client.budgets.remove(user_id="ada"),
    ),
    "a pause": (
        lambda client, _: client.lanes.pause(lane="bulk"),
        lambda client: client.lanes.resume(lane="bulk"),
    ),
    "a limit": (
        lambda client, n: client.limits.set(provider="mock", concurrent=n + 1),
        lambda client: client.limits.remove(provider="mock"),
    ),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_who_sets_up_what_another_removes_is_told_of_nothing_but_that(
    client: Client, kind: str
) -> None:
    make, remove = PAIRS[kind]
    for n in range(ROUNDS):
        make(client, n)
        made, again, _ = at_once(
            lambda n=n: make(client, n + 1),  # type: ignore[misc]
            lambda n=n: make(client, n + 2),  # type: ignore[misc]
            lambda: remove(client),
        )
        for found in (made, again):
            assert not isinstance(found, Exception), found
    for found in at_once(*[lambda: remove(client)] * 3):
        assert not isinstance(found, StoreError)
        assert not isinstance(found, Exception) or isinstance(found, TurnmillError)

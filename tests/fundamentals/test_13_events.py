"""What happens to turns is written down, and can be read in order, by whoever keeps his place."""

from itertools import islice
from typing import Any

import pytest

from turnmill import Client
from turnmill.settings import Settings
from turnmill_worker.observers import Event, Observer

TOLD: list[Event] = []


def note() -> Observer:
    """Make an observer; TURNMILL_OBSERVERS of a worker names such a function."""

    async def observer(event: Event) -> None:
        TOLD.append(event)

    return observer


@pytest.fixture
def told() -> list[Event]:
    TOLD.clear()
    return TOLD


def of(event: Event) -> tuple[Any, ...]:
    return (event.kind, event.turn_id, event.n)


def test_an_observer_is_told_of_every_ending_in_the_order_of_its_session(
    told: list[Event],
) -> None:
    settings = Settings(database_url="sqlite://", observers=f"note={__name__}:note")
    with Client(settings=settings) as client:
        session = client.sessions.create(user_id="ada")
        first = client.send(session, "one")
        first.result(timeout=20)
        client.sessions.pause(session)
        second = client.send(session, "two")
        second.cancel()
    assert [of(event) for event in told] == [
        ("turn.succeeded", first.id, 1),
        ("turn.cancelled", second.id, 2),
    ]


def test_an_application_reads_on_from_where_it_was(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock")
    turns = [client.send(session, text) for text in ("one", "two")]
    turns[-1].result(timeout=30)
    # A reader that looks at this very moment may still be putting them into their places.
    first, second = islice(client.events.follow(session=session, timeout=30), 2)
    assert [first.turn_id, second.turn_id] == [turn.id for turn in turns]
    assert client.events.read(session=session, after=first.place) == [second]
    assert client.events.read(session=session, after=second.place) == []


def test_for_a_reader_events_are_kept_until_it_has_passed_them(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock")
    client.send(session, "one").result(timeout=30)
    client.events.add_reader("billing")
    seen = next(iter(client.events.follow(reader="billing", session=session)))
    # We were not done with it: the next one was never asked for.
    again = list(client.events.follow(reader="billing", session=session, timeout=0))
    assert again == [seen]
    client.events.remove_reader("billing")

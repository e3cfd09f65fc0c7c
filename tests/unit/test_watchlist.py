"""The list of those who wait: when it asks, whom it wakes, and when nobody is left."""

import threading
from uuid import UUID

from turnmill.domain.ids import TurnId
from turnmill.listening.notices import Notice, notice_of
from turnmill.listening.watchlist import ASKED_AT_ONCE, IDLE_SECONDS, Watchlist

ONE, OTHER = TurnId(UUID(int=1)), TurnId(UUID(int=2))


class Heard:
    """A notification as the driver gives it."""

    channel = "turnmill_settled"

    def __init__(self, payload: str) -> None:
        self.payload = payload


def waiting_for(*turn_ids: TurnId) -> tuple[Watchlist[threading.Event], list[threading.Event]]:
    watchlist = Watchlist[threading.Event]()
    events = [threading.Event() for _ in turn_ids]
    for turn_id, event in zip(turn_ids, events, strict=True):
        watchlist.add(turn_id, event)
    return watchlist, events


def test_all_who_wait_for_a_turn_are_woken_and_nobody_else() -> None:
    watchlist, events = waiting_for(ONE, OTHER, ONE)
    watchlist.wake([ONE])
    assert [event.is_set() for event in events] == [True, False, True]


def test_who_waits_no_more_is_not_woken_and_those_beside_are() -> None:
    watchlist, (first, second) = waiting_for(ONE, ONE)
    watchlist.remove(ONE, first)
    watchlist.wake([ONE, OTHER])
    assert (first.is_set(), second.is_set()) == (False, True)


def test_the_store_is_asked_at_once_and_then_from_time_to_time() -> None:
    watchlist, _ = waiting_for(ONE)
    watchlist.began(10.0)
    assert list(watchlist.to_ask(10.0, every=1.0)) == [[ONE]]
    assert list(watchlist.to_ask(10.9, every=1.0)) == []
    assert list(watchlist.to_ask(11.0, every=1.0)) == [[ONE]]


def test_thousands_are_asked_about_in_chunks() -> None:
    watchlist, _ = waiting_for(*(TurnId(UUID(int=n)) for n in range(ASKED_AT_ONCE + 1)))
    assert [len(chunk) for chunk in watchlist.to_ask(0.0, every=1.0)] == [ASKED_AT_ONCE, 1]


def test_a_list_is_idle_when_nobody_has_waited_for_a_while() -> None:
    watchlist, (event,) = waiting_for(ONE)
    watchlist.began(0.0)
    assert not watchlist.is_idle(IDLE_SECONDS * 2)
    watchlist.remove(ONE, event)
    assert not watchlist.is_idle(IDLE_SECONDS * 3 - 0.1)
    assert watchlist.is_idle(IDLE_SECONDS * 3)


def test_a_notice_names_turns_and_what_is_no_id_is_left_out() -> None:
    assert notice_of(Heard(f"{ONE},,no id,{OTHER}")) == Notice("turnmill_settled", [ONE, OTHER])
    assert notice_of(Heard("")).turn_ids == []

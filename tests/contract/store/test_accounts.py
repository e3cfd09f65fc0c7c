"""What is closed for all workers: until when, who may try it, and who may open it."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from turnmill.domain.closing import wait_for
from turnmill.domain.ids import TurnId
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns import events
from turnmill.store.nouns.accounts import (
    ACCOUNT,
    BREAKER,
    AccountKey,
    Closed,
    close,
    give_probe_back,
    list_closed,
    open_again,
    probe,
    read_closed,
)
from turnmill.store.schema.limit_tables import accounts
from turnmill.store.types import db_after

KEY = AccountKey(kind=ACCOUNT, provider="mock", account="ab12", model="m")
MINUTE = timedelta(minutes=1)


def closed(store: Database, wait: timedelta = MINUTE, **options: Any) -> Closed:
    with store.begin() as conn:
        return close(conn, KEY, wait=lambda _: wait, code="rate_limited", **options)


def tried(store: Database, owner: str = "one", n: int = 1, lease: timedelta = MINUTE) -> bool:
    with store.begin() as conn:
        return probe(conn, KEY, n=n, owner=owner, lease=lease)


def opened(store: Database, seen: int | None = None) -> bool:
    with store.begin() as conn:
        return open_again(conn, KEY, seen=seen)


def time_has_come(store: Database) -> None:
    with store.begin() as conn:
        conn.execute(update(accounts).values(closed_until=db_after(-1.0)))


def read(store: Database) -> list[Closed]:
    with store.begin() as conn:
        return read_closed(conn)


def test_what_one_worker_closes_is_closed_for_all(store: Database) -> None:
    turn_id = TurnId(new_id())
    closed(store, turn_id=turn_id)
    (found,) = read(store)
    assert (found.key, found.code, found.permanent) == (KEY, "rate_limited", False)
    assert timedelta(seconds=55) < found.left <= MINUTE
    with store.begin() as conn:
        (record,) = list_closed(conn)
    assert (record.turn_id, record.model, record.times) == (turn_id, "m", 1)


def test_a_call_that_was_in_flight_closes_it_for_no_less(store: Database) -> None:
    first = closed(store)
    again = closed(store, timedelta(seconds=1))
    assert again.n == first.n
    assert again.left > timedelta(seconds=55)
    assert closed(store, timedelta(minutes=5)).left > timedelta(minutes=4)


def test_nobody_tries_it_before_its_time(store: Database) -> None:
    closed(store)
    assert not tried(store)


def test_one_tries_it_and_no_other(store: Database) -> None:
    closed(store)
    time_has_come(store)
    assert tried(store, "one")
    assert not tried(store, "two")
    assert tried(store, "one"), "whoever tries it says so again"


def test_another_one_tries_it_when_the_first_is_gone(store: Database) -> None:
    closed(store)
    time_has_come(store)
    assert tried(store, "one", lease=timedelta(seconds=-1))
    assert tried(store, "two")


def test_another_one_tries_it_when_the_first_has_learned_nothing(store: Database) -> None:
    closed(store)
    time_has_come(store)
    assert tried(store, "one")
    with store.begin() as conn:
        give_probe_back(conn, KEY, n=1, owner="one")
    assert tried(store, "two")


def test_a_try_that_fails_closes_it_for_longer(store: Database) -> None:
    def wait(times: int) -> timedelta:
        return wait_for(None, times=times, permanent=False)

    found = []
    for n in range(4):
        with store.begin() as conn:
            found.append(close(conn, KEY, wait=wait, code="rate_limited", seen=n))
        time_has_come(store)
    assert [one.n for one in found] == [1, 2, 3, 4]
    assert [round(one.left.total_seconds()) for one in found] == [1, 2, 4, 8]


def test_one_that_answers_most_and_refuses_now_and_then_is_never_closed_for_long(
    store: Database,
) -> None:
    times = []
    for answered in (0, 0, 0, 200, 9, 19, 30):
        n = closed(store, answered=answered).n
        with store.begin() as conn:
            times += [one.times for one in list_closed(conn)]
        assert opened(store, seen=n)
    assert times == [1, 2, 3, 1, 2, 2, 1]


def test_answers_of_before_it_was_closed_make_no_failed_try_a_good_one(store: Database) -> None:
    closed(store)
    closed(store, seen=1, answered=1000)
    with store.begin() as conn:
        assert [one.times for one in list_closed(conn)] == [2]


def test_a_try_that_succeeds_opens_it_unless_it_was_closed_again(store: Database) -> None:
    closed(store)
    closed(store, seen=1)
    assert not opened(store, seen=1)
    assert len(read(store)) == 1
    assert opened(store, seen=2)
    assert read(store) == []
    assert not opened(store)


def test_what_is_opened_by_hand_begins_anew(store: Database) -> None:
    closed(store)
    closed(store, seen=1)
    assert opened(store)
    closed(store)
    with store.begin() as conn:
        assert [one.times for one in list_closed(conn)] == [1]


def test_closing_and_opening_are_events_of_the_account(store: Database) -> None:
    turn_id = TurnId(new_id())
    closed(store, turn_id=turn_id)
    closed(store)
    opened(store)
    with store.begin() as conn:
        found = events.page(conn, None, limit=10).events
    assert [(one.kind, one.session_id, one.turn_id, one.n) for one in found] == [
        ("account.closed", KEY.id, turn_id, 1),
        ("account.opened", KEY.id, turn_id, 2),
    ]


def test_a_key_that_is_refused_for_good_is_told_though_it_was_closed_for_a_while(
    store: Database,
) -> None:
    closed(store)
    assert closed(store, permanent=True).permanent
    with store.begin() as conn:
        kinds = [one.kind for one in events.page(conn, None, limit=10).events]
    assert kinds == ["account.closed", "account.closed"]


def test_a_breaker_writes_no_event_of_an_account(store: Database) -> None:
    key = AccountKey(kind=BREAKER, provider="mock", model="m")
    with store.begin() as conn:
        close(conn, key, wait=lambda _: MINUTE, code="hangs")
        open_again(conn, key)
        assert events.page(conn, None, limit=10).events == []


@pytest.mark.parametrize("other", [{"provider": "x"}, {"account": "y"}, {"model": "z"}])
def test_no_two_of_them_are_the_same(other: dict[str, str]) -> None:
    known = {"kind": ACCOUNT, "provider": "mock", "account": "ab12", "model": "m"}
    assert AccountKey(**{**known, **other}).id != KEY.id

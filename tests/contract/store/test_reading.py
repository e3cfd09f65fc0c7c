"""Of all who would read for a reader one does, and who has lost that moves nothing."""

from datetime import timedelta

import pytest

from tests import rows, steps
from turnmill.domain.ids import TurnId
from turnmill.store.database import Database
from turnmill.store.nouns import event_log, events, reading
from turnmill.store.nouns.events import Event, Share
from turnmill.store.nouns.reading import Hold

pytestmark = pytest.mark.usefixtures("sound")

LONG, OVER = timedelta(minutes=1), timedelta(0)


def take(store: Database, owner: str, *, lease: timedelta = LONG) -> Hold | None:
    with store.begin() as conn:
        return reading.hold(conn, "one", owner=owner, lease=lease)


def taken(store: Database, owner: str, *, lease: timedelta = LONG) -> Hold:
    hold = take(store, owner, lease=lease)
    assert hold is not None
    return hold


def read(store: Database, hold: Hold) -> list[Event] | None:
    with store.begin() as conn:
        page = reading.read(conn, hold, limit=100, lease=LONG)
    return None if page is None else page.events


def passed(store: Database, hold: Hold, event: Event) -> bool:
    with store.begin() as conn:
        return reading.passed(conn, hold, event, lease=LONG)


def found(store: Database, hold: Hold) -> list[Event]:
    events_read = read(store, hold)
    assert events_read is not None
    return events_read


def state(store: Database) -> events.EventReader:
    with store.begin() as conn:
        (reader,) = events.readers(conn)
    return reader


def answered(store: Database, count: int = 3) -> list[TurnId]:
    line = rows.start(store)
    sent = [steps.send(store, line).turn_id for _ in range(count)]
    for turn in sent:
        steps.answer(store, turn)
    return sent


def test_one_process_holds_a_reader_until_it_gives_it_back_or_its_lease_is_over(
    store: Database,
) -> None:
    first = taken(store, "a")
    assert (take(store, "b"), take(store, "a")) == (None, None)
    with store.begin() as conn:
        reading.give_back(conn, first)
    assert taken(store, "b", lease=OVER).fence > first.fence
    assert taken(store, "c").tries == 1


def test_who_was_late_reads_and_moves_nothing(store: Database) -> None:
    sent = answered(store)
    late = taken(store, "a", lease=OVER)
    (first, *_) = found(store, late)
    with store.begin() as conn:
        reading.free_all(conn)
    holder = taken(store, "b")
    assert read(store, late) is None
    assert not passed(store, late, first)
    with store.begin() as conn:
        assert not reading.extend(conn, late, lease=OVER)
        assert not reading.failed(conn, late, tries=1, again=OVER)
        assert not reading.park(conn, late, because="ValueError")
        assert not reading.skip(conn, late, first.place)
        reading.give_back(conn, late)
    assert take(store, "c") is None
    assert [one.turn_id for one in found(store, holder)] == sent
    assert (state(store).tries, state(store).parked) == (0, False)


def test_nothing_is_read_where_nothing_waits(store: Database) -> None:
    hold = taken(store, "a")
    with store.begin() as conn:
        assert not reading.waits(conn, hold)
    answered(store, 1)
    with store.begin() as conn:
        assert reading.waits(conn, hold)
    (event,) = found(store, hold)
    with store.begin() as conn:
        assert reading.waits(conn, hold)
        assert reading.passed(conn, hold, event, lease=LONG)
        assert not reading.waits(conn, hold)


def test_tries_at_what_comes_next_are_counted_until_it_is_passed(
    store: Database,
) -> None:
    answered(store)
    for owner in "aab":  # "a" comes again: nothing was lost with it
        first = taken(store, owner, lease=OVER)
    assert first.tries == 1
    with store.begin() as conn:
        assert reading.failed(conn, first, tries=2, again=OVER)
    hold = taken(store, "c")
    assert hold.tries == state(store).tries == 2
    one, two, three = found(store, hold)
    assert passed(store, hold, one)
    assert (state(store).tries, state(store).behind) == (0, 2)
    assert passed(store, hold, two)
    assert found(store, hold) == [three]


def test_a_reader_that_failed_is_left_alone_for_a_while(store: Database) -> None:
    hold = taken(store, "a")
    with store.begin() as conn:
        assert reading.failed(conn, hold, tries=1, again=LONG)
    assert (take(store, "a"), take(store, "b")) == (None, None)


def test_a_reader_that_is_parked_is_held_by_nobody(store: Database) -> None:
    with store.begin() as conn:
        events.add_reader(conn, "one")
        events.park_reader(conn, "one")
    assert take(store, "b") is None


def test_a_reader_that_failed_is_parked_its_events_are_kept_and_it_goes_on_where_it_was(
    store: Database,
) -> None:
    answered(store)
    hold = taken(store, "a")
    with store.begin() as conn:
        assert reading.park(conn, hold, because="ValueError")
    assert take(store, "b") is None
    assert (state(store).parked, state(store).parked_because) == (True, "ValueError")
    with store.begin() as conn:
        assert event_log.prune(conn) == 0
        events.park_reader(conn, "one", parked=False)
    assert len(found(store, taken(store, "b"))) == 3
    assert state(store).parked_because is None


def test_events_are_not_kept_for_a_reader_that_somebody_has_parked(store: Database) -> None:
    answered(store)
    found(store, taken(store, "a"))
    with store.begin() as conn:
        events.park_reader(conn, "one")
        assert event_log.prune(conn) == 3


@pytest.mark.parametrize("parts", [2, 16])
def test_parts_of_a_reader_have_every_event_once_and_each_session_is_one_parts(
    parts: int, store: Database
) -> None:
    lines = [rows.start(store) for _ in range(12)]
    for line in [*lines, *lines]:
        steps.answer(store, steps.send(store, line).turn_id)
    told = []
    for part in range(parts):
        with store.begin() as conn:
            page = events.page(conn, None, share=Share(part=part, parts=parts), limit=100)
        told.append({(one.session_id, one.n) for one in page.events})
    assert sum(map(len, told)) == len(set().union(*told)) == 24
    owners = [{one for one, _ in some} for some in told]
    assert sum(map(len, owners)) == 12

"""Readers of events miss nothing, keep each session's order, and are told of what they missed."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import update

from tests import rows, steps
from turnmill.cli.doctor.findings import Examination
from turnmill.cli.doctor.parts import check_events
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import SessionId, TurnId
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.nouns import event_log, events, sessions
from turnmill.store.schema.event_tables import event_readers

pytestmark = pytest.mark.usefixtures("sound")


def add(store: Database, *names: str) -> None:
    with store.begin() as conn:
        for name in names:
            events.add_reader(conn, name)


def read(store: Database, name: str = "one", *, limit: int = 500) -> list[events.Event]:
    """Read as readers do, and be done with it."""
    with store.begin() as conn:
        found = events.read(conn, name, limit=limit)
    with store.begin() as conn:
        for event in found:
            events.passed(conn, name, event)
    return found


def prune(store: Database, **bounds: int) -> int:
    with store.begin() as conn:
        return event_log.prune(conn, **bounds)


def park(store: Database, name: str, *, parked: bool = True) -> None:
    with store.begin() as conn:
        events.park_reader(conn, name, parked=parked)


def answered(store: Database, *lines: SessionId) -> list[TurnId]:
    sent = [steps.send(store, line).turn_id for line in lines]
    for turn in sent:
        steps.answer(store, turn)
    return sent


def turns_of(found: Sequence[events.Event]) -> list[TurnId | None]:
    return [one.turn_id for one in found]


def test_each_reader_reads_all_in_the_order_of_each_session(store: Database) -> None:
    add(store, "one", "two")
    lines = [rows.start(store) for _ in range(3)]
    answered(store, *lines, *lines)
    first = [*read(store, limit=1), *read(store, limit=2)]
    more = answered(store, *lines)
    found = [*first, *read(store), *read(store)]
    for line, last in zip(lines, more, strict=True):
        mine = [one for one in found if one.session_id == line]
        assert [one.n for one in mine] == [1, 2, 3]
        assert mine[-1].turn_id == last
    assert len(found) == 9
    assert read(store, "two") == found


def page(store: Database, after: int | None = None, **wanted: Any) -> events.Page:
    with store.begin() as conn:
        return events.page(conn, after, **{"limit": 100} | wanted)


def test_who_keeps_a_place_himself_reads_on_from_there(store: Database) -> None:
    lines = [rows.start(store) for _ in range(2)]
    sent = answered(store, *lines * 3)
    first = page(store, limit=4)
    rest = page(store, first.upto)
    assert set(turns_of([*first.events, *rest.events])) == set(sent)
    assert page(store, rest.upto) == events.Page(events=[], upto=rest.upto)
    assert page(store).events == [*first.events, *rest.events]


def test_what_is_read_can_be_that_of_a_session_or_a_kind(store: Database) -> None:
    one, two = rows.start(store), rows.start(store)
    sent = answered(store, one, two, one)
    cancelled = steps.send(store, two).turn_id
    steps.cancel(store, cancelled)
    assert turns_of(page(store, session_id=one).events) == sent[::2]
    found = page(store, share=events.Share(kinds=["turn.cancelled"]))
    assert (turns_of(found.events), found.upto) == ([cancelled], 4)
    first = page(store, share=events.Share(kinds=["turn.succeeded"]), limit=1)
    rest = page(store, first.upto, share=events.Share(kinds=["turn.succeeded"]))
    assert len(rest.events) == 2


def test_who_keeps_a_place_that_is_gone_finds_a_gap_and_who_begins_does_not(
    store: Database,
) -> None:
    line = rows.start(store)
    answered(store, line, line)
    page(store)
    assert prune(store) == 2
    answered(store, line)
    gap, event = page(store, 1, share=events.Share(kinds=["turn.succeeded"])).events
    assert (gap.kind, gap.n, gap.place, event.n) == ("gap", 1, 2, 3)
    assert [one.n for one in page(store).events] == [3]


def test_what_was_not_passed_is_read_again(store: Database) -> None:
    add(store, "one")
    sent = answered(store, *[rows.start(store)] * 3)
    with store.begin() as conn:
        first, *_ = events.read(conn, "one")
        events.passed(conn, "one", first)
    assert turns_of(read(store)) == sent[1:]


def test_a_reader_that_nobody_added_is_refused(store: Database) -> None:
    with pytest.raises(InvalidInput), store.begin() as conn:
        events.read(conn, "nobody")


def test_events_are_kept_until_every_reader_has_passed(store: Database) -> None:
    add(store, "one", "two")
    sent = answered(store, *[rows.start(store)] * 4)
    read(store)
    assert prune(store) == 0
    read(store, "two", limit=3)
    assert (prune(store, limit=2), prune(store, limit=2)) == (2, 1)
    assert turns_of(read(store, "two")) == sent[3:]


def test_without_a_reader_nothing_is_kept(store: Database) -> None:
    answered(store, *[rows.start(store)] * 3)
    assert [prune(store, limit=2), prune(store, limit=2), prune(store)] == [2, 1, 0]
    add(store, "late")
    assert read(store, "late") == []


def test_a_reader_that_is_too_far_behind_is_told_how_many_it_missed(store: Database) -> None:
    add(store, "one")
    sent = answered(store, *[rows.start(store)] * 5)
    assert prune(store, most_kept=2) == 3
    gap, *rest = read(store)
    assert (gap.kind, gap.n, gap.session_id) == ("gap", 3, None)
    assert turns_of(rest) == sent[3:]
    assert read(store) == []
    with store.begin() as conn:
        (reader,) = events.readers(conn)
    assert (reader.missed, reader.behind, reader.missed_at is None) == (3, 0, False)


@pytest.mark.parametrize("others", [["two"], []], ids=["with others", "alone"])
def test_a_reader_that_is_parked_holds_nothing_up_and_finds_a_gap(
    store: Database, others: list[str]
) -> None:
    add(store, "one", *others)
    line = rows.start(store)
    answered(store, line, line)
    read(store, limit=1)
    park(store, "one")
    answered(store, line)
    for name in others:
        read(store, name)
    assert prune(store) == 3
    park(store, "one", parked=False)
    (last,) = answered(store, line)
    gap, event = read(store)
    assert (gap.kind, gap.n) == ("gap", 2)
    assert (event.turn_id, event.n) == (last, 4)


def test_what_happened_in_a_session_is_read_when_that_is_gone(store: Database) -> None:
    add(store, "one")
    line = rows.start(store)
    sent = answered(store, line)
    with store.begin() as conn:
        sessions.remove(conn, line)
    assert turns_of(read(store)) == sent


@pytest.mark.parametrize(
    ("most_kept", "level", "what"),
    [
        (10, "ok", "reader one of events: 4 events behind"),
        (1, "wrong", "reader one of events: 4 events behind; 3 events were gone before it read"),
    ],
)
def test_doctor_says_whether_a_reader_has_missed_events(
    store: Database, most_kept: int, level: str, what: str
) -> None:
    add(store, "one")
    answered(store, *[rows.start(store)] * 4)
    prune(store, most_kept=most_kept)
    assert_doctor_says(store, level, what)


@pytest.mark.parametrize(
    ("tries", "because", "level", "what"),
    [
        (3, None, "ok", "reader one of events: 0 events behind"),
        (4, None, "wrong", "reader one of events: 0 events behind; it has failed 4 times in a row"),
        (
            9,
            "timeout",
            "wrong",
            "reader one of events: 0 events behind; parked, since it could not",
        ),
    ],
)
def test_doctor_says_whether_an_observer_fails_or_was_not_told(
    store: Database, tries: int, because: str | None, level: str, what: str
) -> None:
    add(store, "one")
    with store.begin() as conn:
        parked = because is not None
        values = {"tries": tries, "parked": parked, "parked_because": because}
        conn.execute(update(event_readers).values(values))
    assert_doctor_says(store, level, what)


def assert_doctor_says(store: Database, level: str, what: str) -> None:
    examination = Examination(settings=Settings(database_url="sqlite://"), environ={})
    examination.database = store
    (found,) = check_events(examination)
    assert found.level == level
    assert found.what.startswith(what)

"""Schedules over every store: one run for each moment, in the commit that moves the schedule on."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from tests import rows, steps
from tests.store_errors import PASSING, raising
from turnmill.domain.content import Text
from turnmill.domain.crons import Missed
from turnmill.domain.errors import (
    Conflict,
    DataKeyMissing,
    InvalidInput,
    MoveRefused,
    ScheduleNotFound,
    SessionArchived,
    SessionNotFound,
    Unstorable,
)
from turnmill.domain.ids import SessionId
from turnmill.domain.states import Lane, SessionStatus
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.line.accept_many import accept_many
from turnmill.store.nouns import schedules, sessions, turns
from turnmill.store.schedule_records import NewSchedule, Schedule
from turnmill.store.schema.schedule_tables import schedules as table
from turnmill.store.turn_records import TurnRecord
from turnmill.store.upkeep.retention import archive_idle
from turnmill.store.upkeep.standstill import broken_schedules
from turnmill_worker.process import scheduling
from turnmill_worker.process.scheduling import make_runs

HOUR = timedelta(hours=1)
pytestmark = pytest.mark.usefixtures("sound")


def plan(**given: Any) -> NewSchedule:
    values: dict[str, Any] = {
        "id": new_id(),
        "key": None,
        "parts": (Text("Good morning."),),
        "cron": "0 * * * *",
        "at": None,
        "timezone": "UTC",
        "until": None,
        "missed": Missed.ONCE,
        "lane": Lane.INTERACTIVE,
        "metadata": {"by": "plan"},
        "max_attempts": None,
        "max_cost_usd": None,
    }
    if "at" in given:
        values["cron"] = None
    return NewSchedule(**values | given)


def create(store: Database, session: SessionId, **given: Any) -> Schedule:
    with store.begin() as conn:
        return schedules.create(conn, session, plan(**given))


def get(store: Database, schedule: Schedule) -> Schedule:
    with store.begin() as conn:
        return schedules.get(conn, schedule.id)


def set_back(store: Database, schedule: Schedule, *, hours: int) -> datetime:
    """Let it have been due so many full hours ago, and return that moment."""
    moment = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - hours * HOUR
    with store.begin() as conn:
        conn.execute(update(table).where(table.c.id == schedule.id).values(next_at=moment))
    return moment


def turns_of(store: Database, session: SessionId) -> Sequence[TurnRecord]:
    with store.begin() as conn:
        return turns.find(conn, session_id=session)[::-1]


def test_a_run_is_an_ordinary_turn_with_the_key_of_its_moment(store: Database) -> None:
    session = rows.start(store)
    made = create(store, session, max_attempts=2, lane=Lane.BULK)
    assert made.next_at is not None and made.next_at > datetime.now(UTC)
    assert make_runs(store) == []
    moment = set_back(store, made, hours=0)
    (head,) = make_runs(store)
    (turn,) = turns_of(store, session)
    assert (head.turn_id, head.lane) == (turn.id, Lane.BULK)
    assert turn.idempotency_key == f"schedule:{made.id}:{moment:%Y-%m-%dT%H:%M:%SZ}"
    assert (turn.max_attempts, turn.metadata) == (2, {"by": "plan"})
    now = get(store, made)
    assert (now.runs, now.last_at, now.last_turn_id) == (1, moment, turn.id)
    assert now.next_at == moment + HOUR
    claim = steps.take_one(store, turn.id)
    assert claim.messages[0].text == "Good morning."


@pytest.mark.parametrize(
    ("missed", "runs", "skipped"), [(Missed.SKIP, 0, 3), (Missed.ONCE, 1, 2), (Missed.ALL, 3, 0)]
)
def test_runs_that_were_missed_are_left_out_stood_for_or_made_up_for(
    store: Database, missed: Missed, runs: int, skipped: int
) -> None:
    session = rows.start(store)
    made = create(store, session, cron="0 0 1 1 *", missed=missed)
    first = datetime(datetime.now(UTC).year - 2, 1, 1, tzinfo=UTC)
    with store.begin() as conn:
        conn.execute(update(table).where(table.c.id == made.id).values(next_at=first))
    make_runs(store)
    now = get(store, made)
    assert (now.runs, now.skipped) == (runs, skipped)
    assert len(turns_of(store, session)) == runs
    assert now.next_at is not None and now.next_at > datetime.now(UTC)


def test_whoever_looks_at_once_there_is_one_run_for_a_moment(store: Database) -> None:
    session = rows.start(store)
    made = [create(store, session, missed=Missed.ALL) for _ in range(3)]
    for one in made:
        set_back(store, one, hours=4)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: make_runs(store), range(16)))
    make_runs(store)
    keys = [turn.idempotency_key for turn in turns_of(store, session)]
    assert len(keys) == len(set(keys)) == 15
    assert {get(store, one).runs for one in made} == {5}


def test_what_a_process_had_not_committed_is_done_by_the_next_one(store: Database) -> None:
    session = rows.start(store)
    made = create(store, session)
    moment = set_back(store, made, hours=0)
    with store.begin() as conn:
        assert schedules.run(conn, made.id)
        conn.rollback()
    assert turns_of(store, session) == []
    assert get(store, made).next_at == moment
    make_runs(store)
    assert len(turns_of(store, session)) == 1


def test_a_message_for_later_is_sent_once_and_holds_nothing_up(store: Database) -> None:
    session = rows.start(store)
    made = create(store, session, at=datetime.now(UTC) + HOUR)
    assert made.next_runs() == [made.at]
    rows.run(store, rows.send(store, session))
    set_back(store, made, hours=0)
    make_runs(store)
    make_runs(store)
    now = get(store, made)
    assert (now.runs, now.is_over, now.next_runs()) == (1, True, [])
    assert len(turns_of(store, session)) == 2
    with pytest.raises(MoveRefused), store.begin() as conn:
        schedules.pause(conn, made.id)


def test_until_is_the_last_moment(store: Database) -> None:
    session = rows.start(store)
    made = create(store, session, until=datetime.now(UTC) + 90 * timedelta(minutes=1))
    moment = set_back(store, made, hours=0)
    with store.begin() as conn:
        conn.execute(update(table).where(table.c.id == made.id).values(until=moment))
    make_runs(store)
    assert (get(store, made).runs, get(store, made).is_over) == (1, True)
    with pytest.raises(InvalidInput):
        create(store, session, cron="0 0 1 1 *", until=datetime.now(UTC))


def test_what_goes_by_while_it_is_paused_was_not_missed(store: Database) -> None:
    session = rows.start(store)
    made = create(store, session, missed=Missed.ALL)
    set_back(store, made, hours=5)
    with store.begin() as conn:
        assert schedules.pause(conn, made.id).next_at is None
    make_runs(store)
    with store.begin() as conn:
        again = schedules.resume(conn, made.id)
    assert again.next_at is not None and again.next_at > datetime.now(UTC)
    make_runs(store)
    assert (turns_of(store, session), get(store, made).skipped) == ([], 0)


@pytest.mark.parametrize("error_code", [None, "unstorable"])
def test_the_only_moment_of_one_that_was_paused_is_over_unless_an_error_had_paused_it(
    store: Database, error_code: str | None
) -> None:
    session = rows.start(store)
    made = create(store, session, at=datetime.now(UTC).replace(microsecond=0) - HOUR)
    with store.begin() as conn:
        if error_code is None:
            schedules.pause(conn, made.id)
        else:
            schedules.put_off(conn, made.id, error_code=error_code)
        again = schedules.resume(conn, made.id)
    assert again.is_over == (error_code is None)
    make_runs(store)
    assert (get(store, made).runs, get(store, made).skipped) == (int(error_code is not None), 0)
    with store.begin() as conn:  # another moment can be named all the same
        schedules.change(conn, made.id, {"at": datetime.now(UTC).replace(microsecond=0)})
    assert len(make_runs(store)) == int(error_code is None)
    assert len(turns_of(store, session)) == 1 + int(error_code is not None)


def test_an_archived_session_lets_moments_go_by_and_says_why(store: Database) -> None:
    session = rows.start(store)
    made = create(store, session)
    with store.begin() as conn:
        sessions.archive(conn, session)
    set_back(store, made, hours=0)
    make_runs(store)
    now = get(store, made)
    assert (now.runs, now.skipped, now.error_code) == (0, 1, "session_archived")
    rows.set_session(store, session, status=SessionStatus.ACTIVE, archived_at=None)
    set_back(store, made, hours=0)
    make_runs(store)
    now = get(store, made)
    assert (now.runs, now.error_code) == (1, None)
    rows.set_session(store, session, status=SessionStatus.ARCHIVED)
    with pytest.raises(SessionArchived):
        create(store, session)


def test_a_session_with_a_run_to_come_is_not_idle(store: Database) -> None:
    planned, idle = rows.start(store), rows.start(store)
    made = create(store, planned, at=datetime.now(UTC) + timedelta(days=90))
    with store.begin() as conn:
        for one in (planned, idle):
            rows.age(conn, one, timedelta(days=40))
        assert archive_idle(conn, default_ttl=timedelta(days=30)) == 1
        assert sessions.get(conn, planned).status is SessionStatus.ACTIVE
        schedules.remove(conn, made.id)
        assert archive_idle(conn, default_ttl=timedelta(days=30)) == 1


def test_one_whose_runs_cannot_be_made_is_paused_and_counted(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = rows.start(store)
    odd = create(store, session)
    set_back(store, odd, hours=0)

    def fail(*_: object) -> None:
        raise Unstorable("no")

    monkeypatch.setattr(schedules, "accept_many", fail)
    assert make_runs(store) == []
    assert (get(store, odd).paused, get(store, odd).error_code) == (True, "unstorable")
    with store.begin() as conn:
        assert broken_schedules(conn) == (1, "unstorable")
        assert schedules.resume(conn, odd.id).error_code is None
        assert broken_schedules(conn) == (0, "")


def test_one_that_cannot_be_read_is_in_nobodys_way(store: Database) -> None:
    session = rows.start(store)
    odd, sound = create(store, session), create(store, session)
    for one in (odd, sound):
        set_back(store, one, hours=0)
    with store.begin() as conn:
        conn.execute(update(table).where(table.c.id == odd.id).values(content=[{"type": "x"}]))
    make_runs(store)
    assert (get(store, sound).runs, get(store, odd).runs) == (1, 0)
    assert get(store, odd).error_code == "unreadable_row"


def test_a_key_stands_for_one_schedule_of_its_session(store: Database) -> None:
    session, other = rows.start(store), rows.start(store)
    made = create(store, session, key="daily")
    assert create(store, session, key="daily").id == made.id
    assert create(store, other, key="daily").id != made.id
    with pytest.raises(Conflict):
        create(store, session, key="daily", cron="1 * * * *")
    with pytest.raises(Conflict):
        create(store, session, key="daily", parts=(Text("Good night."),))


def test_a_change_holds_from_the_next_run_on(store: Database) -> None:
    session = rows.start(store)
    made = create(store, session)
    with store.begin() as conn:
        changed = schedules.change(
            conn, made.id, {"cron": "0 9 * * *", "timezone": "Asia/Kolkata", "parts": (Text("x"),)}
        )
    assert changed.next_at is not None and (changed.next_at.hour, changed.next_at.minute) == (3, 30)
    assert changed.text == "x"


def test_one_that_has_a_cron_keeps_to_it_and_so_does_one_that_has_a_moment(store: Database) -> None:
    session, moment = rows.start(store), datetime.now(UTC).replace(microsecond=0) + HOUR
    again, once = create(store, session), create(store, session, at=moment)
    other: tuple[tuple[Schedule, dict[str, Any]], ...] = (
        (again, {"at": moment}),
        (again, {"cron": None}),
        (again, {"at": moment, "cron": None}),
        (once, {"cron": "@daily"}),
        (once, {"at": None}),
        (once, {"at": None, "cron": "@daily"}),
    )
    for made, values in other:
        with pytest.raises(InvalidInput, match="keeps to it"), store.begin() as conn:
            schedules.change(conn, made.id, values)
        assert get(store, made) == made


def test_a_schedule_goes_with_its_session(store: Database) -> None:
    session = rows.start(store)
    made = create(store, session)
    with store.begin() as conn:
        sessions.remove(conn, session)
    with pytest.raises(ScheduleNotFound):
        get(store, made)
    with pytest.raises(SessionNotFound):
        create(store, session)
    with store.begin() as conn:
        assert schedules.find(conn) == []


def test_a_deleted_schedule_makes_no_runs_and_leaves_those_it_made(store: Database) -> None:
    session = rows.start(store)
    made = create(store, session)
    set_back(store, made, hours=0)
    make_runs(store)
    with store.begin() as conn:
        schedules.remove(conn, made.id)
    assert len(turns_of(store, session)) == 1
    with pytest.raises(ScheduleNotFound), store.begin() as conn:
        schedules.remove(conn, UUID(int=0))


def test_schedules_are_listed_newest_first_in_pages(store: Database) -> None:
    session, other = rows.start(store), rows.start(store)
    made = [create(store, session).id for _ in range(3)]
    create(store, other)
    with store.begin() as conn:
        page = schedules.find(conn, session_id=session, limit=2)
        rest = schedules.find(conn, session_id=session, after=page[-1].id, limit=2)
    assert [one.id for one in (*page, *rest)] == made[::-1]


def test_a_session_has_a_bound_of_schedules(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "MOST_OF_A_SESSION", 2)
    session = rows.start(store)
    for _ in range(2):
        create(store, session)
    with pytest.raises(MoveRefused):
        create(store, session)


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_ails_the_store_or_the_machine_pauses_no_schedule(
    store: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    made = create(store, rows.start(store))
    set_back(store, made, hours=0)
    with monkeypatch.context() as patch:
        patch.setattr(schedules, "accept_many", raising(error))
        assert make_runs(store) == []
    assert not get(store, made).paused
    assert len(make_runs(store)) == 1


def test_schedules_that_stay_due_for_want_of_a_key_keep_no_other_from_its_run(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyless, other = rows.start(store), rows.start(store)
    for n in range(3):
        set_back(store, create(store, keyless, key=f"{n}"), hours=2)
    set_back(store, create(store, other), hours=1)
    real = accept_many

    def accept(conn: Any, turns: Any) -> Any:
        if turns[0][0] == keyless:
            raise DataKeyMissing
        return real(conn, turns)

    monkeypatch.setattr(schedules, "accept_many", accept)
    monkeypatch.setattr(scheduling, "_AT_ONCE", 2)
    for _ in range(100):
        make_runs(store)
    assert len(turns_of(store, other)) == 1
    assert turns_of(store, keyless) == []

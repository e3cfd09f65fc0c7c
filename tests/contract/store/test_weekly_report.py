"""The report of a week: made once, when all its turns are in, where somebody wants it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from tests import rows
from tests.folded import fold_all
from turnmill.domain.analytics.weekly import Weekly
from turnmill.domain.errors import InvalidSetting
from turnmill.domain.states import EventKind
from turnmill.store.analytics.telling import words_of
from turnmill.store.database import Database
from turnmill.store.nouns import events
from turnmill.store.nouns.subscribing import subscribe
from turnmill.store.rules.wanted import forget
from turnmill.store.schema.rollup_tables import rollup_state
from turnmill_worker.analytics.weekly import make

NOW = datetime.now(UTC)


def seeded(store: Database, weekly: Weekly) -> None:
    """Have a turn end in the last week, and all be in."""
    turn = rows.send(store, rows.start(store))
    rows.run(store, turn)
    rows.ended_at(store, turn, weekly.last_week(NOW).since + timedelta(days=2))
    fold_all(store)


def told(store: Database) -> list[str]:
    with store.begin() as conn:
        found = events.page(conn, None, limit=100).events
    return [one.kind for one in found if one.kind == EventKind.REPORT_MADE]


def test_it_is_written_once_into_the_folder(store: Database, tmp_path: Path) -> None:
    weekly = Weekly(folder=tmp_path / "reports")
    seeded(store, weekly)
    assert make(store, weekly, at=NOW) == {"reports": 1}
    name = weekly.name_of(weekly.last_week(NOW))
    page = tmp_path / "reports" / f"{name}.html"
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    said = json.loads(page.with_suffix(".json").read_text("utf-8"))
    assert (said["version"], said["now"]["turns"]) == (1, 1)
    page.unlink()
    assert make(store, weekly, at=NOW) == {"reports": 0}
    assert not page.exists()
    assert told(store) == []  # nobody has asked to hear of it


def test_who_wants_to_hear_of_it_is_told_without_a_folder(store: Database) -> None:
    with store.begin() as conn:
        subscribe(conn, "webhook:x", ["report.made"])
    weekly = Weekly()
    seeded(store, weekly)
    assert make(store, weekly, at=NOW) == {"reports": 1}
    assert make(store, weekly, at=NOW) == {"reports": 0}
    assert told(store) == [EventKind.REPORT_MADE]
    with store.begin() as conn:
        [event] = events.page(conn, None, limit=100).events[-1:]
        assert event.session_id is not None
        said = words_of(conn, event.kind, event.session_id)
    assert said is not None and (said["turns"], said["cost_usd"]) == (1, "0.2500000000")


def test_nobody_wants_it_and_nothing_is_made(store: Database) -> None:
    forget()  # who has asked in another test
    seeded(store, Weekly())
    assert make(store, Weekly(), at=NOW) == {"reports": 0}


def test_it_waits_until_all_turns_of_the_week_are_in(store: Database, tmp_path: Path) -> None:
    weekly = Weekly(folder=tmp_path)
    assert make(store, weekly, at=NOW) == {"reports": 0}  # nothing was folded so far
    seeded(store, weekly)
    behind = weekly.last_week(NOW).until - timedelta(minutes=1)
    with store.begin() as conn:
        conn.execute(update(rollup_state).values(folded_until=behind))
    assert make(store, weekly, at=NOW) == {"reports": 0}
    fold_all(store)
    assert make(store, weekly, at=NOW) == {"reports": 1}


def test_a_folder_that_cannot_be_written_to_is_tried_again(store: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    seeded(store, Weekly(folder=tmp_path / "file"))
    with pytest.raises(OSError, match="file"):
        make(store, Weekly(folder=tmp_path / "file"), at=NOW)
    assert make(store, Weekly(folder=tmp_path), at=NOW) == {"reports": 1}


@pytest.mark.parametrize(
    ("zone", "since", "until"),
    [
        ("UTC", "2026-11-16T00:00", "2026-11-23T00:00"),
        ("Asia/Kolkata", "2026-11-15T18:30", "2026-11-22T18:30"),
        ("America/Los_Angeles", "2026-11-09T08:00", "2026-11-16T08:00"),
    ],
)
def test_weeks_are_those_of_the_zone(zone: str, since: str, until: str) -> None:
    week = Weekly(zone=zone).last_week(datetime(2026, 11, 23, 3, tzinfo=UTC))
    assert week.since == datetime.fromisoformat(since).replace(tzinfo=UTC)
    assert week.until == datetime.fromisoformat(until).replace(tzinfo=UTC)


def test_a_week_in_which_clocks_are_moved_is_whole() -> None:
    weekly = Weekly(zone="Europe/Berlin")
    week = weekly.last_week(datetime(2026, 10, 27, tzinfo=UTC))
    assert week.until - week.since == timedelta(days=7, hours=1)
    assert weekly.name_of(week) == "turnmill-2026-W43"


def test_settings_of_it_are_checked() -> None:
    found = Weekly.from_env({"TURNMILL_REPORT_FOLDER": "/r", "TURNMILL_REPORT_ZONE": "Asia/Tokyo"})
    assert found == Weekly(folder=Path("/r"), zone="Asia/Tokyo")
    assert Weekly.from_env({}) == Weekly()
    with pytest.raises(InvalidSetting):
        Weekly.from_env({"TURNMILL_REPORT_ZONE": "Mars"})

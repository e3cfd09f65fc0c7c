"""The table of beat: what is sent, when, and how a variable changes it."""

import pickle
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from celery.beat import BeatLazyFunc

from turnmill import wire
from turnmill.domain.errors import InvalidSetting
from turnmill_worker.celery.schedule import SCHEDULE, beat_schedule, current_slot, variable_of


def test_every_line_goes_to_the_upkeep_queue_with_its_slot_and_expires() -> None:
    schedule = beat_schedule({})
    assert set(schedule) == set(SCHEDULE)
    for line in schedule.values():
        (slot,) = line["args"]
        assert isinstance(slot, BeatLazyFunc)
        assert line["options"]["queue"] == wire.UPKEEP_QUEUE
        assert 0 < line["options"]["expires"] < 3600


@pytest.mark.parametrize("name", SCHEDULE)
def test_a_line_expires_before_it_is_sent_again(name: str) -> None:
    entry = SCHEDULE[name]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    minutes = [start + timedelta(minutes=n) for n in range(3 * 24 * 60)]
    due = [
        moment
        for moment in minutes
        if moment.minute in entry.schedule.minute and moment.hour in entry.schedule.hour
    ]
    assert entry.expires < min(later - earlier for earlier, later in pairwise(due))


def test_a_slot_is_the_minute_in_which_beat_sends() -> None:
    before = datetime.now(UTC)
    slot = datetime.fromisoformat(current_slot())
    assert slot.second == slot.microsecond == 0
    assert before - timedelta(minutes=1) < slot <= datetime.now(UTC)


def test_beat_can_keep_the_schedule_in_its_file() -> None:
    (slot,) = beat_schedule({})["purge"]["args"]
    assert datetime.fromisoformat(pickle.loads(pickle.dumps(slot))()).tzinfo is not None


def test_a_variable_moves_a_line() -> None:
    assert variable_of("roll-up-usage") == "TURNMILL_SCHEDULE_ROLL_UP_USAGE"
    schedule = beat_schedule({"TURNMILL_SCHEDULE_ROLL_UP_USAGE": " 7  3 * *   1 "})
    moved = schedule["roll-up-usage"]["schedule"]
    assert (moved.minute, moved.hour, moved.day_of_week) == ({7}, {3}, {1})
    assert schedule["purge"]["schedule"] == SCHEDULE["purge"].schedule


@pytest.mark.parametrize("word", ["off", "OFF", " off "])
def test_a_variable_switches_a_line_off(word: str) -> None:
    assert "purge" not in beat_schedule({"TURNMILL_SCHEDULE_PURGE": word})


def test_an_empty_variable_changes_nothing() -> None:
    assert set(beat_schedule({"TURNMILL_SCHEDULE_PURGE": ""})) == set(SCHEDULE)


@pytest.mark.parametrize("value", ["hourly", "* * * *", "61 * * * *", "* * * * * *", "a b c d e"])
def test_what_is_no_crontab_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidSetting, match="TURNMILL_SCHEDULE_PURGE") as caught:
        beat_schedule({"TURNMILL_SCHEDULE_PURGE": value})
    assert "*/10 * * * *" in caught.value.hint


def test_a_variable_that_names_no_line_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="TURNMILL_SCHEDULE_PRUGE") as caught:
        beat_schedule({"TURNMILL_SCHEDULE_PRUGE": "off"})
    assert "TURNMILL_SCHEDULE_PURGE" in caught.value.hint

"""Instants in SQLite: text that sorts as they do, and is read as what was written."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.dialects import sqlite

from turnmill.domain.bounds import LATEST
from turnmill.store.types import Timestamp

INSTANTS = [
    datetime(33, 4, 3, 15, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2026, 11, 28, 9, 52, 10, 120_000, tzinfo=UTC),
    datetime(2026, 11, 28, 9, 52, 10, 120_001, tzinfo=timezone(-timedelta(hours=9, minutes=30))),
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
]


def written(moment: datetime) -> str:
    text: str = Timestamp().process_bind_param(moment, sqlite.dialect())
    return text


def read(text: str) -> datetime | None:
    return Timestamp().process_result_value(text, sqlite.dialect())


def test_an_instant_is_read_as_it_was_written_to_the_microsecond() -> None:
    assert [read(written(one)) for one in INSTANTS] == INSTANTS
    assert written(INSTANTS[4]) == "2026-11-28 19:22:10.120001"


def test_the_text_of_instants_sorts_as_they_do() -> None:
    assert sorted(map(written, INSTANTS)) == list(map(written, INSTANTS))


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-28 09:52:10.120", INSTANTS[3]),
        ("2026-11-28 09:52:10", LATEST),
        ("2026-02-30 09:52:10.120000", LATEST),
        ("2026-11-28 24:00:00.000000", LATEST),
        ("99999-01-01", LATEST),
        ("an instant of no calendar.", LATEST),
        ("", LATEST),
    ],
)
def test_what_somebody_else_wrote_is_an_instant_or_one_after_all_others(
    text: str, instant: datetime
) -> None:
    assert read(text) == instant

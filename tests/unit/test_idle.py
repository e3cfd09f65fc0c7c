"""When a session is idle: a rule without a clock."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnmill.domain.errors import InvalidSetting
from turnmill.domain.idle import Retention, is_idle
from turnmill.domain.states import SessionStatus

NOW = datetime(2026, 11, 23, tzinfo=UTC)
DAYS = st.none() | st.integers(1, 1000).map(lambda days: timedelta(days=days))


def idle(
    *,
    status: SessionStatus = SessionStatus.ACTIVE,
    unfinished: int = 0,
    silent: timedelta = timedelta(days=1000),
    own: timedelta | None = None,
    default: timedelta | None = timedelta(days=30),
) -> bool:
    return is_idle(
        status=status,
        unfinished=unfinished,
        last_active_at=NOW - silent,
        idle_ttl=own,
        default_ttl=default,
        now=NOW,
    )


@pytest.mark.parametrize("status", SessionStatus)
def test_only_active_sessions_become_idle(status: SessionStatus) -> None:
    assert idle(status=status) is (status is SessionStatus.ACTIVE)


def test_exactly_its_idle_time_is_not_yet_idle() -> None:
    assert not idle(silent=timedelta(days=30))
    assert idle(silent=timedelta(days=30, microseconds=1))


@given(own=DAYS, default=DAYS, unfinished=st.integers(1, 10))
def test_unfinished_turns_keep_any_session_awake(
    own: timedelta | None, default: timedelta | None, unfinished: int
) -> None:
    assert not idle(own=own, default=default, unfinished=unfinished)


@given(own=DAYS.filter(lambda ttl: ttl is not None), one=DAYS, other=DAYS)
def test_a_time_of_its_own_makes_the_default_irrelevant(
    own: timedelta, one: timedelta | None, other: timedelta | None
) -> None:
    silent = timedelta(days=500)
    assert idle(own=own, default=one, silent=silent) is idle(own=own, default=other, silent=silent)


def test_with_no_time_at_all_nothing_is_ever_idle() -> None:
    assert not idle(own=None, default=None, silent=timedelta(days=100_000))


def test_retention_is_read_from_the_environment() -> None:
    assert Retention.from_env({}) == Retention()
    for days in ("30", "0"):
        with pytest.raises(InvalidSetting, match="TURNMILL_KEEP_AUDIT_DAYS"):
            Retention.from_env({"TURNMILL_KEEP_AUDIT_DAYS": days})
    assert Retention.from_env({"TURNMILL_KEEP_AUDIT_DAYS": "31"}).audit == timedelta(days=31)
    found = Retention.from_env({"TURNMILL_IDLE_DAYS": "0.5", "TURNMILL_KEEP_ARCHIVED_DAYS": "90"})
    assert (found.idle_ttl, found.archived) == (timedelta(hours=12), timedelta(days=90))
    assert Retention.from_env({"TURNMILL_IDLE_DAYS": "never"}).idle_ttl is None


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf", "1e9"])
def test_what_is_no_number_of_days_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidSetting, match="TURNMILL_IDLE_DAYS"):
        Retention.from_env({"TURNMILL_IDLE_DAYS": value})

"""Settings: read from TURNMILL_*, refused with the variable's name and never its value."""

from datetime import timedelta
from pathlib import Path

import pytest

from turnmill.domain.errors import InvalidSetting
from turnmill.settings import Profile, Reads, Settings

REMOTE_DATABASE = "postgresql://me:secret-word@db.example.com/turnmill"


def read(**variables: str) -> Settings:
    return Settings.from_env({f"TURNMILL_{name}": value for name, value in variables.items()})


def test_an_empty_environment_is_the_default() -> None:
    assert read() == Settings()
    assert Settings().profile is Profile.DEVELOPMENT
    assert Settings().lease == timedelta(seconds=15)


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNMILL_CONCURRENCY", "17")
    assert Settings.from_env().concurrency == 17


def test_every_variable_sets_its_field() -> None:
    found = read(
        DATABASE_URL="sqlite://",
        BROKER_URL="redis://127.0.0.1",
        HOME="/somewhere",
        LEASE="2.5",
        CONCURRENCY="20",
        MAX_UNFINISHED_PER_USER="7",
        MAX_UNFINISHED="8",
        HINTS_MAX="9",
        MAX_TEXT_BYTES="10",
        GRACE="0",
        TURN_TIMEOUT="30",
        MAX_REPLY_BYTES="1000",
    )
    assert found.max_reply_bytes == 1000
    assert (found.database_url, found.broker_url) == ("sqlite://", "redis://127.0.0.1")
    assert (found.home, found.lease) == (Path("/somewhere"), timedelta(seconds=2.5))
    assert (found.max_unfinished_per_user, found.max_unfinished) == (7, 8)
    assert (found.concurrency, found.hints_max, found.max_text_bytes) == (20, 9, 10)
    assert (found.grace, found.turn_timeout) == (timedelta(0), timedelta(seconds=30))


def test_who_acts_and_whose_reading_is_written_down() -> None:
    assert read(ACTOR="eve@desk", AUDIT_READS="all").actor == "eve@desk"
    assert read(AUDIT_READS="all").audit_reads is Reads.ALL
    for name, value in (("ACTOR", "e\nve"), ("ACTOR", "e" * 201), ("AUDIT_READS", "some")):
        with pytest.raises(InvalidSetting, match=f"TURNMILL_{name}"):
            read(**{name: value})


def test_a_bound_can_be_lifted() -> None:
    assert read(MAX_UNFINISHED_PER_USER="none").max_unfinished_per_user is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROFILE", "staging"),
        ("LEASE", "soon"),
        ("LEASE", "0.1"),
        ("LEASE", "nan"),
        ("LEASE", "inf"),
        ("LEASE", "100000"),
        ("TURN_TIMEOUT", "0"),
        ("GRACE", "-1"),
        ("CONCURRENCY", "many"),
        ("CONCURRENCY", "0"),
        ("CONCURRENCY", "1.5"),
        ("CONCURRENCY", "none"),
        ("MAX_UNFINISHED", "-1"),
        ("HINTS_MAX", "none"),
        ("MAX_REPLY_BYTES", "0"),
        ("MAX_REPLY_BYTES", "none"),
        ("METRICS_PORT", "0"),
        ("METRICS_PORT", "65536"),
        ("METRICS_PORT", "none"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"TURNMILL_{name}") as caught:
        read(**{name: value})
    assert caught.value.hint


@pytest.mark.parametrize("name", ["HOME", "FLOWER_AUTH", "DATABASE_URL", "CONCURRENCY"])
@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_a_value_from_a_file_with_windows_line_ends_is_refused_by_name(name: str, end: str) -> None:
    with pytest.raises(InvalidSetting, match=f"TURNMILL_{name} ends with a carriage") as caught:
        read(**{name: f"secret-word{end}"})
    assert "line ends" in caught.value.hint
    assert "secret-word" not in f"{caught.value} {caught.value.hint}"


def test_the_lines_of_a_keyring_may_end_in_any_way() -> None:
    assert read(ENCRYPTION_KEYS="one\r\ntwo\r\n").is_encrypted


def test_development_forgives() -> None:
    assert read(DATABASE_URL=REMOTE_DATABASE).database_url == REMOTE_DATABASE

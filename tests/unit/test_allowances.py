"""What both vendors say of their limits, in the headers of their answers."""

from datetime import UTC, datetime, timedelta

import pytest

from turnmill_worker.providers.allowances import Allowance, Allowances, allowances_in
from turnmill_worker.providers.keys import account_of

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def test_openai_s_headers_are_read() -> None:
    found = allowances_in(
        {
            "x-ratelimit-limit-requests": "600",
            "x-ratelimit-remaining-requests": "599",
            "x-ratelimit-reset-requests": "100ms",
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "6m0.5s",
        },
        now=NOW,
    )
    assert found == Allowances(
        requests=Allowance(limit=600, left=599, resets_in=0.1),
        tokens=Allowance(limit=150_000, left=0, resets_in=360.5),
    )


def test_anthropic_s_headers_are_read() -> None:
    later = (NOW + timedelta(seconds=30)).isoformat()
    found = allowances_in(
        {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "49",
            "anthropic-ratelimit-requests-reset": later.replace("+00:00", "Z"),
        },
        now=NOW,
    )
    assert found == Allowances(requests=Allowance(limit=50, left=49, resets_in=30.0))


@pytest.mark.parametrize("value", ["", "0", "-1", "many", "1e9", "9" * 40, "½"])
def test_what_makes_no_sense_is_not_learned(value: str) -> None:
    assert allowances_in({"x-ratelimit-limit-requests": value}, now=NOW) == Allowances()


@pytest.mark.parametrize(
    ("left", "reset", "found"),
    [("-234", "7", (0, 7.0)), ("0", "1.5", (0, 1.5)), ("-", "1764252060", (None, None))],
)
def test_who_has_taken_more_than_there_was_has_nothing_left_and_seconds_may_stand_alone(
    left: str, reset: str, found: tuple[int | None, float | None]
) -> None:
    headers = {
        "x-ratelimit-limit-tokens": "500",
        "x-ratelimit-remaining-tokens": left,
        "x-ratelimit-reset-tokens": reset,
    }
    tokens = allowances_in(headers, now=NOW).tokens
    assert tokens is not None
    assert (tokens.left, tokens.resets_in) == found


@pytest.mark.parametrize("value", ["", "soon", "1y", "2026", "-5s", "9" * 400 + "s"])
def test_a_reset_that_makes_no_sense_is_unknown_or_long(value: str) -> None:
    headers = {"x-ratelimit-limit-requests": "5", "x-ratelimit-reset-requests": value}
    found = allowances_in(headers, now=NOW).requests
    assert found is not None
    assert found.resets_in is None or found.resets_in >= 0


def test_a_key_cannot_be_told_from_its_account() -> None:
    key = "sk-secret"
    assert key not in account_of("https://api", key)
    assert account_of("https://api", key) == account_of("https://api", key)
    assert account_of("https://api", key) != account_of("https://api", "sk-other")
    assert account_of("https://api", key) != account_of("https://eu.api", key)

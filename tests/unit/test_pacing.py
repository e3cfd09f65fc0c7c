"""How calls are spread over time: no minute has more than it may, and nobody waits for nothing."""

from itertools import pairwise

import pytest

from turnmill.domain.pacing import (
    AHEAD,
    EARLY,
    Ask,
    Given,
    Rates,
    answer,
    changed,
    give,
    hold_until,
    line_of,
    place,
    take_back,
)

NOW = 1_000_000.0


def calls_in(
    rates: Rates, *, seconds: float, tokens: int = 0, pause_at: float = -100.0
) -> list[float]:
    """Return when calls begin of somebody who asks for as many as there are, all the time."""
    given, begun, now = Given(), [], NOW
    while now < NOW + seconds:
        if not pause_at <= now - NOW < pause_at + 30.0:
            begins, given = give(given, rates, [tokens] * 100, now=now)
            begun += [now + one for one in begins]
        now += 0.25
    return begun


@pytest.mark.parametrize("rpm", [1, 5, 60, 600, 3_000])
@pytest.mark.parametrize("pause_at", [-100.0, 40.0])
def test_no_minute_has_more_calls_than_it_may(rpm: int, pause_at: float) -> None:
    begun = calls_in(Rates(requests_per_minute=rpm), seconds=200.0, pause_at=pause_at)
    most = max(
        sum(one <= other < one + 60.0 for other in begun) for one in begun[:: max(1, rpm // 60)]
    )
    assert most <= rpm


@pytest.mark.parametrize("rpm", [60, 600, 3_000])
def test_nearly_all_that_is_allowed_is_used(rpm: int) -> None:
    begun = calls_in(Rates(requests_per_minute=rpm), seconds=180.0)
    assert len([one for one in begun if one < NOW + 180.0]) >= 0.97 * 3 * rpm


def test_calls_begin_one_after_the_other_and_not_at_once() -> None:
    begun = calls_in(Rates(requests_per_minute=600), seconds=30.0)
    late = [one for one in begun if one > NOW + 5.0]
    assert min(later - earlier for earlier, later in pairwise(late)) > 0.099


def test_tokens_are_paced_as_calls_are() -> None:
    begun = calls_in(Rates(tokens_per_minute=60_000), seconds=120.0, tokens=1_000)
    within = [one for one in begun if NOW + 30 <= one < NOW + 90]
    assert 57 <= len(within) <= 60


def test_what_would_begin_too_late_is_not_given() -> None:
    begins, given = give(Given(), Rates(requests_per_minute=60), [0] * 100, now=NOW)
    assert max(begins) <= AHEAD and len(begins) < 6
    assert give(given, Rates(requests_per_minute=60), [0], now=NOW)[0] == []


def test_what_was_not_used_is_given_again() -> None:
    rates = Rates(requests_per_minute=60)
    begins, given = give(Given(), rates, [0] * 100, now=NOW)
    back = take_back(given, rates, calls=2, tokens=0)
    assert len(give(back, rates, [0] * 100, now=NOW)[0]) == 2
    assert len(begins) > 2


def test_tokens_that_were_not_used_are_given_again_and_more_than_were_asked_for_are_owed() -> None:
    rates = Rates(tokens_per_minute=60_000)
    _, given = give(Given(), rates, [1_000] * 100, now=NOW)
    back = take_back(given, rates, calls=0, tokens=2_000)
    assert len(give(back, rates, [1_000] * 100, now=NOW)[0]) == 2
    assert take_back(given, rates, calls=0, tokens=-2_000).tokens_until > given.tokens_until


def test_places_are_given_ahead_where_more_are_wanted_each_as_long_as_a_call_takes() -> None:
    rates = Rates(tokens_per_minute=60_000)
    asks = [Ask(tokens=tokens, line="i1") for tokens in (500, 1_500) * 10]
    found, _ = answer(Given(), rates, asks, more={"i1": 3}, now=NOW)
    places = found.places["i1"]
    assert len(places) == len(asks) - len(found.begins) + 3
    apart = [later - earlier for earlier, later in pairwise(places)]
    assert apart == pytest.approx([rates.seconds_of(1_000)] * len(apart))


def test_nothing_is_given_before_the_vendor_has_some_again() -> None:
    given = hold_until(Given(), NOW + 20)
    assert give(given, Rates(requests_per_minute=600), [0], now=NOW)[0] == []
    assert give(given, Rates(requests_per_minute=600), [0], now=NOW + 20)[0] == [0.0]


def test_places_of_one_line_are_a_call_apart_from_each_other() -> None:
    first, given = place(Given(), "b0", count=3, each=0.1, now=NOW)
    second, _ = place(given, "b0", count=1, each=0.1, now=NOW)
    assert [round(one, 3) for one in (*first, *second)] == [
        round(EARLY + n * 0.1, 3) for n in range(4)
    ]


def test_who_sends_little_does_not_stand_behind_who_sends_much() -> None:
    _, given = place(Given(), "i1", count=10_000, each=0.1, now=NOW)
    mine, _ = place(given, "i2", count=10, each=0.1, now=NOW)
    assert max(mine) < EARLY + 10 * 0.2


def test_the_interactive_lane_goes_before_bulk() -> None:
    _, given = place(Given(), "b1", count=10_000, each=0.1, now=NOW)
    mine, _ = place(given, "i2", count=10, each=0.1, now=NOW)
    assert max(mine) < EARLY + 10 * 0.1


def test_lines_that_are_asked_for_together_share_from_the_first_place_on() -> None:
    asks = [Ask(line=f"i{n % 4}") for n in range(400)]
    given = hold_until(Given(), NOW + 60)
    found, _ = answer(given, Rates(requests_per_minute=600), asks, more={}, now=NOW)
    places = sorted(one for line in found.places.values() for one in line)
    assert len(places) == 400
    assert max(places) - min(places) == pytest.approx(400 * 0.102, rel=0.02)


def test_who_has_had_a_place_is_given_none() -> None:
    given = hold_until(Given(), NOW + 60)
    found, _ = answer(given, Rates(requests_per_minute=600), [Ask()], more={}, now=NOW)
    assert (list(found.begins), dict(found.places)) == ([], {})


def test_a_user_has_one_line_in_each_lane() -> None:
    assert line_of("ada", interactive=True) == line_of("ada", interactive=True)
    assert line_of("ada", interactive=True) != line_of("ada", interactive=False)
    assert len({line_of(f"user-{n}", interactive=True) for n in range(1000)}) <= 16


def test_a_limit_that_is_raised_is_given_away_for_as_many_calls_as_before() -> None:
    slow, fast = Rates(requests_per_minute=1), Rates(requests_per_minute=600)
    begins, given = give(Given(), slow, [0] * 5, now=NOW)
    assert begins == [0.0]
    raised = changed(given, slow, fast, now=NOW)
    assert NOW < raised.requests_until < NOW + 1.0
    assert len(give(raised, fast, [0] * 5, now=NOW)[0]) == 5
    lowered = changed(raised, fast, slow, now=NOW)
    assert lowered.requests_until <= raised.requests_until  # calls of before are not the new rate's
    assert not changed(given, slow, fast, now=NOW + 90.0).requests_until > NOW + 90.0


def test_what_a_limit_without_a_rate_has_given_away_holds_up_nobody() -> None:
    given = Given(requests_until=NOW + 60.0, tokens_until=NOW + 60.0, places={"i1": NOW + 60.0})
    found = changed(given, Rates(), Rates(requests_per_minute=60), now=NOW)
    assert (found.requests_until, found.tokens_until, found.places) == (NOW, NOW, {})

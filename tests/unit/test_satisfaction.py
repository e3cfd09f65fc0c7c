"""The estimate of satisfaction: what a conversation's shape is, and what is made of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnmill.domain.analytics.conversing import Exchange, shape_of_times, shape_of_words
from turnmill.domain.analytics.phrases import READ, Sign, signs_in, words_in
from turnmill.domain.analytics.satisfaction import (
    Basis,
    FeedbackGiven,
    estimate,
    of_session,
    of_sessions,
)
from turnmill.domain.analytics.satisfaction_model import BY_TIMES, WITH_WORDS

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOTHING = FeedbackGiven(count=0, mean=None, positive=0, negative=0, comments=0)


def chat(*said: str, reply: str | None = "Sure, here it is.", pause: float = 30) -> list[Exchange]:
    """Return a conversation in which each message is answered within ten seconds, or none is."""
    return [
        Exchange(
            asked_at=NOON + n * timedelta(seconds=pause + 10),
            ended_at=NOON + n * timedelta(seconds=pause + 10) + timedelta(seconds=10),
            answered=reply is not None,
            said=text,
            heard=reply,
        )
        for n, text in enumerate(said)
    ]


def scored(exchanges: Sequence[Exchange]) -> float:
    found = estimate(exchanges, turns=len(exchanges))
    assert found is not None
    return found.score


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("Thank you so much", {Sign.THANKS}),
        ("Merci beaucoup", {Sign.THANKS}),
        ("谢谢你", {Sign.THANKS}),
        ("No, that's not what I asked", {Sign.CORRECTION}),
        ("No, that\u2019s not what I asked", {Sign.CORRECTION}),  # as phones set it
        ("Das ist falsch", {Sign.CORRECTION}),
        ("ce n\u2019est pas ça", {Sign.CORRECTION}),
        ("dzie\u0328kuje\u0328", {Sign.THANKS}),  # letters and their accents, apart
        ("never mind", {Sign.GIVING_UP}),
        ("haha, great!", {Sign.DELIGHT}),
        ("why?", {Sign.QUESTION}),
        ("什么？", {Sign.QUESTION}),
        ("the thankless task of whateverism", set()),
        ("", set()),
    ],
)
def test_signs_are_found_as_words_and_not_within_them(text: str, signs: set[Sign]) -> None:
    assert signs_in(text) == signs


def test_words_of_scripts_without_spaces_are_counted_too() -> None:
    assert len(words_in("我今天想问一个问题")) == 5
    assert words_in("Straße, STRASSE") == ["strasse", "strasse"]
    assert words_in("cafe\u0301") == words_in("café")
    assert len(words_in("a " * 10_000)) == READ // 2


def test_what_is_said_again_is_repeated_whatever_its_case_and_dots() -> None:
    said = chat("Where is my order 17?", "Hello there friend", "where is my order: 17", "Bye")
    assert shape_of_words(said)["repeated"] == 0.25


def test_times_are_those_between_messages_and_replies() -> None:
    shape = shape_of_times(chat("a", "b", "c", pause=120))
    assert shape["answered"] == 1.0
    assert shape["wait"] == pytest.approx(2.398, abs=0.001)  # log(1 + 10 s)
    assert shape["longest_pause"] == pytest.approx(4.796, abs=0.001)  # log(1 + 120 s)
    alone = shape_of_times(chat("a", reply=None))
    assert (alone["wait"], alone["longest_pause"], alone["went_on"]) == (0.0, 0.0, 0.0)


def test_a_conversation_that_goes_on_is_liked_better_than_one_that_nobody_answers() -> None:
    short = scored(chat("hi", reply=None))
    long = scored(chat(*(f"tell me more of number {n}, I love it" for n in range(20))))
    assert short < -0.5 < 0.2 < long


def test_giving_up_makes_it_worse_and_thanks_make_it_better() -> None:
    begun = ("I cannot log in today", "It says my password is too old", "I tried that already")
    plain = scored(chat(*begun, "and what do I do now"))
    assert scored(chat(*begun, "whatever, forget it then")) < plain
    assert scored(chat(*begun, "thanks, now it works")) > plain


def test_without_all_words_it_goes_by_times_and_says_so() -> None:
    whole = chat("a", "b", "c")
    part = [*whole[:2], Exchange(asked_at=NOON, ended_at=NOON, answered=True)]
    found = estimate(part, turns=3)
    assert found is not None
    assert (found.basis, found.quality) == (Basis.TIMES, BY_TIMES.quality)
    assert found.coverage == pytest.approx(2 / 3)
    with_words = estimate(whole, turns=3)
    assert with_words is not None
    assert (with_words.basis, with_words.quality) == (Basis.WORDS, WITH_WORDS.quality)


def test_of_a_long_conversation_it_says_how_much_of_it_it_has_seen() -> None:
    found = estimate(chat("a", "b"), turns=20)
    assert found is not None
    assert (found.coverage, found.turns) == (0.1, 2)


def test_what_was_said_wins_over_what_was_guessed() -> None:
    guessed = estimate(chat("a", "b"), turns=2)
    said = FeedbackGiven(count=2, mean=-0.5, positive=0, negative=1, comments=0)
    felt = of_session(said, guessed)
    assert (felt.score, felt.is_estimate) == (-0.5, False)
    felt = of_session(NOTHING, guessed)
    assert (felt.score, felt.is_estimate) == (felt.estimate, True)
    felt = of_session(NOTHING, None)
    assert (felt.score, felt.is_estimate, felt.coverage) == (None, False, 0.0)


def test_of_many_each_conversation_weighs_the_same_and_the_worst_quality_is_told() -> None:
    found = [estimate(chat("a", "b", "c"), turns=3), estimate(chat("a", reply=None), turns=1)]
    part = estimate([Exchange(asked_at=NOON, ended_at=NOON, answered=True)], turns=1)
    known = [one for one in [*found, part] if one is not None]
    felt = of_sessions(NOTHING, known, sessions=6)
    assert felt.score == pytest.approx(sum(one.score for one in known) / 3)
    assert (felt.coverage, felt.quality) == (0.5, BY_TIMES.quality)
    assert of_sessions(NOTHING, [], sessions=0).score is None


_MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
_EXCHANGES = st.builds(
    Exchange,
    asked_at=_MOMENTS,
    ended_at=_MOMENTS,
    answered=st.booleans(),
    said=st.none() | st.text(),
    heard=st.none() | st.text(),
)


@given(st.lists(_EXCHANGES, min_size=1, max_size=8))
def test_whatever_rows_hold_there_is_a_number(exchanges: list[Exchange]) -> None:
    assert -1 <= scored(exchanges) <= 1

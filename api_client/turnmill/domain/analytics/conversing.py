"""The shape of a conversation: how long, how fast, how often somebody had to say it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from math import log1p
from statistics import median

from turnmill.domain.analytics.phrases import Sign, signs_in, words_in

#: Of two messages of a conversation: they share so much of their words, and are one said twice.
_SAME = 0.6
#: Messages before it that one is compared with.
_LOOKS_BACK = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A turn that has ended: what was said, and what was answered."""

    asked_at: datetime
    ended_at: datetime
    answered: bool
    said: str | None = field(default=None, repr=False)  #: None: not known here
    heard: str | None = field(default=None, repr=False)


def shape_of_times(exchanges: Sequence[Exchange]) -> dict[str, float]:
    """Return what rows tell without a word of content: numbers by their names."""
    count = len(exchanges)
    answered = [one for one in exchanges if one.answered]
    waits = [_seconds(one.asked_at, one.ended_at) for one in answered]
    pauses = [
        _seconds(before.ended_at if before.answered else before.asked_at, one.asked_at)
        for before, one in pairwise(exchanges)
    ]
    last = exchanges[-1]
    return {
        "length": log1p(count),
        "length_squared": log1p(count) ** 2,
        "answered": len(answered) / count,
        "wait": log1p(median(waits)) if waits else 0.0,
        "longest_pause": log1p(max(pauses)) if pauses else 0.0,
        "went_on": float(count > 1),
        "duration": log1p(
            _seconds(exchanges[0].asked_at, last.ended_at if last.answered else last.asked_at)
        ),
    }


def shape_of_words(exchanges: Sequence[Exchange]) -> dict[str, float]:
    """Return what words tell beside that; all exchanges have theirs."""
    said = [words_in(one.said or "") for one in exchanges]
    heard = [words_in(one.heard or "") for one in exchanges if one.answered]
    spoken, listened = sum(map(len, said)), sum(map(len, heard))
    count, answers = len(said), max(1, len(heard))
    shares = _shares([signs_in(one.said or "") for one in exchanges])
    replies = _shares([signs_in(one.heard or "") for one in exchanges if one.answered])
    return {
        "said": log1p(spoken),
        "heard": log1p(listened),
        "said_each": log1p(spoken / count),
        "heard_each": log1p(listened / answers),
        "balance": abs(spoken - listened) / (spoken + listened + 1),
        "repeated": _repeated(said) / count,
        "corrections": shares[Sign.CORRECTION],
        "giving_up": shares[Sign.GIVING_UP],
        "thanks": shares[Sign.THANKS],
        "delight": shares[Sign.DELIGHT],
        "questions": shares[Sign.QUESTION],
        "delight_heard": replies[Sign.DELIGHT],
    }


def _seconds(begun: datetime, ended: datetime) -> float:
    return max(0.0, (ended - begun).total_seconds())


def _shares(signs: Sequence[frozenset[Sign]]) -> Mapping[Sign, float]:
    count = max(1, len(signs))
    return {sign: sum(sign in one for one in signs) / count for sign in Sign}


def _repeated(said: Sequence[Sequence[str]]) -> int:
    """Return how many messages say what one before them has said."""
    words = [frozenset(one) for one in said]
    return sum(
        any(_is_same(one, before) for before in words[max(0, at - _LOOKS_BACK) : at])
        for at, one in enumerate(words)
    )


def _is_same(one: frozenset[str], other: frozenset[str]) -> bool:
    both = len(one | other)
    return both > 0 and len(one & other) >= _SAME * both

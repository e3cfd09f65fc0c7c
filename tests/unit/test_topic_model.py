"""Terms of any language, and topics out of them: the same numbers for the same subjects."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from tests.subjects import Talk, talks
from turnmill_worker.analytics.terms import terms

if TYPE_CHECKING:  # what they take is large, and is loaded where a test gets so far
    from turnmill_worker.analytics.corpus import Counts
    from turnmill_worker.analytics.modelling import FoundTopics

pytestmark = pytest.mark.skipif(find_spec("sklearn") is None, reason="not installed: sklearn")


def find(counts: "Counts", **known: Any) -> "FoundTopics":
    from turnmill_worker.analytics import modelling

    return modelling.find(counts, **known)


def no_counts() -> "Counts":
    from turnmill_worker.analytics.corpus import Counts

    return Counts()


def counted(said: Sequence[Talk]) -> "Counts":
    counts = no_counts()
    for talk in said:
        counts.add(talk.user, talk.text)
    return counts


def agreeing(said: Sequence[Talk], found: "FoundTopics") -> float:
    """Return the share of conversations that are in a topic of mostly their subject."""
    by_topic: defaultdict[int | None, Counter[str]] = defaultdict(Counter)
    for talk, topic in zip(said, found.topics, strict=True):
        by_topic[topic][f"{talk.language} {talk.subject}"] += 1
    by_topic.pop(None, None)
    return sum(max(one.values()) for one in by_topic.values()) / len(said)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The invoice of bob@example.org, see https://x.example/y", ["the", "invoice", "see"]),
        ("Order 4711 costs 12,50", ["order", "costs"]),
        ("हिन्दी में किताबें", ["हिन्दी", "में", "किताबें"]),
        ("请退款", ["请退", "退款"]),
        ("請求書をキャンセル", ["請求", "求書", "キャンセル"]),
        ("환불을", ["환불", "불을"]),
        ("Счёт за ноябрь", ["счёт", "ноябрь"]),
        ("عندي مشكلة", ["عندي", "مشكلة"]),
        ("l'addition", ["addition"]),
        ("", []),
    ],
)
def test_terms_are_those_of_the_language(text: str, expected: list[str]) -> None:
    assert list(terms(text)) == expected


def test_subjects_are_told_apart_in_four_languages() -> None:
    said = talks(1000, users=300)
    found = find(counted(said), before=[None] * len(said))
    assert agreeing(said, found) >= 0.95
    words = [{word for word, _ in one[:8]} for one in found.words.values()]
    for some in ({"invoice", "payment"}, {"rechnung", "zahlung"}, {"factura", "pago"}, {"发票"}):
        assert any(some & one for one in words), some
    assert not {"the", "und", "die", "que", "what"} & set().union(*words)


@pytest.mark.parametrize("count", [400, 1000, 3000])
def test_a_tenth_more_conversations_leave_nineteen_of_twenty_where_they_were(count: int) -> None:
    said = talks(count * 11 // 10, users=count // 3)
    first = find(counted(said[:count]), before=[None] * count)
    then = find(
        counted(said),
        before=[*first.topics, *[None] * (len(said) - count)],
        last_topic=first.last_topic,
        looked_with=first.components,
    )
    of_one = [
        (one, other)
        for one, other in zip(first.topics, then.topics, strict=False)
        if one is not None
    ]
    assert sum(one == other for one, other in of_one) >= 0.95 * len(of_one)


def test_a_subject_that_is_new_gets_a_number_that_no_other_one_had() -> None:
    said = talks(900, users=300)
    old = [talk for talk in said if talk.subject != "travel"][:500]
    new = [talk for talk in said if talk.subject == "travel"]
    first = find(counted(old), before=[None] * len(old))
    then = find(
        counted([*old, *new, *new]),
        before=[*first.topics, *[None] * (2 * len(new))],
        last_topic=first.last_topic,
        looked_with=first.components,
    )
    numbers = Counter(topic for topic in then.topics[len(old) :])
    (topic, count), *_ = numbers.most_common(1)
    assert topic is not None
    assert topic > first.last_topic
    assert count >= 30


def test_the_same_conversations_come_to_the_same_topics() -> None:
    said = talks(300)
    found = [find(counted(said), before=[None] * len(said)) for _ in range(2)]
    assert found[0] == found[1]


def test_words_that_one_user_says_again_and_again_are_no_topic() -> None:
    said = talks(300, users=100)
    spam = [Talk("spammer", "spam", "en", "zorblax quuxify frobnicate " * 20)] * 200
    found = find(counted([*said, *spam]), before=[None] * 500)
    words = {word for one in found.words.values() for word, _ in one}
    assert words
    assert not {"zorblax", "quuxify", "frobnicate"} & words


def test_nothing_said_is_about_nothing() -> None:
    counts = no_counts()
    for n in range(100):
        counts.add(f"user-{n}", "" if n % 2 else "12345 67890")
    found = find(counts, before=[None] * 100)
    assert set(found.topics) == {None}
    assert not found.words

"""Topics of conversations that people have held: they stay where they were, and are of enough."""

from collections import defaultdict
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tools import satisfaction as data
from turnmill.domain.bounds import TOPIC_USERS

if TYPE_CHECKING:  # what they take is large, and is loaded where a test gets so far
    from turnmill_worker.analytics.corpus import Counts
    from turnmill_worker.analytics.modelling import FoundTopics

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("sklearn") is None, reason="not installed: sklearn"),
]

Said = list[tuple[str, str]]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """Return who has said what, of each of 7,168 chats."""
    chats = data.chats_in(data.fetched(tmp_path_factory.mktemp("chats")))
    return [
        (chat.user, "\n".join(str(one.said) for one in chat.exchanges))
        for chat in chats
        if chat.exchanges
    ]


def counted(said: Said) -> "Counts":
    from turnmill_worker.analytics.corpus import Counts

    counts = Counts()
    for user, text in said:
        counts.add(user, text)
    return counts


def run(said: Said, before: "FoundTopics | None" = None) -> "FoundTopics":
    """Look at them as one night does, after the night before."""
    from turnmill_worker.analytics.modelling import find

    if before is None:
        return find(counted(said), before=[None] * len(said))
    known = [*before.topics, *[None] * (len(said) - len(before.topics))]
    return find(
        counted(said),
        before=known,
        last_topic=before.last_topic,
        looked_with=before.components,
    )


def test_no_topic_of_real_chats_is_of_few_users_and_no_word_is(said: Said) -> None:
    found = run(said)
    users: defaultdict[int, set[str]] = defaultdict(set)
    for (user, _), topic in zip(said, found.topics, strict=True):
        if topic is not None:
            users[topic].add(user)
    assert len(found.words) >= 3
    for topic, words in found.words.items():
        assert len(users[topic]) >= TOPIC_USERS
        for word, _ in words:
            of = {user for user, text in said if word in text.lower()}
            assert len(of) >= TOPIC_USERS, "nobody's own words"


@pytest.mark.parametrize(("first", "then"), [(2_700, 3_000), (5_700, 6_300), (6_500, 7_150)])
def test_real_chats_keep_their_topics_while_a_tenth_more_come(
    said: Said, first: int, then: int
) -> None:
    before = run(said[:first])
    after = run(said[:then], before)
    pairs = zip(before.topics, after.topics, strict=False)
    kept = [one == other for one, other in pairs if one is not None]
    assert sum(kept) >= 0.85 * len(kept)

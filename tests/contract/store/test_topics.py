"""What sessions are about: numbers that stay, words of five users, and nothing of who is gone."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

import pytest
from sqlalchemy import select, update

from tests import rows
from tests.keyed import encrypted, rows_as_they_lie
from tests.subjects import Talk, talks
from turnmill.domain.bounds import TOPIC_USERS
from turnmill.domain.ids import SessionId
from turnmill.store.analytics import topics
from turnmill.store.analytics.topics import Topic
from turnmill.store.database import Database
from turnmill.store.line.redacting import redact_turns
from turnmill.store.line.start_many import start_many
from turnmill.store.nouns import sessions
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.topic_tables import session_topics, topic_runs
from turnmill.store.schema.topic_tables import topics as topic_rows
from turnmill.store.upkeep.content_retention import empty_content

pytestmark = pytest.mark.skipif(find_spec("sklearn") is None, reason="not installed: sklearn")

#: 160 conversations of 40 users.
SAID = talks(160, seed=3, users=40)


def find_topics(store: Database, **options: int) -> dict[str, int]:
    """Find them; what that takes is large, and is loaded where a test gets so far."""
    from turnmill_worker.analytics import finding

    return finding.find_topics(store, **options)  # type: ignore[arg-type]


def hold(store: Database, said: Sequence[Talk]) -> list[SessionId]:
    """Have these conversations, one message each, in one commit."""
    new = [(rows.new_session(user_id=talk.user), rows.say(talk.text)) for talk in said]
    store.run(start_many, new)
    return [session.id for session, _ in new]


def shown(store: Database) -> list[Topic]:
    with store.begin() as conn:
        return topics.shown(conn)[0]


def assigned(store: Database) -> dict[SessionId, int]:
    with store.begin() as conn:
        return topics.assigned(conn, since=datetime.now(UTC) - timedelta(days=1))


def delete(store: Database, session: SessionId) -> None:
    with store.begin() as conn:
        sessions.remove(conn, session)


def test_conversations_about_one_subject_are_one_topic_in_every_language(store: Database) -> None:
    ids = hold(store, SAID)
    counted = find_topics(store)
    assert counted["sampled"] == counted["sessions"] == len(SAID)
    found = assigned(store)
    by_topic: dict[int, Counter[str]] = {}
    for session, talk in zip(ids, SAID, strict=True):
        if session in found:
            by_topic.setdefault(found[session], Counter())[f"{talk.language} {talk.subject}"] += 1
    agreeing = sum(max(one.values()) for one in by_topic.values())
    assert len(found) >= 0.9 * len(SAID)
    assert agreeing >= 0.85 * len(found)
    words = {word for topic in shown(store) for word in topic.words}
    assert words & {"flight", "airport", "luggage"}
    assert any(not word.isascii() for word in words)


def test_a_topic_keeps_its_number_while_sessions_come(store: Database) -> None:
    hold(store, SAID)
    find_topics(store)
    before = assigned(store)
    hold(store, talks(176, seed=3, users=40)[160:])
    find_topics(store)
    after = assigned(store)
    same = [after.get(session) == topic for session, topic in before.items()]
    assert sum(same) >= 0.95 * len(before)
    with store.begin() as conn:
        run = topics.last_run(conn)
    assert run is not None
    assert (run.n, run.sampled) == (2, 176)


def test_no_word_is_shown_that_fewer_than_five_users_have_said(store: Database) -> None:
    hold(store, SAID)
    find_topics(store)
    users: dict[str, set[str]] = {}
    for talk in SAID:
        for word in talk.text.casefold().replace("?", " ").replace(".", " ").split():
            users.setdefault(word.strip("¿,"), set()).add(talk.user)
    found = [word for topic in shown(store) for word in topic.words]
    assert found
    for word in found:
        if word.isascii():
            assert len(users[word]) >= TOPIC_USERS, word
    with store.begin() as conn:
        stored = [word for words in topics.words_of(conn).values() for word, _ in words]
    assert not any("qxz" in word or "example" in word for word in stored)


def test_a_topic_of_fewer_than_five_users_is_not_shown_and_has_no_words(store: Database) -> None:
    four = [
        Talk(f"user-{n % 4}", one.subject, one.language, one.text) for n, one in enumerate(SAID)
    ]
    hold(store, four)
    find_topics(store)
    assert shown(store) == []
    with store.begin() as conn:
        assert set(conn.scalars(select(topic_rows.c.words))) <= {None}


def test_who_goes_takes_the_words_along_that_fewer_than_five_are_left_of(store: Database) -> None:
    ids = hold(store, SAID)
    find_topics(store)
    found = assigned(store)
    small = min(shown(store), key=lambda one: one.users)
    owners = {session: talk.user for session, talk in zip(ids, SAID, strict=True)}
    mine = [session for session, topic in found.items() if topic == small.id]
    left = sorted({owners[session] for session in mine})
    for user in left[TOPIC_USERS - 1 :]:
        for session in mine:
            if owners[session] == user:
                delete(store, session)
    assert small.id not in {one.id for one in shown(store)}
    with store.begin() as conn:
        words = conn.scalar(select(topic_rows.c.words).where(topic_rows.c.id == small.id))
    assert words is None


def test_a_session_is_of_no_topic_once_something_that_was_said_there_is_gone(
    store: Database,
) -> None:
    ids = hold(store, SAID[:80])
    turn = rows.send(store, ids[0], "The invoice again.")
    last = rows.start(store, user_id="last")
    ended = rows.send(store, last, SAID[0].text)
    rows.run(store, ended)
    find_topics(store)
    assert {ids[0], last} <= assigned(store).keys()
    with store.begin() as conn:
        redact_turns(conn, [turn])
    with store.begin() as conn:
        conn.execute(
            update(session_rows).where(session_rows.c.id == last).values(content_seconds=0)
        )
        empty_content(conn, last, default=None)
    assert not {ids[0], last} & assigned(store).keys()


def test_encrypted_conversations_are_read_where_the_keys_are_and_counted_where_not(
    store: Database,
) -> None:
    with encrypted(store):
        hold(store, SAID[:100])
        counted = find_topics(store)
        found = shown(store)
        assert counted["unreadable"] == 0
        assert found
        assert all(topic.words for topic in found)
        dump = rows_as_they_lie(store)
        assert not any(f'"{word}"' in dump for topic in found for word in topic.words)
    counted = find_topics(store)
    assert counted["unreadable"] == 100
    assert counted["assigned"] == 0


def test_who_has_a_key_of_his_own_is_not_read(store: Database) -> None:
    ids = hold(store, SAID[:60])
    with store.begin() as conn:
        conn.execute(update(session_rows).where(session_rows.c.id == ids[0]).values(key_id="own:1"))
    counted = find_topics(store)
    assert counted["sampled"] == 59
    assert ids[0] not in assigned(store)


def test_few_conversations_have_no_topics_and_a_limit_holds(store: Database) -> None:
    hold(store, SAID[:20])
    assert find_topics(store)["topics"] == 0
    hold(store, SAID[20:80])
    assert find_topics(store, limit=40)["sampled"] == 40
    with store.begin() as conn:
        assert conn.scalar(select(topic_runs.c.sampled).where(topic_runs.c.n == 2)) == 40
        assert len(conn.execute(select(session_topics)).all()) <= 40


def test_what_a_session_and_a_user_are_about_is_told(store: Database) -> None:
    ids = hold(store, SAID)
    find_topics(store)
    found = assigned(store)
    session = next(one for one in ids if one in found)
    user = SAID[ids.index(session)].user
    with store.begin() as conn:
        one = topics.of_session(conn, session)
        many = topics.of_user(conn, user)
        nobody = topics.of_user(conn, "nobody")
    assert one is not None
    assert one.id == found[session]
    assert 0 < one.share <= 1
    assert one.id in {each.id for each in many}
    assert nobody == []

"""What a session is about goes with what was said there, and words with those who said them.

A topic is shown where it is one of five users or more. One that has fewer loses its words in the
commit that takes the last of them away, not with the next night's run.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, null, select, update

from turnmill.domain.bounds import TOPIC_USERS
from turnmill.domain.ids import SessionId
from turnmill.domain.states import SessionStatus
from turnmill.store.schema.tables import sessions
from turnmill.store.schema.topic_tables import session_topics, topics


def topics_of(conn: Connection, session_ids: Collection[SessionId]) -> list[int]:
    """Return the topics that these sessions are of, by their numbers."""
    mine = session_topics.c.session_id.in_(list(session_ids))
    found = select(session_topics.c.topic_id).where(mine).distinct()
    return list(conn.scalars(found.order_by(session_topics.c.topic_id)))


def forget_topic(conn: Connection, session_ids: Collection[SessionId]) -> None:
    """Let these sessions be of no topic: something that was said there is gone."""
    theirs = topics_of(conn, session_ids)
    if theirs:
        mine = session_topics.c.session_id.in_(list(session_ids))
        conn.execute(delete(session_topics).where(mine))
        hush(conn, theirs)


def hush(conn: Connection, topic_ids: Collection[int]) -> None:
    """Take the words from those of these topics that are too few users' by now.

    Two who each take a user away do so one after the other: whoever is second counts without both.
    """
    if not topic_ids:
        return
    lock_topics(conn, topic_ids)
    few = users_of(topics.c.id) < TOPIC_USERS
    shown = select(topics.c.id).where(
        topics.c.id.in_(list(topic_ids)), few, topics.c.words.is_not(None)
    )
    for one in conn.scalars(shown).all():
        conn.execute(update(topics).where(topics.c.id == one).values(words=null()))


def lock_topics(conn: Connection, topic_ids: Collection[int]) -> None:
    """Lock these topics, the lowest number first: the order of all who lock more than one.

    Whoever is going to lock some of them more than once does it of all of them before.
    """
    theirs = select(topics.c.id).where(topics.c.id.in_(list(topic_ids))).order_by(topics.c.id)
    conn.execute(theirs.with_for_update(key_share=True)).all()


def users_of(topic_id: ColumnElement[int]) -> Any:
    """Return how many users have a session of the topic that somebody can see."""
    return (
        select(func.count(sessions.c.user_id.distinct()))
        .select_from(session_topics)
        .join(sessions, sessions.c.id == session_topics.c.session_id)
        .where(session_topics.c.topic_id == topic_id, sessions.c.status != SessionStatus.DELETED)
        .scalar_subquery()
    )

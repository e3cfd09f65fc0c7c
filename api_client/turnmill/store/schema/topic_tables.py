"""The tables of what sessions are about, as they are found from night to night."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Uuid,
)

from turnmill.store.schema.people_tables import metadata as metadata  # whole with these only
from turnmill.store.sealed_types import SealedJson
from turnmill.store.types import Timestamp, db_now

# One row for each run. Numbers of topics are given once: `last_topic` is the last that was.
topic_runs = Table(
    "topic_runs",
    metadata,
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Timestamp, nullable=False, server_default=db_now()),
    Column("since", Timestamp, nullable=False),  # sessions that were active from then on
    Column("sessions", BigInteger, nullable=False),  # so many there were
    Column("sampled", Integer, nullable=False),  # of them, those that were read
    Column("unreadable", Integer, nullable=False),  # of those, that could not be opened
    Column("users", Integer, nullable=False),  # whose the read ones are
    Column("components", Integer, nullable=False),  # that were looked for
    Column("last_topic", BigInteger, nullable=False),
)

topics = Table(
    "topics",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    # [["word", weight], …], none that fewer than five users have said; NULL: of fewer than five
    # users, or nobody's any more.
    Column("words", SealedJson("topics", "words", row=("id",))),
    Column("first_run", BigInteger, nullable=False),
    Column("last_run", BigInteger, nullable=False),  # the last that has found it
)

# What a session is mostly about. It is made of what was said there, and goes with it.
session_topics = Table(
    "session_topics",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("topic_id", BigInteger, nullable=False),
    Column("share", Float, nullable=False),  # of what was said there, from 0 to 1
    Column("run", BigInteger, nullable=False),  # that has said so last
)
Index("ix_session_topics_topic_id", session_topics.c.topic_id)

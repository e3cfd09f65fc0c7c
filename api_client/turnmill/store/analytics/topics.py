"""What sessions are about: what is read for it, what is written down, and what is shown."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    func,
    insert,
    null,
    select,
    update,
)

from turnmill.crypto.wanted import KeyWanted
from turnmill.domain.bounds import TOPIC_CHARACTERS, TOPIC_MESSAGES, TOPIC_USERS
from turnmill.domain.content import text_of
from turnmill.domain.errors import StoreError
from turnmill.domain.ids import SessionId
from turnmill.domain.states import SessionStatus
from turnmill.store.codec import parts_from
from turnmill.store.line.copies import is_copy
from turnmill.store.line.topics import hush, lock_topics
from turnmill.store.readable import ODD
from turnmill.store.rules.sealing import sealed_of_house
from turnmill.store.schema.tables import messages, sessions, turns
from turnmill.store.schema.topic_tables import session_topics, topic_runs, topics
from turnmill.store.types import id_text, insert_into
from turnmill.store.vaults import plain, plain_or_none

_SEEN = sessions.c.status != SessionStatus.DELETED
_ROWS_AT_ONCE = 100
#: Where the dice begin in an id that is written with hyphens; the clock is before them.
_CHANCE_FROM = 25
#: Words of a topic that are shown.
_SHOWN = 8

Words = Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Sampled:
    """A session that is read."""

    session_id: SessionId
    user_id: str = field(repr=False)
    gone_until: datetime | None  #: what ended until then is not there any more


@dataclass(frozen=True, slots=True)
class Said:
    """What users have said in some sessions."""

    texts: Mapping[SessionId, str] = field(repr=False)
    wanted: frozenset[str] = field(repr=False)  #: data keys that have to be fetched first
    unreadable: frozenset[SessionId]  #: encrypted, or odd: something of them cannot be read so


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One look at what sessions are about."""

    n: int
    at: datetime
    since: datetime  #: sessions that were active from then on
    sessions: int  #: so many there were
    sampled: int  #: of them, those that were read
    unreadable: int  #: of those, that could not be opened
    users: int  #: whose the read ones are
    components: int
    last_topic: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """What five users or more talk about."""

    id: int  #: it stays the same from night to night
    words: tuple[str, ...] = field(repr=False)  #: the strongest first; each said by five or more
    sessions: int
    users: int
    turns: int  #: that were answered in these sessions
    failed: int  #: that were not
    cost_usd: Decimal  #: of all priced attempts in these sessions
    share: float  #: of the sessions that have a topic, from 0 to 1
    is_new: bool  #: the last run has found it for the first time


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTopic:
    """What one session is mostly about."""

    id: int
    #: empty: of fewer than five users, or they cannot be opened here
    words: tuple[str, ...] = field(repr=False)
    share: float  #: of what its user has said there, from 0 to 1
    sessions: int  #: 1; of a user, so many of his sessions are about it


# What a run reads.


def count_active(conn: Connection, *, since: datetime) -> int:
    """Return how many sessions were active from then on."""
    return conn.scalar(select(func.count()).select_from(sessions).where(_active(since))) or 0


def sample(conn: Connection, *, since: datetime, limit: int) -> list[Sampled]:
    """Return up to `limit` active sessions: by chance, and mostly the same ones every night."""
    chance = func.substr(id_text(sessions.c.id), _CHANCE_FROM)
    query = select(sessions.c.id, sessions.c.user_id, sessions.c.content_gone_until)
    rows = conn.execute(query.where(_active(since)).order_by(chance, sessions.c.id).limit(limit))
    return [Sampled(SessionId(row[0]), row[1], row[2]) for row in rows]


def said_in(conn: Connection, session_ids: Collection[SessionId]) -> Said:
    """Return what users have said first in these sessions: of each 4,000 characters at most."""
    texts: dict[SessionId, str] = {}
    wanted: set[str] = set()
    unreadable: set[SessionId] = set()
    rows = conn.execute(_said(session_ids), execution_options={"yield_per": _ROWS_AT_ONCE})
    for session_id, content in rows:
        so_far = texts.get(session_id, "")
        if len(so_far) >= TOPIC_CHARACTERS:
            continue
        try:
            said = text_of(parts_from(content))
        except KeyWanted as missing:
            wanted.update(missing.ids)
            unreadable.add(session_id)
        except (StoreError, *ODD):
            unreadable.add(session_id)
        else:
            texts[session_id] = f"{so_far}\n{said}"[:TOPIC_CHARACTERS]
    return Said(texts, frozenset(wanted), frozenset(unreadable))


def _said(session_ids: Collection[SessionId]) -> Any:
    first = and_(turns.c.session_id.in_(list(session_ids)), turns.c.seq <= TOPIC_MESSAGES)
    return (
        select(messages.c.session_id, messages.c.content)
        .join(turns, turns.c.id == messages.c.turn_id)
        .where(first, messages.c.role == "user", messages.c.position >= 0)
        .order_by(turns.c.session_id, turns.c.seq, messages.c.position)
    )


def _active(since: datetime) -> ColumnElement[bool]:
    # Whoever brings a key of his own says who may read: this is no errand of his.
    # And what a trial has asked again was said once, in another session.
    is_here = and_(_SEEN, sessions.c.key_id.is_(None), sessions.c.last_active_at >= since)
    return and_(is_here, ~is_copy(sessions.c.id))


def last_run(conn: Connection) -> Run | None:
    """Return the last run; None: there was none."""
    row = conn.execute(select(topic_runs).order_by(topic_runs.c.n.desc()).limit(1)).one_or_none()
    return None if row is None else Run(**row._mapping)


def assigned(conn: Connection, *, since: datetime) -> dict[SessionId, int]:
    """Return what active sessions were about so far, by the numbers of topics."""
    query = select(session_topics.c.session_id, session_topics.c.topic_id).join(
        sessions, sessions.c.id == session_topics.c.session_id
    )
    return {SessionId(row[0]): row[1] for row in conn.execute(query.where(_active(since)))}


def words_of(conn: Connection) -> dict[int, Words]:
    """Return the words of all topics; none where too few users have talked of one."""
    rows = conn.execute(select(topics.c.id, topics.c.words))
    return {row.id: _words(row.words) for row in rows}


def _words(stored: Any) -> Words:
    found = plain(stored)
    return [] if found is None else [(str(word), float(weight)) for word, weight in found]


# What a run writes.


def begin_run(conn: Connection, run: Run, topic_ids: Collection[int]) -> None:
    """Write down the run, and the topics that it has found; new ones have no words so far."""
    names = [column for column in Run.__dataclass_fields__ if column != "at"]
    conn.execute(insert(topic_runs).values({name: getattr(run, name) for name in names}))
    for one in sorted(topic_ids):
        statement = insert_into(conn, topics).values(id=one, first_run=run.n, last_run=run.n)
        again = {"last_run": run.n}
        conn.execute(statement.on_conflict_do_update(index_elements=["id"], set_=again))


def assign(conn: Connection, run: int, found: Sequence[tuple[Sampled, int | None, float]]) -> int:
    """Write down what these sessions are about (None: nothing in particular); how many are.

    One that is gone meanwhile, or of which something is, is left out.
    """
    before = {one.session_id: one.gone_until for one, _, _ in found}
    query = select(sessions.c.id, sessions.c.content_gone_until)
    query = query.where(sessions.c.id.in_(list(before)), _SEEN).order_by(sessions.c.id)
    rows = conn.execute(query.with_for_update(read=True, key_share=True))
    there = {row.id for row in rows if row.content_gone_until == before[row.id]}
    conn.execute(delete(session_topics).where(session_topics.c.session_id.in_(list(before))))
    values = [
        {"session_id": one.session_id, "topic_id": topic, "share": share, "run": run}
        for one, topic, share in found
        if topic is not None and one.session_id in there
    ]
    if values:
        conn.execute(insert(session_topics), values)
    return len(values)


def end_run(conn: Connection, words: Mapping[int, Words], *, keep: int = 400) -> None:
    """Let topics have these words, where they are of five users or more; forget empty ones.

    All topics are locked first: whoever removes a session takes them in the same order.
    """
    lock_topics(conn, list(conn.scalars(select(topics.c.id))))
    for one in sorted(words):
        said = [list(pair) for pair in words[one]] or None
        sealed = sealed_of_house(conn, topics.c.words, str(one), said)
        values = {"words": null() if sealed is None else sealed}
        conn.execute(update(topics).where(topics.c.id == one).values(values))
    any_session = select(session_topics.c.session_id).where(
        session_topics.c.topic_id == topics.c.id
    )
    conn.execute(delete(topics).where(~any_session.exists()))
    hush(conn, list(conn.scalars(select(topics.c.id))))
    last = select(func.max(topic_runs.c.n)).scalar_subquery()
    conn.execute(delete(topic_runs).where(topic_runs.c.n <= last - keep))


# What is shown.


def shown(conn: Connection) -> tuple[list[Topic], int]:
    """Return the topics of five users or more, most sessions first.

    And how many sessions are of topics that have fewer, and are not shown.
    """
    last = conn.scalar(select(func.max(topic_runs.c.n)))
    rows = conn.execute(_figures()).all()
    total = sum(row.sessions for row in rows)
    found = [
        Topic(
            id=row.id,
            words=tuple(word for word, _ in _words(row.words)[:_SHOWN]),
            sessions=row.sessions,
            users=row.users,
            turns=row.turns,
            failed=row.failed,
            cost_usd=Decimal(row.cost_usd),
            share=row.sessions / total,
            is_new=row.first_run == last,
        )
        for row in rows
        if row.users >= TOPIC_USERS and plain(row.words)
    ]
    return found, total - sum(one.sessions for one in found)


def _figures() -> Any:
    count = func.count()
    figures = (
        select(
            session_topics.c.topic_id,
            count.label("sessions"),
            func.count(sessions.c.user_id.distinct()).label("users"),
            func.sum(sessions.c.turns_succeeded).label("turns"),
            func.sum(sessions.c.turns_failed).label("failed"),
            func.sum(sessions.c.cost_usd).label("cost_usd"),
        )
        .join(sessions, sessions.c.id == session_topics.c.session_id)
        .where(_SEEN)
        .group_by(session_topics.c.topic_id)
        .subquery()
    )
    columns = [column for column in figures.c if column.name != "topic_id"]
    return (
        select(topics.c.id, topics.c.words, topics.c.first_run, *columns)
        .join(figures, figures.c.topic_id == topics.c.id)
        .order_by(figures.c.sessions.desc(), topics.c.id)
    )


def of_session(conn: Connection, session_id: SessionId) -> SessionTopic | None:
    """Return what the session is mostly about; None: nothing in particular, or nobody looked."""
    found = _theirs(conn, session_topics.c.session_id == session_id)
    return found[0] if found else None


def of_user(conn: Connection, user_id: str, *, limit: int = 10) -> list[SessionTopic]:
    """Return what most sessions of the user are about."""
    return _theirs(conn, sessions.c.user_id == user_id)[:limit]


def _theirs(conn: Connection, which: ColumnElement[bool]) -> list[SessionTopic]:
    theirs = (
        select(
            session_topics.c.topic_id,
            func.count().label("sessions"),
            func.avg(session_topics.c.share).label("share"),
        )
        .join(sessions, sessions.c.id == session_topics.c.session_id)
        .where(which, _SEEN)
        .group_by(session_topics.c.topic_id)
        .subquery()
    )
    rows = conn.execute(
        select(topics.c.id, topics.c.words, theirs.c.sessions, theirs.c.share)
        .join(theirs, theirs.c.topic_id == topics.c.id)
        .order_by(theirs.c.sessions.desc(), topics.c.id)
    )
    return [
        SessionTopic(
            id=row.id,
            words=tuple(word for word, _ in _words(plain_or_none(row.words))[:_SHOWN]),
            share=float(row.share),
            sessions=row.sessions,
        )
        for row in rows
    ]

"""What sessions are about, found anew: read in chunks, told apart, and written down in chunks.

Nothing of what is read stays but numbers of topics, and words that five users have said. Killed at
any point it leaves what is true of some sessions; the next run sees to all of them.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from turnmill.domain.bounds import TOPIC_SESSIONS
from turnmill.domain.errors import DataKeyMissing
from turnmill.store.analytics import topics as rows
from turnmill.store.analytics.topics import Run, Said, Sampled
from turnmill.store.database import Database
from turnmill_worker.analytics.corpus import Counts
from turnmill_worker.analytics.modelling import FoundTopics, find

T = TypeVar("T")

#: Sessions that were active since are looked at.
LOOKS_BACK = timedelta(days=31)
#: Reading ends after so long: what was read by then is looked at.
_READS_FOR = timedelta(minutes=20)
_READ_AT_ONCE = 100
_WRITTEN_AT_ONCE = 500


def find_topics(
    database: Database, *, since: datetime | None = None, limit: int = TOPIC_SESSIONS
) -> dict[str, int]:
    """Find out what active sessions are about, and write it down; return figures of the run."""
    since = since or datetime.now(UTC) - LOOKS_BACK
    last = database.run_single(rows.last_run)
    active = database.run_single(rows.count_active, since=since)
    sampled, counts, unreadable = _read(database, since, limit)
    so_far = database.run_single(rows.assigned, since=since)
    found = find(
        counts,
        before=[so_far.get(one.session_id) for one in sampled],
        last_topic=last.last_topic if last else 0,
        looked_with=last.components if last else 0,
    )
    run = Run(
        n=last.n + 1 if last else 1,
        at=since,
        since=since,
        sessions=active,
        sampled=len(sampled),
        unreadable=unreadable,
        users=len(set(counts.users)),
        components=found.components,
        last_topic=found.last_topic,
    )
    assigned = _write(database, run, sampled, found)
    return {
        "sessions": active,
        "sampled": len(sampled),
        "unreadable": unreadable,
        "assigned": assigned,
        "topics": sum(bool(words) for words in found.words.values()),
    }


def _read(database: Database, since: datetime, limit: int) -> tuple[list[Sampled], Counts, int]:
    """Return the sessions that were read, what they say, and how many could not be."""
    ends = time.monotonic() + _READS_FOR.total_seconds()
    read: list[Sampled] = []
    counts, unreadable = Counts(), 0
    chosen = database.run_single(rows.sample, since=since, limit=limit)
    for some in _chunked(chosen, _READ_AT_ONCE):
        if time.monotonic() > ends:
            break
        said = _said(database, some)
        for one in some:
            counts.add(one.user_id, said.texts.get(one.session_id, ""))
        read += some
        unreadable += len(said.unreadable)
    return read, counts, unreadable


def _said(database: Database, some: Sequence[Sampled]) -> Said:
    """Return what these sessions say, with the data keys that are missing fetched at once."""
    ids = [one.session_id for one in some]
    said = database.run(rows.said_in, ids)
    if said.wanted and database.keys is not None:
        with suppress(DataKeyMissing):  # of those that can be had, something can be read
            database.keys.fetch(ids=said.wanted)
        said = database.run(rows.said_in, ids)
    return said


def _write(database: Database, run: Run, sampled: Sequence[Sampled], found: FoundTopics) -> int:
    """Write down what was found; words last, when all sessions are where they belong."""
    database.run(rows.begin_run, run, found.words)
    assigned = 0
    lines = list(zip(sampled, found.topics, found.shares, strict=True))
    for some in _chunked(lines, _WRITTEN_AT_ONCE):
        assigned += database.run(rows.assign, run.n, some)
    database.run(rows.end_run, found.words)
    return assigned


def _chunked(many: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for at in range(0, len(many), size):
        yield many[at : at + size]

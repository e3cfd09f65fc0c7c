"""What people talk about: `client.analytics.topics`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from turnmill.store.analytics import topics as rows
from turnmill.store.analytics.topics import Topic
from turnmill.verbs.verb import Connection, Effect, Verb, single

#: Why there are none.
NOT_LOOKED = "nobody has looked so far: workers find topics at night where turnmill[analytics] is"
NOT_READABLE = "what was said is encrypted, and workers have no keys for it"
TOO_FEW = "too few sessions, or none that five users have something to say about"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """What people talk about, as the last night's run has found it."""

    as_of: datetime | None  #: None: nobody has looked so far
    since: datetime | None  #: sessions that were active from then on
    sessions: int  #: so many there were
    sampled: int  #: of them, those that were read
    unreadable: int  #: of those, that could not be opened
    users: int  #: whose the read ones are
    not_shown: int  #: sessions of topics that fewer than five users talk about
    topics: Sequence[Topic] = field(repr=False)  #: most sessions first
    because: str | None = None  #: why there are none


def topics() -> Verb[Topics]:
    """Read what was found, with the figures of these sessions as they are now."""

    def on(conn: Connection) -> Effect[Topics]:
        run = rows.last_run(conn)
        if run is None:
            nothing = Topics(
                as_of=None,
                since=None,
                sessions=0,
                sampled=0,
                unreadable=0,
                users=0,
                not_shown=0,
                topics=(),
                because=NOT_LOOKED,
            )
            return Effect(nothing)
        found, not_shown = rows.shown(conn)
        said = TOO_FEW if run.unreadable < run.sampled else NOT_READABLE
        told = Topics(
            as_of=run.at,
            since=run.since,
            sessions=run.sessions,
            sampled=run.sampled,
            unreadable=run.unreadable,
            users=run.users,
            not_shown=not_shown,
            topics=found,
            because=None if found else said,
        )
        return Effect(told)

    return single(on)

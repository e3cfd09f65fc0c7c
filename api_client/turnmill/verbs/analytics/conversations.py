"""What one session came to, and what a user's did: figures, and what was felt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from turnmill.domain.analytics.satisfaction import (
    Satisfaction,
    SatisfactionEstimate,
    of_session,
    of_sessions,
)
from turnmill.domain.analytics.suggesting.findings import Suggestion
from turnmill.domain.analytics.windows import Window, window
from turnmill.domain.arguments import yes_or_no
from turnmill.domain.bounds import MOST_DAYS
from turnmill.domain.budgets import time_zone
from turnmill.domain.checks import check_name
from turnmill.domain.ids import SessionId
from turnmill.domain.states import SessionStatus
from turnmill.store.analytics import conversations as rows
from turnmill.store.analytics import feedback, topics
from turnmill.store.analytics import suggestions as rules
from turnmill.store.analytics.conversations import Latencies, Lengths, ModelUsage, Spent, TurnCounts
from turnmill.store.analytics.drawn import draw_of
from turnmill.store.analytics.ended_turns import Scope
from turnmill.store.analytics.exchanges import estimate_of
from turnmill.store.analytics.spans import Spread
from turnmill.store.analytics.topics import SessionTopic
from turnmill.store.nouns import sessions
from turnmill.store.records import SessionRecord
from turnmill.verbs.refs import SessionRef, session_id
from turnmill.verbs.verb import Connection, Effect, Verb, single

#: Conversations of a user that his satisfaction is estimated by, the newest ones.
MOST_SESSIONS = 50
#: Turns of all of these together: long conversations leave room for fewer.
_MOST_TURNS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMetrics:
    """What a session came to, as it stands."""

    session_id: SessionId
    user_id: str = field(repr=False)
    provider: str  #: of its own
    model: str
    status: SessionStatus
    created_at: datetime
    counts: TurnCounts
    spent: Spent  #: of turns that have ended, at all models
    models: Sequence[ModelUsage]  #: the dearest first
    latencies: Latencies
    duration: timedelta | None  #: from the first message to the last reply; None: no turn
    active: timedelta | None  #: of it, without silences of more than ten minutes
    satisfaction: Satisfaction
    estimate: SatisfactionEstimate | None  #: what it was made of; None: no turn has ended
    topic: SessionTopic | None  #: that it is about; None: nobody has found any so far
    suggestion: Suggestion | None  #: what might be changed; None: it was not asked for

    @property
    def messages(self) -> int:
        """Return how many messages and replies there are."""
        return self.counts.asked + self.counts.replies


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInsights:
    """What a user's turns in a span of time came to: those that were accepted in it."""

    user_id: str = field(repr=False)
    window: Window
    zone: str  #: of the hours and days
    counts: TurnCounts
    spent: Spent  #: of turns that have ended, at all models
    models: Sequence[ModelUsage]  #: the dearest first
    latencies: Latencies
    lengths: Lengths  #: of sessions
    hours: Sequence[int]  #: turns in each hour of the day, from midnight on
    weekdays: Sequence[int]  #: turns on each day of the week, from Monday on
    satisfaction: Satisfaction
    common_topics: Sequence[SessionTopic]  #: of all his sessions, the most common first
    suggestion: Suggestion | None  #: what might be changed; None: it was not asked for

    @property
    def messages(self) -> int:
        """Return how many messages and replies there are."""
        return self.counts.asked + self.counts.replies


def of_one_session(session: SessionRef, *, suggest: object = False) -> Verb[SessionMetrics]:
    """Read what a session came to."""
    wants = yes_or_no(suggest, name="suggest")

    def on(conn: Connection) -> Effect[SessionMetrics]:
        record = sessions.get(conn, session_id(conn, session))
        which = rows.of_session(record.id)
        models = rows.usage(conn, which)
        lengths = rows.lengths(conn, which)
        estimated = estimate_of(conn, record.id)
        found = SessionMetrics(
            session_id=record.id,
            user_id=record.user_id,
            provider=record.provider,
            model=record.model,
            status=record.status,
            created_at=record.created_at,
            counts=rows.counts(conn, which),
            spent=rows.added_together(models),
            models=models,
            latencies=rows.latencies(conn, which),
            duration=_longest(lengths.duration_ms),
            active=_longest(lengths.active_ms),
            satisfaction=of_session(feedback.given(conn, which), estimated),
            estimate=estimated,
            topic=topics.of_session(conn, record.id),
            suggestion=_suggestion(conn, Scope(window=_since(record), session_id=record.id))
            if wants
            else None,
        )
        return Effect(found)

    return single(on)


def of_one_user(
    user_id: str,
    *,
    since: str | datetime | timedelta,
    until: str | datetime | None,
    zone: str,
    suggest: object = False,
) -> Verb[UserInsights]:
    """Read what a user's turns came to."""
    wants = yes_or_no(suggest, name="suggest")
    name = check_name(user_id, name="user_id")
    place = ZoneInfo(time_zone(zone, name="zone"))
    span = window(since, until, now=datetime.now(UTC), zone=zone)

    def on(conn: Connection) -> Effect[UserInsights]:
        which = rows.of_user(name, since=span.since, until=span.until)
        models = rows.usage(conn, which)
        lengths = rows.lengths(conn, which)
        hours, weekdays = _patterns(rows.quarters(conn, which), place)
        said = feedback.given_by(conn, name, rows.accepted_in(span.since, span.until))
        found = UserInsights(
            user_id=name,
            window=span,
            zone=place.key,
            counts=rows.counts(conn, which),
            spent=rows.added_together(models),
            models=models,
            latencies=rows.latencies(conn, which),
            lengths=lengths,
            hours=hours,
            weekdays=weekdays,
            satisfaction=of_sessions(said, _estimates(conn, which), sessions=lengths.sessions),
            common_topics=topics.of_user(conn, name),
            suggestion=_suggestion(conn, Scope(window=span, user_id=name)) if wants else None,
        )
        return Effect(found)

    return single(on)


def _estimates(conn: Connection, which: rows.Which) -> list[SatisfactionEstimate]:
    """Return what the shapes of the newest conversations say, of as many as there is room for."""
    found: list[SatisfactionEstimate] = []
    room = _MOST_TURNS
    for one in rows.newest_sessions(conn, which, limit=MOST_SESSIONS):
        if room <= 0:
            break
        estimated = estimate_of(conn, one)
        if estimated is not None:
            found.append(estimated)
            room -= estimated.turns
    return found


def _patterns(quarters: Mapping[datetime, int], zone: ZoneInfo) -> tuple[list[int], list[int]]:
    """Return how many turns there are by hour of the day and by day of the week, local ones."""
    hours, weekdays = [0] * 24, [0] * 7
    for start, many in quarters.items():
        local = start.astimezone(zone)
        hours[local.hour] += many
        weekdays[local.weekday()] += many
    return hours, weekdays


def _suggestion(conn: Connection, scope: Scope) -> Suggestion:
    """Look by all rules; some compare with everybody's turns, which takes as long as these."""
    return rules.suggest(conn, scope, drawn=draw_of(conn, scope.window))


def _since(session: SessionRecord) -> Window:
    """Return the time since a session was made, as far back as windows reach."""
    now = datetime.now(UTC)
    longest = timedelta(days=MOST_DAYS - 1)
    made = min(session.created_at, now - timedelta(seconds=1))  # clocks differ
    return Window(max(made, now - longest), now)


def _longest(spread: Spread | None) -> timedelta | None:
    """Return how long the one session is that there is."""
    return None if spread is None else timedelta(milliseconds=spread.highest)

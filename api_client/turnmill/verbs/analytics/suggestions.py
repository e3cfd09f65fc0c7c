"""What could be done better, and how conversations go wrong: of a session, a user, or all."""

from datetime import UTC, datetime, timedelta

from turnmill.domain.analytics.suggesting.findings import Suggestion
from turnmill.domain.analytics.windows import Window, window
from turnmill.domain.arguments import whole, yes_or_no
from turnmill.domain.checks import check_name
from turnmill.domain.errors import InvalidInput
from turnmill.store.analytics import behaviours as behaviour_rows
from turnmill.store.analytics import suggestions as rows
from turnmill.store.analytics.behaviours import BehaviourCluster
from turnmill.store.analytics.drawn import draw_of
from turnmill.store.analytics.ended_turns import Scope
from turnmill.store.nouns import sessions as session_rows
from turnmill.verbs.refs import SessionRef, session_id
from turnmill.verbs.verb import Connection, Effect, Verb, transaction

_WHOSE = "session= or user_id=, or neither for everybody"
_MOST_EXAMPLES = 100

Since = str | datetime | timedelta


def suggest(
    *,
    session: SessionRef | None,
    user_id: object,
    since: Since,
    until: str | datetime | None,
    thorough: object,
) -> Verb[Suggestion]:
    """Look at what turns of the window came to by all rules."""
    span, user = _checked(session, user_id, since, until)
    wholly = yes_or_no(thorough, name="thorough")

    def on(conn: Connection) -> Effect[Suggestion]:
        drawn = None if wholly else draw_of(conn, span)
        return Effect(rows.suggest(conn, _scope(conn, span, session, user), drawn=drawn))

    return transaction(on)


def behaviours(
    *,
    session: SessionRef | None,
    user_id: object,
    since: Since,
    until: str | datetime | None,
    examples: object,
    thorough: object,
) -> Verb[list[BehaviourCluster]]:
    """Count the turns of the window that went wrong in some way."""
    span, user = _checked(session, user_id, since, until)
    wholly = yes_or_no(thorough, name="thorough")
    most = whole(examples, name="examples", least=0, most=_MOST_EXAMPLES)

    def on(conn: Connection) -> Effect[list[BehaviourCluster]]:
        scope = _scope(conn, span, session, user)
        drawn = draw_of(conn, span) if scope.is_whole and not wholly else None
        if drawn is not None:
            scope = drawn.sessions
        return Effect(behaviour_rows.clusters(conn, scope, examples=most))

    return transaction(on)


def _checked(
    session: SessionRef | None, user_id: object, since: Since, until: str | datetime | None
) -> tuple[Window, str | None]:
    if session is not None and user_id is not None:
        raise InvalidInput("either a session is meant or a user", hint=_WHOSE)
    user = None if user_id is None else check_name(user_id, name="user_id")
    return window(since, until, now=datetime.now(UTC)), user


def _scope(
    conn: Connection, span: Window, session: SessionRef | None, user_id: str | None
) -> Scope:
    """Return the scope; raises SessionNotFound."""
    found = None
    if session is not None:
        found = session_rows.get(conn, session_id(conn, session)).id
    return Scope(window=span, session_id=found, user_id=user_id)

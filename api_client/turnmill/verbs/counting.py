"""Counting: `client.count_tokens`, what a message would have a model read."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, NamedTuple, Protocol

from turnmill.domain.arguments import yes_or_no
from turnmill.domain.content import Message
from turnmill.domain.counting import TokenCount, most_tokens
from turnmill.domain.errors import InvalidInput, MissingExtra
from turnmill.settings import Settings
from turnmill.store.line.compactions import history_after
from turnmill.store.line.history import succeeded_history
from turnmill.store.nouns import sessions as rows
from turnmill.store.records import SessionRecord
from turnmill.verbs.refs import SessionRef, session_id
from turnmill.verbs.verb import Connection, Effect, Verb, single

#: The worker's half registers what counts under it.
_COUNTERS = "turnmill.counters"


class Spoken(NamedTuple):
    """A session, and what its model is shown of it."""

    session: SessionRecord
    history: Sequence[Message]


class _Counter(Protocol):
    def __call__(
        self,
        session: SessionRecord,
        history: Sequence[Message],
        said: Sequence[Message],
        *,
        exact: bool,
        settings: Settings,
    ) -> int | None: ...


def spoken(session: SessionRef) -> Verb[Spoken]:
    """Read what stands before a message to the session."""

    def on(conn: Connection) -> Effect[Spoken]:
        target = session_id(conn, session)
        record = rows.get(conn, target)
        shortened = record.settings.get("on_context_full") in ("truncate", "summarise")
        history = (history_after if shortened else succeeded_history)(conn, target)
        return Effect(Spoken(record, history))

    return single(on)


def counted(
    before: Spoken, said: Sequence[Message], *, exact: object, settings: Settings
) -> TokenCount:
    """Return how many tokens it is; asks a vendor only where that is wanted."""
    asks = yes_or_no(exact, name="exact")
    counter = _counter()
    if counter is not None:
        session, history = before
        tokens = counter(session, history, said, exact=asks, settings=settings)
    elif asks:
        raise MissingExtra(
            "a vendor is asked by the worker half, which is not installed here",
            hint="pip install 'turnmill[worker]'",
        )
    else:
        tokens = _without_worker(before, said)
    if tokens is None:
        raise InvalidInput(
            "nobody can tell how many tokens it takes", hint="text alone can be counted"
        )
    return TokenCount(tokens, exact=asks)


def _without_worker(before: Spoken, said: Sequence[Message]) -> int | None:
    session = before.session
    others = [session.system_prompt or "", *map(str, _forms(session.settings))]
    return most_tokens([*before.history, *said], others=others, tools=len(others) - 1)


def _forms(settings: Any) -> list[Any]:
    """Return what is sent of tools, as far as the session says it, and of the reply's form."""
    tools = [*settings.get("tools", ())]
    form = settings.get("response_format")
    return tools if form is None else [*tools, form]


def _counter() -> _Counter | None:
    found = entry_points(group=_COUNTERS, name="provider")
    try:
        counter: _Counter | None = next((one.load() for one in found), None)
    except ImportError:
        return None
    return counter

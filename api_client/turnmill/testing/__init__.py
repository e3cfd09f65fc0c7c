"""For tests of applications: a client that needs no server, and scripts for the mock provider.

from turnmill.testing import memory_client, script

def test_my_bot_apologises_when_the_model_is_down():
    with memory_client() as client:
        session = client.sessions.create(user_id="ada", max_attempts=1)
        turn = client.send(session, "Hello", metadata=script(faults="overloaded"))
        ...
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from turnmill.aio.client import AsyncClient
from turnmill.domain.errors import InvalidInput, MissingExtra, TurnTimeout
from turnmill.domain.states import FINAL
from turnmill.listening.watchlist import Deadline
from turnmill.settings import Settings
from turnmill.store.nouns.tool_calls import ToolCallRecord
from turnmill.sync.client import Client
from turnmill.sync.turns import Turn
from turnmill.tools import Tool

_LOOK_EVERY = 0.02  #: seconds


def memory_client(*, tools: Sequence[Tool[..., Any]] = ()) -> Client:
    """Return a client whose store lives in memory and whose turns run in this process.

    It keeps order, retries, history, steps and streams as a real one does. `tools` are those that
    its worker has; a session still says which of them its model may call. Needs the extra `worker`.
    """
    return Client(settings=_in_memory(tools))


def async_memory_client(*, tools: Sequence[Tool[..., Any]] = ()) -> AsyncClient:
    """Return the same for asyncio. See `memory_client`."""
    return AsyncClient(settings=_in_memory(tools))


def _in_memory(tools: Sequence[Tool[..., Any]]) -> Settings:
    return Settings(database_url="sqlite://", grace=timedelta(seconds=1), tools=tuple(tools))


#: A call that the model is to make: of a tool, or of one by its name.
Called = tuple[str | Tool[..., Any], Mapping[str, Any] | str]


def script(
    *,
    faults: str | Mapping[str, int] | Sequence[str | Mapping[str, int]] = (),
    at_step: int | None = None,
    reply: object = None,
    replies: Sequence[object] | None = None,
    chunks: Sequence[str] | None = None,
    tokens_per_second: float | None = None,
    calls: Sequence[Called] | None = None,
    rounds: int | Sequence[Sequence[Called]] | None = None,
    before_calls: str | None = None,
    transcript: str | None = None,
    latency: timedelta | None = None,
    retry_after: timedelta | None = None,
) -> Mapping[str, Any]:
    """Return metadata for `send` that tells the mock provider what to do.

    `faults` has one entry for each attempt, "ok" for none and ever after; one word goes for every
    attempt, and `{"cut": 3}` comes after three pieces of the reply; `at_step` says in which step
    they come. `turnmill_worker.providers.mock.provider` lists them. `reply` is a text, or what
    becomes JSON, as structured output does: a pydantic model, say; `replies` are one for each time
    that the turn is answered, as after a reply that has not its form. `chunks` are the reply in the
    pieces in which it streams.

    `calls=[("weather", {"city": "Rome"})]` are the tools that it calls first, all at once, in so
    many `rounds`; or `rounds` are the calls of each step. Their outputs are in its answer, or stand
    for `{outputs}` in what it is told to say. `transcript` is what it hears in a sound.

    Raises InvalidInput for what contradicts itself; the mock refuses all else that is nonsense.
    """
    if sum(one is not None for one in (reply, replies, chunks)) > 1:
        raise InvalidInput(
            "a script has a reply, replies or chunks", hint='chunks=["It is ", "so"]'
        )
    if isinstance(rounds, int) and calls is None:
        raise InvalidInput("rounds go with calls", hint='calls=[("weather", {})], rounds=3')
    if rounds is not None and not isinstance(rounds, int) and calls is not None:
        raise InvalidInput("with a list of rounds, calls stand in there", hint="leave out calls")
    told: dict[str, Any] = {
        "at_step": at_step,
        "reply": None if reply is None else _as_text(reply),
        "replies": None if replies is None else [*map(_as_text, _each(replies, name="replies"))],
        "chunks": None if chunks is None else _each(chunks, name="chunks"),
        "tokens_per_second": tokens_per_second,
        "calls": None if calls is None else _plain(calls),
        "rounds": rounds if rounds is None or isinstance(rounds, int) else [*map(_plain, rounds)],
        "before_calls": before_calls,
        "transcript": transcript,
        "latency": _seconds(latency, name="latency"),
        "retry_after": _seconds(retry_after, name="retry_after"),
    }
    told = {key: value for key, value in told.items() if value is not None}
    if faults:
        told["faults"] = (
            faults if isinstance(faults, str | Mapping) else _each(faults, name="faults")
        )
    return {"mock": told}


def _seconds(span: timedelta | None, *, name: str) -> float | None:
    if span is not None and not isinstance(span, timedelta):
        raise InvalidInput(f"{name} must be a timedelta", hint=f"{name}=timedelta(seconds=3)")
    return None if span is None else span.total_seconds()


def _each(values: Sequence[Any], *, name: str) -> list[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidInput(f"{name} must be a list", hint=f"{name}=[…]")
    return list(values)


def _plain(calls: Sequence[Called]) -> list[list[Any]]:
    """Return calls as JSON has them; raises InvalidInput for what is none."""
    try:
        pairs = [(tool, arguments) for tool, arguments in calls]
    except (TypeError, ValueError):
        raise InvalidInput(
            "a call is a tool and its arguments", hint='calls=[("weather", {"city": "Rome"})]'
        ) from None
    return [[getattr(tool, "name", tool), arguments] for tool, arguments in pairs]


def _as_text(reply: object) -> str:
    """Return a text as it is, and anything else as JSON; raises InvalidInput for what is none."""
    if isinstance(reply, str):
        return reply
    as_json = getattr(reply, "model_dump_json", None)
    try:
        return str(as_json()) if callable(as_json) else json.dumps(reply, ensure_ascii=False)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"a reply is a {type(reply).__name__}, which is no JSON", hint="a text, or a dict"
        ) from None


def wait_for_calls(
    turn: Turn, *, timeout: float | timedelta = timedelta(seconds=10)
) -> Sequence[ToolCallRecord]:
    """Return the calls of a turn that wait for somebody outside, as soon as there are any.

    Raises TurnTimeout where there are none by then, or the turn has ended without.
    """
    deadline = Deadline(timeout)
    while True:
        if waiting := [one for one in turn.tool_calls() if one.waits_for is not None]:
            return waiting
        if deadline.passed or turn.refresh().state in FINAL:
            raise TurnTimeout(f"turn {turn.id}: no call waits for anybody")
        time.sleep(_LOOK_EVERY)


def messages_seen(reply: str) -> int:
    """Return how many messages of the history the mock was shown, from the text of its reply."""
    try:
        from turnmill_worker.providers.mock import provider as mock  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra(
            f"the mock provider belongs to the worker half ({error.name} is missing)",
            hint="pip install 'turnmill[worker]'",
        ) from None
    return mock.messages_seen(reply)

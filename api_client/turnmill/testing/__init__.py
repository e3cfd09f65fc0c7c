"""For tests of applications: a client that needs no server, and scripts for the mock provider.

from turnmill.testing import memory_client, script

def test_my_bot_apologises_when_the_model_is_down():
    with memory_client() as client:
        session = client.sessions.create(user_id="ada", max_attempts=1)
        turn = client.send(session, "Hello", metadata=script(faults="overloaded"))
        ...
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from turnmill.domain.errors import InvalidInput, MissingExtra
from turnmill.settings import Settings
from turnmill.sync.client import Client


def memory_client() -> Client:
    """Return a client whose store lives in memory and whose turns run in this process.

    It keeps order, retries and history as a real one does. Needs the extra `worker`.
    """
    return Client(settings=Settings(database_url="sqlite://", grace=timedelta(seconds=1)))


def script(
    *,
    faults: str | Mapping[str, int] | Sequence[str | Mapping[str, int]] = (),
    reply: str | None = None,
    chunks: Sequence[str] | None = None,
    tokens_per_second: float | None = None,
    calls: Sequence[tuple[str, Mapping[str, Any] | str]] | None = None,
    rounds: int | None = None,
    latency: timedelta | None = None,
    retry_after: timedelta | None = None,
) -> Mapping[str, Any]:
    """Return metadata for `send` that tells the mock provider what to do.

    `faults` has one entry for each attempt, "ok" for none and ever after; one word goes for every
    attempt, and `{"cut": 3}` comes after three pieces of the reply.
    `turnmill_worker.providers.mock.provider` lists them. `chunks` are the reply in the pieces in
    which it streams. `calls=[("weather", {"city": "Rome"})]` are the tools that it calls first, all
    at once, in so many `rounds`; their outputs are in its answer, or stand for `{outputs}` in what
    it is told to say.

    Raises InvalidInput for what contradicts itself; the mock refuses all else that is nonsense.
    """
    if reply is not None and chunks is not None:
        raise InvalidInput("a script has a reply or chunks", hint='chunks=["It is ", "sunny."]')
    if rounds is not None and calls is None:
        raise InvalidInput("rounds go with calls", hint='calls=[("weather", {})], rounds=3')
    told: dict[str, Any] = {
        "reply": reply,
        "chunks": None if chunks is None else list(chunks),
        "tokens_per_second": tokens_per_second,
        "calls": None if calls is None else [list(call) for call in calls],
        "rounds": rounds,
        "latency": None if latency is None else latency.total_seconds(),
        "retry_after": None if retry_after is None else retry_after.total_seconds(),
    }
    told = {key: value for key, value in told.items() if value is not None}
    if faults:
        told["faults"] = faults if isinstance(faults, str | Mapping) else list(faults)
    return {"mock": told}


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

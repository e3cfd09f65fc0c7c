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

from turnmill.domain.errors import MissingExtra
from turnmill.settings import Settings
from turnmill.sync.client import Client


def memory_client() -> Client:
    """Return a client whose store lives in memory and whose turns run in this process.

    It keeps order, retries and history as a real one does. Needs the extra `worker`.
    """
    return Client(settings=Settings(database_url="sqlite://", grace=timedelta(seconds=1)))


def script(
    *,
    faults: str | Sequence[str] = (),
    reply: str | None = None,
    latency: timedelta | None = None,
    retry_after: timedelta | None = None,
) -> Mapping[str, Any]:
    """Return metadata for `send` that tells the mock provider what to do.

    `faults` has one entry for each attempt, "ok" for none and ever after; one word goes for every
    attempt. `turnmill_worker.providers.mock.provider` lists them.
    """
    told: dict[str, Any] = {}
    if faults:
        told["faults"] = faults if isinstance(faults, str) else list(faults)
    if reply is not None:
        told["reply"] = reply
    if latency is not None:
        told["latency"] = latency.total_seconds()
    if retry_after is not None:
        told["retry_after"] = retry_after.total_seconds()
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

"""A client that dies at a named point: `python -m tests.chaos.faulty_client POINT SESSION KEY`."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy import create_engine

from turnmill import Client
from turnmill.store.database import parse_url

TEXT = "said once"


def die(*_: Any) -> Any:
    """Die without a word."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def before_commit(client: Client, session: str, key: str) -> None:
    """Die inside the caller's transaction."""
    with create_engine(parse_url(client.settings.database_url)).begin() as conn:
        client.send(session, TEXT, idempotency_key=key, connection=conn)
        die()


def after_commit(client: Client, session: str, key: str) -> None:
    """Die when the caller's transaction stands."""
    with create_engine(parse_url(client.settings.database_url)).begin() as conn:
        client.send(session, TEXT, idempotency_key=key, connection=conn)
    die()


def before_publish(client: Client, session: str, key: str) -> None:
    """Die when the message stands and nobody was told."""
    client._executor.announcer.announce = die  # type: ignore[method-assign,assignment]
    client.send(session, TEXT, idempotency_key=key)


def before_response(client: Client, session: str, key: str) -> None:
    """Die when all is done, before anybody learns of it."""
    client.send(session, TEXT, idempotency_key=key)
    die()


POINTS: dict[str, Callable[[Client, str, str], None]] = {
    "before_commit": before_commit,
    "after_commit": after_commit,
    "before_publish": before_publish,
    "before_response": before_response,
}

if __name__ == "__main__":
    POINTS[sys.argv[1]](Client.from_env(), sys.argv[2], sys.argv[3])

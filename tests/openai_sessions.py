"""Sessions at the stand-in for OpenAI, from `send` to what it holds of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from tests import steps
from tests.doubles.on_a_thread import Vendor
from tests.doubles.openai_server import KEY, OpenAIDouble
from turnmill import Client, Reply, Turn
from turnmill.domain.ids import SessionId
from turnmill.store import kept
from turnmill.store.database import Database
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.testing import memory_client

WAIT = 20


@contextmanager
def sound_client() -> Iterator[Client]:
    """Return a client that runs its own turns; its rows break no promise in the end."""
    with memory_client() as client:
        yield client
        steps.assert_sound(store_of(client))


@contextmanager
def vendor_at_hand(monkeypatch: pytest.MonkeyPatch, *double: OpenAIDouble) -> Iterator[Vendor]:
    """Give a stand-in which this process takes for OpenAI, and has a key of."""
    vendor = Vendor(*double)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", vendor.double.base_url)
    try:
        yield vendor
    finally:
        vendor.stop()


def store_of(client: Client) -> Database:
    """Return the store behind a client."""
    return client._executor.database


def start(client: Client, **options: Any) -> SessionId:
    given = {"thread": "conversation"} | options
    return client.sessions.create(user_id="ada", provider="openai", model="gpt-5-mini", **given).id


def ask(client: Client, session: SessionId, text: str, **options: Any) -> Reply:
    turn: Turn = client.send(session, text, **options)
    return turn.result(timeout=WAIT)


def conversation(vendor: Vendor) -> str:
    """Return the only one that there is."""
    (ref,) = vendor.double.conversations
    return ref


def said(vendor: Vendor, ref: str) -> list[str]:
    """Return the words in a conversation, oldest first; of other items, their types."""
    items = vendor.double.conversations.items_of(ref)
    return [
        "".join(block["text"] for block in one["content"])
        if one["type"] == "message"
        else one["type"]
        for one in items
        if one["type"] != "reasoning"
    ]


def words_of(body: dict[str, Any]) -> list[str]:
    """Return what a call has said, message by message."""
    return [
        one["content"] if isinstance(one["content"], str) else one["content"][0]["text"]
        for one in body["input"]
    ]


def backlog(store: Database) -> list[kept.Backlog]:
    """Return what is still to be given up at the vendor."""
    with store.begin() as conn:
        return kept.backlog(conn)


def owed(store: Database) -> int:
    """Return how much that is."""
    return sum(one.count for one in backlog(store))


def closing_due_now(store: Database) -> None:
    """Let what could not be given up be tried again at once."""
    with store.begin() as conn:
        due = update(kept_refs).where(kept_refs.c.due_at.is_not(None))
        conn.execute(due.values(due_at=datetime.now(UTC)))

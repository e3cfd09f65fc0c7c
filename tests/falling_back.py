"""Sessions whose vendor fails and whose other one answers, for tests of who does."""

from typing import Any

from sqlalchemy import exists, select

from turnmill import Client, Reply, SessionRecord
from turnmill.store.schema.kept_tables import kept_refs

WAIT = 20
MODELS = {"openai": "gpt-5-mini", "anthropic": "claude-sonnet-4-5"}
OTHER = {"openai": "anthropic", "anthropic": "openai"}
NAMES = {vendor: f"{vendor}/{model}" for vendor, model in MODELS.items()}


def a_session(client: Client, own: str = "openai", **options: Any) -> SessionRecord:
    given = {"fallback": [NAMES[OTHER[own]]]} | options
    return client.sessions.create(user_id="ada", provider=own, model=MODELS[own], **given)


def told(client: Client, session: SessionRecord, text: str = "Hello") -> Reply:
    return client.send(session, text).result(timeout=WAIT)


def who(reply: Reply) -> list[str | None]:
    return [one.provider for one in reply.attempts if one.kind == "send"]


def owed(client: Client) -> bool:
    with client._executor.database.begin() as conn:
        return conn.scalar(select(exists().where(kept_refs.c.due_at.is_not(None)))) or False

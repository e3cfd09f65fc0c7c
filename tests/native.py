"""Batches at stand-ins of their vendors: submitted, polled, and looked at, for tests."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from sqlalchemy import func, select, update

from turnmill.domain.batches import BatchMode, BatchState
from turnmill.domain.content import Message
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import Lane
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns import batches as rows
from turnmill.store.nouns.batches import Line
from turnmill.store.postgres.batching import park
from turnmill.store.records import NewSession, NewTurn
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.schema.tables import attempts, batches, turns
from turnmill.store.types import db_now
from turnmill_worker.native.polling import Polling
from turnmill_worker.native.taking import Prices
from turnmill_worker.native.tending import Pace
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.own_prices import Prices as Listed
from turnmill_worker.providers.port import Provider

MODELS = {"openai": "gpt-4.1-mini", "anthropic": "claude-sonnet-4-5"}
POLL = timedelta(seconds=0.05)


def provider_at(name: str, base_url: str) -> Any:
    """Return the provider, speaking to a stand-in."""
    if name == "openai":
        return OpenAIProvider(AsyncOpenAI(api_key="sk-double", base_url=base_url, max_retries=0))
    sdk = AsyncAnthropic(api_key="sk-ant-double", base_url=base_url, max_retries=0)
    return AnthropicProvider(sdk)


def polling(database: Database, provider: Provider, **given: Any) -> Polling:
    """Return what sees to batches at this provider."""
    listed = Listed()
    prices = Prices(price=listed.price, source=listed.source)
    pace = Pace(poll=given.pop("poll", POLL), lease=given.pop("lease", timedelta(seconds=3)))
    return Polling(database, lambda _: provider, prices, owner="here", pace=pace, **given)


def submit(
    database: Database,
    n: int,
    *,
    provider: str,
    settings: dict[str, Any] | None = None,
    on_leftover: str = "live",
    name: str = "",
    turns_each: int = 1,
) -> BatchId:
    """Let a batch of so many lines stand, all of them parked."""
    batch_id = BatchId(new_id())
    with database.begin() as conn:
        rows.create(conn, batch_id, name=name or str(batch_id), content_hash=b"", metadata={})
        values = {"mode": BatchMode.NATIVE, "state": BatchState.RUNNING, "sealed_at": db_now()}
        conn.execute(
            update(batches)
            .where(batches.c.id == batch_id)
            .values(**values, on_leftover=on_leftover, total=n * turns_each)
        )
    for start in range(0, n, 500):
        with database.begin() as conn:
            for wave in range(turns_each):
                lines = [
                    _line(batch_id, wave * n + number + 1, number, wave, provider, settings or {})
                    for number in range(start, min(start + 500, n))
                ]
                accepted = rows.accept_lines(conn, batch_id, lines)
                park(conn, [one.turn_id for one in accepted])
    return batch_id


def states(database: Database, batch_id: BatchId) -> Counter[str]:
    """Return how many turns are in which state."""
    with database.single() as conn:
        query = select(turns.c.state, func.count()).group_by(turns.c.state)
        rows_ = conn.execute(query.where(turns.c.batch_id == batch_id))
        return Counter(dict(rows_.all()))


def spent(database: Database, batch_id: BatchId) -> tuple[Decimal, int]:
    """Return what the turns of a batch have cost, and how many attempts of them were priced."""
    with database.single() as conn:
        query = (
            select(func.coalesce(func.sum(attempts.c.cost_usd), 0), func.count(attempts.c.cost_usd))
            .join(turns, turns.c.id == attempts.c.turn_id)
            .where(turns.c.batch_id == batch_id)
        )
        row = conn.execute(query).one()
        return row[0], row[1]


def shard_states(database: Database, batch_id: BatchId) -> Sequence[tuple[str, str, str | None]]:
    """Return the state, the vendor's status and the code of each shard."""
    s = batch_shards.c
    with database.single() as conn:
        query = select(s.state, s.status, s.error_code).where(s.batch_id == batch_id).order_by(s.n)
        return [tuple(row) for row in conn.execute(query)]


def _line(
    batch_id: BatchId, line: int, number: int, wave: int, provider: str, settings: dict[str, Any]
) -> Line:
    key = f"{batch_id}:{number}"
    session: NewSession | SessionId | str = key
    if wave == 0:
        session = NewSession(
            id=SessionId(new_id()),
            user_id=f"user-{number % 7}",
            provider=provider,
            model=MODELS[provider],
            key=key,
            settings=settings,
        )
    turn = NewTurn(
        id=TurnId(new_id()),
        messages=[Message.of("user", f"say {number} of {wave}")],
        lane=Lane.BULK,
        batch_id=batch_id,
        batch_line=line,
        custom_id=f"line-{line}",
    )
    return Line(number=line, session=session, turn=turn)

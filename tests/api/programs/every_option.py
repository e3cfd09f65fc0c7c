"""A user's program that states every option: a type checker knows all of them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import assert_type

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Session

from turnmill import (
    AsyncBatch,
    AsyncClient,
    AsyncTurn,
    Batch,
    BatchCounts,
    BatchResult,
    BehaviourCluster,
    Client,
    Event,
    EventKind,
    EventReader,
    Keeping,
    LaneLoad,
    LimitRecord,
    Pauses,
    Reply,
    Report,
    SessionRecord,
    Settings,
    Suggestion,
    Topics,
    Turn,
    TurnRecord,
)

LATER = datetime.now(UTC) + timedelta(hours=1)


def limits(client: Client) -> None:
    limit = client.limits.set(
        provider="mock",
        model="mock",
        requests_per_minute=600,
        tokens_per_minute=90_000,
        concurrent=20,
        force=True,
    )
    assert_type(limit, LimitRecord)
    assert_type(client.limits.get(provider="mock", model="mock"), LimitRecord | None)
    client.limits.remove(provider="mock", model="mock")
    for account in client.accounts.list():
        assert_type(client.accounts.open(provider=account.provider, model=account.model), int)


def on_threads(connection: Connection, orm: Session) -> None:
    client = Client(database_url="postgresql://", broker_url="redis://", settings=Settings())
    session = client.sessions.create(
        user_id="ada",
        provider="openai",
        model="gpt",
        key="ada:1",
        system_prompt="be kind",
        settings={"temperature": 0.1},
        metadata={"team": 1},
        on_failure="pause",
        on_ambiguous="hold",
        max_attempts=3,
        idle_ttl=timedelta(days=1),
        thread="conversation",
        prompt={"id": "pmpt_1", "version": "2", "variables": {"city": "Rome"}},
        adopt="conv_1",
    )
    assert_type(session, SessionRecord)
    changed = client.sessions.update(
        session,
        model="gpt",
        system_prompt=None,
        settings={},
        metadata={},
        on_failure="continue",
        on_ambiguous="retry",
        max_attempts=1,
        idle_ttl=None,
        thread="chain",
        prompt="pmpt_1",
    )
    assert_type(changed, SessionRecord)
    turn = client.send(
        session,
        "hello",
        lane="bulk",
        idempotency_key="k",
        deliver_at=LATER,
        expires=LATER,
        metadata={},
        max_attempts=1,
        connection=connection,
    )
    assert_type(turn, Turn)
    assert_type(turn.record, TurnRecord)
    assert_type(turn.result(timeout=timedelta(seconds=1)), Reply)
    client.send(session.id, "hello", connection=orm)
    many = client.send_many(
        [(session, "hello"), ("ada:1", "again")],
        lane="interactive",
        idempotency_key="k",
        deliver_at=LATER,
        expires=LATER,
        metadata={},
        max_attempts=1,
    )
    assert_type(many, list[Turn])
    batch = client.batches.create(
        Path("jobs.jsonl"),
        mode="live",
        name="nightly",
        provider="mock",
        model="mock",
        on_accepted=lambda done, total: None,
    )
    assert_type(batch, Batch)
    assert_type(batch.counts, BatchCounts)
    assert_type(batch.wait(progress=True, timeout=1), BatchCounts)
    assert_type(next(batch.iter_results()), BatchResult)
    assert_type(client.lanes.paused(), Pauses)
    for load in client.lanes.loads():
        assert_type(load, LaneLoad)
    client.lanes.pause(lane="bulk", provider="mock", force=True)
    assert_type(client.analytics.report(days=1, by_day=False, refresh=False), Report)
    assert_type(client.analytics.topics(), Topics)
    assert_type(client.analytics.behaviours(since="7d", examples=0), list[BehaviourCluster])
    assert_type(client.analytics.suggest(user_id="ada", since=timedelta(days=7)), Suggestion)
    assert_type(client.sessions.kept(session), Keeping)


def events(client: Client) -> None:
    found = client.events.read(
        after=1, session="ada:1", kinds=["turn.failed", EventKind.DEAD], limit=5
    )
    assert_type(found, list[Event])
    for event in client.events.follow(reader="bill", kinds=[], timeout=timedelta(seconds=1)):
        client.events.passed("bill", event)
    client.events.park_reader("bill", parked=False)
    assert_type(client.events.readers(), list[EventReader])


async def on_asyncio(connection: AsyncConnection) -> None:
    async with AsyncClient.from_env() as client:
        session = await client.sessions.create(user_id="ada", idle_ttl=timedelta(days=1))
        await client.sessions.update(session, system_prompt="be kind", max_attempts=2)
        turn = await client.send(session, "hello", deliver_at=LATER, connection=connection)
        assert_type(turn, AsyncTurn)
        assert_type(await turn.result(timeout=1), Reply)
        assert_type(await client.send_many([(session, "hello")], metadata={}), list[AsyncTurn])
        batch = await client.batches.create("jobs.jsonl", name="nightly")
        assert_type(batch, AsyncBatch)
        assert_type(await batch.counts, BatchCounts)
        async for result in batch.iter_results():
            assert_type(result, BatchResult)
        async for event in client.events.follow(timeout=1.0):
            assert_type(event, Event)
        assert_type(await client.lanes.paused(), Pauses)
        assert_type(await client.analytics.report(days=1), Report)

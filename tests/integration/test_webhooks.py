"""Webhooks: signed, tried for a day, parked, released, sent again, and told of in a log."""

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update
from standardwebhooks import Webhook as Verifier

from tests import rows, steps
from tests.crowd import until_blocked
from tests.waiting import async_until
from turnmill.domain.errors import MoveRefused
from turnmill.domain.hearing import asked
from turnmill.net.public_address import Reach
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.hook_records import DeliveryState, Room, Sent, Webhook
from turnmill.store.nouns import delivering, sessions, webhooks
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.hook_tables import deliveries
from turnmill_worker.webhooks.posting import Posting

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + "QUJD" * 11
OTHER = "whsec_" + "REVG" * 11


@dataclass
class Address:
    """Somebody who listens, and answers as he is told to."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)  #: of the next requests; then 204
    retry_after: str = ""  #: what a refusal says of when to come again
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.heard]


@asynccontextmanager
async def listening() -> AsyncIterator[Address]:
    address = Address()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers["Content-Length"]))
        status = address.statuses.pop(0) if address.statuses else 204
        address.heard.append((headers, body))
        asks = f"Retry-After: {address.retry_after}\r\n" if address.retry_after else ""
        writer.write(f"HTTP/1.1 {status} So\r\n{asks}Content-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        yield address


@asynccontextmanager
async def posting(store: Database, *, owner: str = "a") -> AsyncIterator[None]:
    post = Posting(store, owner=owner, reach=Reach.of(["127.0.0.1/32"]), timeout=5)
    task = asyncio.create_task(post.run())
    try:
        yield
    finally:
        post.stop()
        await asyncio.wait_for(task, timeout=20)


def created(store: Database, url: str, *kinds: str, content: bool = False) -> Webhook:
    with store.begin() as conn:
        return webhooks.create(
            conn,
            new_id(),
            url=url,
            asked=asked(kinds or ("turn.settled",)),
            secret=SECRET,
            include_content=content,
        )


def answered(store: Database, count: int = 1) -> Any:
    line = rows.start(store)
    for _ in range(count):
        steps.answer(store, steps.send(store, line).turn_id)
    return line


def now(store: Database, hook: Webhook) -> Webhook:
    with store.begin() as conn:
        return webhooks.get(conn, hook.id)


def room(hook: Webhook, most: int) -> Room:
    """Return room for so many deliveries to it."""
    return Room(most=most, quick={hook.id: most}, others={}, most_of_others=0)


def log(store: Database, hook: Webhook) -> list[Any]:
    with store.begin() as conn:
        return webhooks.log(conn, hook.id)


def has_come_to(store: Database, hook: Webhook, status: int) -> bool:
    """Tell whether the only delivery was last answered so, and that is written."""
    return [one.status for one in log(store, hook)] == [status]


def hurry(store: Database) -> None:
    """Let what is tried later be due now."""
    with store.begin() as conn:
        past = datetime.now(UTC) - timedelta(hours=1)
        conn.execute(update(deliveries).where(deliveries.c.due_at.is_not(None)).values(due_at=past))


async def test_an_event_is_sent_signed_with_ids_and_states_alone(store: Database) -> None:
    async with listening() as address:
        created(store, address.url)
        line = answered(store)
        async with posting(store):
            await async_until(lambda: len(address.heard) == 1)
    headers, body = address.heard[0]
    said = Verifier(SECRET).verify(body.decode(), headers)
    assert (said["type"], said["data"]["state"]) == ("turn.settled", "succeeded")
    assert said["data"]["session_id"] == str(line)
    assert str(UUID(said["data"]["turn_id"])) == said["data"]["turn_id"]
    assert set(said["data"]) == {"event_id", "session_id", "turn_id", "n", "state"}
    assert datetime.fromisoformat(said["timestamp"]).tzinfo is not None


async def test_the_words_of_a_reply_go_along_where_that_was_asked_for(store: Database) -> None:
    async with listening() as address:
        created(store, address.url, content=True)
        answered(store)
        async with posting(store):
            await async_until(lambda: len(address.heard) == 1)
    content = json.loads(address.heard[0][1])["data"]["content"]
    assert content["text"] and content["cut"] is False


async def test_what_happened_before_there_was_a_webhook_is_not_sent(store: Database) -> None:
    answered(store, 2)
    async with listening() as address:
        created(store, address.url)
        answered(store)
        async with posting(store):
            await async_until(lambda: len(address.heard) == 1)
            await async_until(lambda: not log(store, now_first(store))[0].due_at)
    assert len(log_of_all(store)) == 1


def now_first(store: Database) -> Webhook:
    with store.begin() as conn:
        return webhooks.find(conn)[0]


def log_of_all(store: Database) -> list[Any]:
    with store.begin() as conn:
        return list(conn.execute(select(deliveries.c.id)))


async def test_two_processes_send_each_event_once(store: Database) -> None:
    async with listening() as address:
        created(store, address.url)
        answered(store, 40)
        async with posting(store), posting(store, owner="b"):
            await async_until(lambda: len(address.heard) >= 40)
            await async_until(lambda: now_first(store).waiting == 0)
    ids = [headers["webhook-id"] for headers, _ in address.heard]
    assert len(ids) == len(set(ids)) == 40


async def test_what_was_not_taken_is_sent_again_under_the_same_id(store: Database) -> None:
    async with listening() as address:
        hook = created(store, address.url)
        address.statuses = [500, 302]
        answered(store)
        async with posting(store):
            for status in (500, 302, 204):
                await async_until(partial(has_come_to, store, hook, status))
                hurry(store)
            await async_until(lambda: now(store, hook).waiting == 0)
    assert len({headers["webhook-id"] for headers, _ in address.heard}) == 1
    (one,) = log(store, hook)
    assert (one.state, one.tries, one.status) == (DeliveryState.DELIVERED, 3, 204)


@pytest.mark.parametrize(
    ("asks", "least", "most"),
    [("1200", 19, 21), ("0", 0, 1), ("soon", 0, 1), ("1e9", 59, 61)],
)
async def test_one_that_says_when_to_come_again_is_left_alone_until_then_or_for_an_hour(
    store: Database, asks: str, least: int, most: int
) -> None:
    async with listening() as address:
        hook = created(store, address.url)
        address.statuses, address.retry_after = [429], asks
        answered(store)
        async with posting(store):
            await async_until(partial(has_come_to, store, hook, 429))
    with store.begin() as conn:
        due = conn.scalars(select(deliveries.c.due_at)).one()
    wait = due - datetime.now(UTC)
    assert timedelta(minutes=least) <= wait <= timedelta(minutes=most)


async def test_what_else_waits_for_it_is_not_sent_meanwhile_and_holds_up_no_other(
    store: Database,
) -> None:
    async with listening() as busy, listening() as good:
        hook, other = created(store, busy.url), created(store, good.url)
        busy.statuses, busy.retry_after = [503] * 9, "600"
        answered(store, 9)
        async with posting(store):
            await async_until(lambda: now(store, other).waiting == 0)
            await async_until(lambda: bool(busy.heard))
            await async_until(lambda: 503 in [one.status for one in log(store, hook)])
            hurry(store)
            answered(store, 9)
            await async_until(lambda: len(good.heard) == 18)
    assert len(busy.heard) == 1


def test_tries_come_to_a_day_and_then_the_webhook_is_parked_which_is_an_event(
    store: Database,
) -> None:
    assert timedelta(hours=23) < sum(delivering.PAUSES, timedelta(0)) < timedelta(hours=25)
    hook = created(store, "http://a.example/", "*")
    answered(store)
    tries = 0
    while not now(store, hook).parked_at:
        divide(store)
        hurry(store)
        with store.begin() as conn:
            (one, *rest) = delivering.claim(conn, room=room(hook, 9), lease=timedelta(minutes=1))
            assert delivering.settle(conn, one, Sent(ok=False, error_code="timeout"))
            for other in rest:
                assert delivering.settle(conn, other, Sent(ok=True, status=204))
        tries += 1
    assert tries == len(delivering.PAUSES) + 1
    assert (now(store, hook).parked_because, now(store, hook).parked) == ("timeout", 1)
    with store.begin() as conn:
        parked = select(events.c.session_id).where(events.c.kind == "webhook.parked")
        assert conn.scalars(parked).all() == [hook.id]
        assert delivering.claim(conn, room=room(hook, 9), lease=timedelta(0)) == []


def divide(store: Database) -> None:
    from turnmill.store.nouns import reading

    with store.begin() as conn:
        reading.free_all(conn)
        hold = reading.hold(conn, webhooks.READER, owner="t", lease=timedelta(minutes=1))
        assert hold is not None
        delivering.divide(conn, hold, lease=timedelta(minutes=1))


async def test_one_that_is_gone_is_parked_at_once_and_goes_on_when_it_is_released(
    store: Database,
) -> None:
    async with listening() as address:
        hook = created(store, address.url)
        address.statuses = [410]
        answered(store)
        async with posting(store):
            await async_until(lambda: now(store, hook).parked_at is not None)
            answered(store)
            await async_until(lambda: now(store, hook).waiting == 1)
            with store.begin() as conn:
                assert webhooks.release(conn, hook.id) == 1
            await async_until(lambda: now(store, hook).waiting == 0)
    assert len(address.heard) == 3


async def test_what_was_sent_is_sent_again_by_id_or_by_time(store: Database) -> None:
    async with listening() as address:
        hook = created(store, address.url)
        answered(store, 3)
        async with posting(store):
            await async_until(lambda: len(log(store, hook)) == 3 and now(store, hook).waiting == 0)
            one = log(store, hook)[0]
            since = datetime.now(UTC) - timedelta(hours=1)
            with store.begin() as conn:
                assert webhooks.replay(conn, hook.id, delivery_ids=[one.id]) == 1
            await async_until(lambda: len(address.heard) == 4 and now(store, hook).waiting == 0)
            with store.begin() as conn:
                assert webhooks.replay(conn, hook.id, since=since) == 3
                assert webhooks.replay(conn, hook.id, since=since, until=since) == 0
            await async_until(lambda: len(address.heard) == 7)


async def test_no_more_is_sent_again_than_may_wait_so_that_nothing_new_is_missed(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MOST_WAITING", 3)
    hook = created(store, "http://a.example/")
    answered(store, 4)
    divide(store)
    with store.begin() as conn:
        for one in delivering.claim(conn, room=room(hook, 3), lease=timedelta(minutes=1)):
            delivering.settle(conn, one, Sent(ok=True, status=204))
    sent = [one.id for one in log(store, hook) if one.state == "delivered"]
    since = datetime.now(UTC) - timedelta(hours=1)
    with store.begin() as conn:
        with pytest.raises(MoveRefused):  # one waits, and three more would
            webhooks.replay(conn, hook.id, since=since)
        assert now(store, hook).waiting == 1
        assert webhooks.replay(conn, hook.id, delivery_ids=sent[:2]) == 2


async def test_while_secrets_overlap_both_sign_and_then_the_new_one_alone(store: Database) -> None:
    async with listening() as address:
        hook = created(store, address.url)
        with store.begin() as conn:
            webhooks.rotate(conn, hook.id, secret=OTHER, overlap=timedelta(hours=1))
        answered(store)
        async with posting(store):
            await async_until(lambda: len(address.heard) == 1)
            with store.begin() as conn:
                webhooks.rotate(conn, hook.id, secret=SECRET, overlap=timedelta(0))
            answered(store)
            await async_until(lambda: len(address.heard) == 2)
    (both, body), (one, other) = address.heard
    for secret in (SECRET, OTHER):
        Verifier(secret).verify(body.decode(), both)
    Verifier(SECRET).verify(other.decode(), one)
    assert len(one["webhook-signature"].split()) == 1


def test_who_was_late_writes_nothing_of_what_another_one_has_sent(store: Database) -> None:
    hook = created(store, "http://a.example/")
    answered(store)
    divide(store)
    with store.begin() as conn:
        (late,) = delivering.claim(conn, room=room(hook, 1), lease=timedelta(0))
    hurry(store)
    with store.begin() as conn:
        (holder,) = delivering.claim(conn, room=room(hook, 1), lease=timedelta(minutes=1))
        assert delivering.settle(conn, holder, Sent(ok=True, status=204))
        assert not delivering.settle(conn, late, Sent(ok=False, error_code="timeout"))


def test_of_events_of_sessions_those_are_written_that_a_webhook_wants(store: Database) -> None:
    hook = created(store, "http://a.example/", "session.paused")
    line = rows.start(store)
    with store.begin() as conn:
        sessions.pause(conn, line)
        sessions.resume(conn, line)
        assert conn.scalars(select(events.c.kind)).all() == ["session.paused"]
        webhooks.remove(conn, hook.id)
        sessions.pause(conn, line)
        assert conn.scalars(select(events.c.kind)).all() == ["session.paused"]


def test_a_webhook_that_is_removed_while_it_is_being_parked_is_gone_and_nobody_fails(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = created(store, "http://a.example/")
    answered(store)
    divide(store)
    with store.begin() as conn:
        (one,) = delivering.claim(conn, room=room(hook, 1), lease=timedelta(minutes=1))
    park = delivering.park

    def removed_meanwhile(conn: Any, *given: Any, **options: Any) -> None:
        removing.append(pool.submit(store.run, webhooks.remove, hook.id))
        until_blocked(store)
        park(conn, *given, **options)

    removing: list[Future[None]] = []
    monkeypatch.setattr(delivering, "park", removed_meanwhile)
    with ThreadPoolExecutor(1) as pool:
        assert store.run(delivering.settle, one, Sent(ok=False, status=410, gone=True))
        removing[0].result(timeout=20)
    with store.begin() as conn:
        assert webhooks.find(conn) == []

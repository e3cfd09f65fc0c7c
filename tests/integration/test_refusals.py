"""A database that refuses: it says why in words, and a reply in hand waits for what may pass."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, text

from tests import rows, steps
from tests.crowd import DEADLINE
from tests.waiting import async_until
from turnmill.cli.doctor.findings import Examination, Level
from turnmill.cli.doctor.servers import check_database
from turnmill.domain.errors import (
    AccessDenied,
    SessionBusy,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)
from turnmill.domain.states import Lane, TurnState
from turnmill.settings import Settings
from turnmill.store import async_database, database, dialing
from turnmill.store.async_database import AsyncDatabase
from turnmill.store.database import Database
from turnmill.store.line import leases
from turnmill.store.records import Fenced, Settled, Settlement
from turnmill.sync.client import Client
from turnmill_worker.process import embedded as runner
from turnmill_worker.turn.ledger import GroupedLedger

pytestmark = pytest.mark.anyio

SESSIONS, TURNS_EACH = 25, 4
LEASE = timedelta(seconds=60)


@pytest.fixture
def administer(database_url: str) -> Callable[..., None]:
    """Return what runs a statement as the superuser, `{}` being the test's database."""
    name = urlsplit(database_url).path[1:]
    server = database_url.removesuffix(name) + "postgres"

    def run(statement: str) -> None:
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(sql.SQL(statement).format(sql.Identifier(name)))

    return run


@contextmanager
def opened(url: str) -> Iterator[Database]:
    store = Database(url)
    yield store
    store.close()


@asynccontextmanager
async def a_ledger(store: Database, owner: str = "one") -> AsyncIterator[GroupedLedger]:
    ledger = GroupedLedger(store, owner=owner, lease=LEASE)
    try:
        yield ledger
    finally:
        await asyncio.to_thread(ledger.stop)


def drop_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect as through a pooler that drops what a connection is to begin with."""
    real = dialing.connect_args

    def bare(*args: Any, **options: Any) -> dict[str, Any]:
        return {name: value for name, value in real(*args, **options).items() if name != "options"}

    for module in (database, async_database):
        monkeypatch.setattr(module, "connect_args", bare)


def send_all(url: str) -> None:
    with Client(database_url=url) as client:
        lines = [client.sessions.create(user_id="ada") for _ in range(SESSIONS)]
        for number in range(TURNS_EACH):
            for line in lines:
                client.send(line, "hello", lane="bulk", idempotency_key=f"key {number}")


async def answer_all(ledger: GroupedLedger, sending: "asyncio.Future[None]") -> None:
    """Take what is due until nothing is, and settle each turn by itself, as a worker does."""
    settling: set[asyncio.Task[Settled | Fenced]] = set()
    while True:
        # Asked before the look: a turn that is settled meanwhile leaves one that the look missed.
        was_quiet = sending.done() and all(one.done() for one in settling)
        claims = await ledger.claim_due(Lane.BULK, limit=20)
        for claim in claims:
            one = ledger.settle(steps.verdict(claim, TurnState.SUCCEEDED))
            settling.add(asyncio.ensure_future(one))
        if not claims:
            if was_quiet:
                break
            await asyncio.sleep(0.005)
    for settled in await asyncio.gather(*settling):
        assert isinstance(settled, Settled)


@pytest.mark.parametrize("options", ["ours", "dropped"])
async def test_a_database_that_defaults_to_serializable_loses_no_reply(
    database_url: str,
    administer: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    options: str,
) -> None:
    administer("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'")
    if options == "dropped":
        drop_options(monkeypatch)
    with opened(database_url) as store, opened(database_url) as other:
        sending = asyncio.ensure_future(asyncio.to_thread(send_all, database_url))
        async with a_ledger(store) as one, a_ledger(other, "two") as two:
            await asyncio.gather(sending, answer_all(one, sending), answer_all(two, sending))
        with store.single() as conn:
            found = conn.execute(text("SELECT state, attempt, lost FROM turnmill.turns")).all()
        assert [tuple(row) for row in found] == [("succeeded", 1, 0)] * (SESSIONS * TURNS_EACH)
        steps.assert_sound(store, drained=True)


_LEVEL = "SHOW transaction_isolation"


@pytest.mark.parametrize("options", ["ours", "dropped"])
async def test_every_statement_is_read_committed_whatever_the_database_defaults_to(
    database_url: str,
    administer: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    options: str,
) -> None:
    administer("ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'")
    administer("ALTER DATABASE {} SET DateStyle = 'German'")
    administer("ALTER DATABASE {} SET IntervalStyle = 'sql_standard'")
    if options == "dropped":
        drop_options(monkeypatch)

    def level(conn: Connection) -> str:
        return str(conn.exec_driver_sql(_LEVEL).scalar_one())

    concurrent = AsyncDatabase(database_url)
    with opened(database_url) as store:
        for scope in (store.single, store.begin, store.single):
            with scope() as conn:
                assert level(conn) == "read committed"
    assert await concurrent.run_single(level) == await concurrent.run(level) == "read committed"
    await concurrent.close()


def test_a_database_with_other_forms_of_dates_is_read_as_any(
    database_url: str, administer: Callable[..., None]
) -> None:
    administer("ALTER DATABASE {} SET DateStyle = 'German'")
    administer("ALTER DATABASE {} SET IntervalStyle = 'sql_standard'")
    administer("ALTER DATABASE {} SET client_encoding = 'LATIN1'")
    with opened(database_url) as store:
        turn = steps.send(store, rows.start(store, user_id="Ада"), "Привет").turn_id
        assert steps.turn(store, turn).created_at.tzinfo is not None
        steps.beat(store, steps.take_one(store, turn))


def test_options_in_the_url_are_kept_beside_ours(database_url: str) -> None:
    url = database_url + "?options=-c%20work_mem%3D5MB%20-c%20lock_timeout%3D70ms"
    with opened(url) as store, store.single() as conn:
        shown = [
            conn.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("work_mem", "lock_timeout", "TimeZone")
        ]
    assert shown == ["5MB", "70ms", "UTC"]


async def kept_then_settled(
    store: Database, settlement: Settlement, *, passes: Callable[[], object]
) -> Settled | Fenced:
    """Settle while the store refuses; let the reason pass once it has refused."""
    async with a_ledger(store) as ledger:
        settling = asyncio.ensure_future(ledger.settle(settlement))
        await async_until(lambda: ledger._refusal is not None)
        assert not settling.done()
        await asyncio.to_thread(passes)
        return await asyncio.wait_for(settling, timeout=DEADLINE)


async def test_a_reply_in_hand_waits_until_the_database_takes_writes_again(
    database_url: str, administer: Callable[..., None]
) -> None:
    with opened(database_url) as store:
        session = rows.start(store)
        claim = steps.take_one(store, steps.send(store, session).turn_id)
        administer("ALTER DATABASE {} SET default_transaction_read_only = on")
        store.close()  # what connects from now on is read-only, and stays so
        with Client(database_url=database_url) as client:
            with pytest.raises(StoreReadOnly) as caught:
                client.send(session, "not now")
            assert "default_transaction_read_only" in caught.value.hint
            settled = await kept_then_settled(
                store,
                steps.verdict(claim, TurnState.SUCCEEDED),
                passes=lambda: administer("ALTER DATABASE {} RESET default_transaction_read_only"),
            )
            assert isinstance(settled, Settled)
            client.send(session, "now")
        assert steps.state(store, claim.turn_id) is TurnState.SUCCEEDED


def test_doctor_names_a_database_that_takes_no_writes(
    database_url: str, administer: Callable[..., None]
) -> None:
    administer("ALTER DATABASE {} SET default_transaction_read_only = on")
    examination = Examination(settings=Settings(database_url=database_url), environ={})
    found = list(check_database(examination))
    assert examination.database is not None
    examination.database.close()
    said = [one.what for one in found if one.level is Level.WRONG]
    assert said == ["it takes no writes: replies in hand wait, messages are refused"]


async def test_a_reply_in_hand_waits_until_a_locked_table_is_free(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(database_url + "?options=-c%20lock_timeout%3D50ms") as store:
        claim = steps.take_one(store, steps.send(store, rows.start(store)).turn_id)
        with psycopg.connect(database_url) as holder, caplog.at_level(logging.WARNING):
            holder.execute("LOCK TABLE turnmill.messages IN ACCESS EXCLUSIVE MODE")
            settled = await kept_then_settled(
                store, steps.verdict(claim, TurnState.SUCCEEDED), passes=holder.rollback
            )
        assert isinstance(settled, Settled)
    said = [one.getMessage() for one in caplog.records if one.name == "turnmill.ledger"]
    assert said == [
        "replies wait for the store: Another transaction holds this session (sqlstate 55P03)",
        "replies wait for the store: written again",
    ]


async def test_a_reply_in_hand_waits_until_its_role_may_write_again(
    database_url: str, administer: Callable[..., None]
) -> None:
    administer("CREATE ROLE writer LOGIN PASSWORD 'x'")
    try:
        with psycopg.connect(database_url, autocommit=True) as owner, opened(database_url) as store:
            claim = steps.take_one(store, steps.send(store, rows.start(store)).turn_id)
            owner.execute("GRANT USAGE ON SCHEMA turnmill TO writer")
            owner.execute("GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA turnmill TO writer")
            owner.execute("GRANT INSERT ON turnmill.events TO writer")
            url = urlsplit(database_url)
            theirs = url._replace(netloc=f"writer:x@{url.hostname}:{url.port}").geturl()
            with opened(theirs) as limited:
                settled = await kept_then_settled(
                    limited,
                    steps.verdict(claim, TurnState.SUCCEEDED),
                    passes=lambda: owner.execute("GRANT INSERT ON turnmill.messages TO writer"),
                )
            assert isinstance(settled, Settled)
            owner.execute("DROP OWNED BY writer")
    finally:
        administer("DROP ROLE writer")


@pytest.mark.parametrize("reply", ["\0", object()], ids=["refused by the table", "no JSON"])
async def test_a_verdict_that_cannot_be_stored_fails_its_own_turn_alone(
    database_url: str, reply: Any
) -> None:
    with opened(database_url) as store:
        claims = [steps.take_one(store, rows.send(store, rows.start(store))) for _ in range(5)]
        verdicts = [steps.verdict(one, TurnState.SUCCEEDED) for one in claims]
        poison = steps.verdict(claims[2], TurnState.SUCCEEDED, reply=reply)
        group = [*verdicts[:2], poison, *verdicts[3:]]
        ledger = GroupedLedger(store, owner="one", lease=LEASE)
        assert all(isinstance(one, Settled) for one in ledger._settle_group(group))
        ended = [steps.turn(store, one.turn_id) for one in claims]
        assert [one.state for one in ended].count(TurnState.SUCCEEDED) == 4
        assert (ended[2].state, ended[2].error_code) == (TurnState.FAILED, "reply_unstorable")


@pytest.mark.parametrize("scope", ["single", "begin"])
def test_a_connection_whose_plans_are_stale_is_used_no_more(database_url: str, scope: str) -> None:
    with opened(database_url) as store:

        def look() -> None:
            with getattr(store, scope)() as conn:
                conn.exec_driver_sql("SELECT * FROM public.jobs_seen", ()).all()

        with psycopg.connect(database_url, autocommit=True) as owner:
            owner.execute("CREATE TABLE public.jobs_seen (a int)")
            for _ in range(7):
                look()
            owner.execute("ALTER TABLE public.jobs_seen ADD COLUMN b int")
        with pytest.raises(StoreUnavailable, match="0A000"):
            look()
        look()


@pytest.fixture
def refused_urls(database_url: str, administer: Callable[..., None]) -> Iterator[dict[str, str]]:
    """Yield URLs that the server does not serve, by what is wrong with them."""
    url = urlsplit(database_url)
    place = f"{url.hostname}:{url.port}"

    def of(user: str, path: str = url.path) -> str:
        return url._replace(netloc=f"{user}@{place}", path=path).geturl()

    administer("CREATE ROLE ada LOGIN PASSWORD 'x'")
    administer("CREATE ROLE few LOGIN PASSWORD 'x' CONNECTION LIMIT 1")
    with psycopg.connect(of("few:x")):
        yield {
            "password": of("ada:wrong-secret"),
            "nobody": of("nobody:wrong-secret"),
            "database": of("ada:x", "/nix"),
            "privilege": of("ada:x"),
            "connections": of("few:x"),
        }
    administer("DROP ROLE ada")
    administer("DROP ROLE few")


@pytest.mark.parametrize(
    ("what", "kind", "says"),
    [
        ("password", AccessDenied, "refuses the password"),
        ("nobody", AccessDenied, "refuses the password"),
        ("database", AccessDenied, "no such database"),
        ("privilege", AccessDenied, "role may not do that"),
        ("connections", StoreFull, "takes no more connections"),
    ],
)
async def test_a_server_that_does_not_let_us_in_says_why_and_what_helps(
    refused_urls: dict[str, str], what: str, kind: type[StoreError], says: str
) -> None:
    url = refused_urls[what]
    concurrent = AsyncDatabase(url)
    with opened(url) as store, pytest.raises(kind, match=says) as caught:
        steps.count_turns(store)
    with pytest.raises(kind, match=says):
        await concurrent.run_single(lambda conn: conn.exec_driver_sql("TABLE turnmill.turns"))
    await concurrent.close()
    assert caught.value.hint
    assert "secret" not in str(caught.value) + caught.value.hint


def test_turns_in_this_process_run_as_soon_as_the_file_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy = iter([True, True])

    def end_leases(conn: Connection) -> None:
        if next(busy, False):
            raise SessionBusy
        leases.end_leases(conn)

    monkeypatch.setattr(runner, "end_leases", end_leases)
    with Client(database_url="sqlite://") as client:
        assert client.send(client.sessions.create(user_id="ada"), "hello").result(DEADLINE).text
    assert list(busy) == []

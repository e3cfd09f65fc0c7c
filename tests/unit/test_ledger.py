"""The worker's side of the store, with a store that refuses in every way."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from tests.claims import a_claim
from tests.steps import verdict
from turnmill.domain.content import Message, ToolOutput
from turnmill.domain.errors import (
    AccessDenied,
    SchemaOutOfDate,
    SessionBusy,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    Unstorable,
)
from turnmill.domain.states import Lane, TurnState
from turnmill.store.database import Database
from turnmill.store.records import Settled, Settlement
from turnmill_worker.turn import claims as claims_module
from turnmill_worker.turn import ledger as ledger_module
from turnmill_worker.turn import patience
from turnmill_worker.turn.ledger import GroupedLedger

pytestmark = pytest.mark.anyio

PASSING = [
    StoreUnavailable,
    StoreReadOnly,
    StoreFull,
    SessionBusy,
    AccessDenied,
    SchemaOutOfDate,
    StoreError,
]


class Store:
    """Takes what it is given, after it has raised what stands in its way."""

    def __init__(self) -> None:
        self.refusals: list[Exception] = []
        self.groups: list[list[Settlement]] = []

    @contextmanager
    def single(self) -> Iterator[None]:
        yield

    def settle(self, _conn: None, settlements: list[Settlement], **_: Any) -> list[Settled]:
        if self.refusals:
            raise self.refusals.pop(0)
        self.groups.append(list(settlements))
        return [
            Settled(turn_id=one.turn_id, state=one.state, due_at=None, next=None)
            for one in settlements
        ]

    def step(self, *_: Any, **__: Any) -> list[Any]:
        if self.refusals:
            raise self.refusals.pop(0)
        return []


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    for module in (ledger_module, patience):
        monkeypatch.setattr(module, "PAUSES", (0.001, 0.001, 0.001))
    monkeypatch.setattr(ledger_module, "settle", store.settle)
    for module, step in (
        (claims_module, "claim_due"),
        (claims_module, "claim_suspects"),
        (ledger_module, "succeeded_history"),
        (ledger_module, "mark_sent"),
    ):
        monkeypatch.setattr(module, step, store.step)
    return store


@asynccontextmanager
async def ledger_of(store: Store) -> AsyncIterator[GroupedLedger]:
    ledger = GroupedLedger(cast(Database, store), owner="one", lease=timedelta(seconds=30))
    try:
        yield ledger
    finally:
        await asyncio.to_thread(ledger.stop)


def a_verdict() -> Settlement:
    return verdict(a_claim(), TurnState.SUCCEEDED)


@pytest.mark.parametrize("kind", PASSING)
async def test_a_reply_in_hand_outlives_whatever_may_pass(
    store: Store, kind: type[StoreError]
) -> None:
    store.refusals = [kind() for _ in range(4)]
    async with ledger_of(store) as ledger:
        settled = await ledger.settle(a_verdict())
    assert isinstance(settled, Settled)
    assert settled.state is TurnState.SUCCEEDED


async def test_whoever_waits_for_a_reply_does_not_wait_behind_those_of_a_batch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, taken = threading.Event(), threading.Event()

    def slowly(conn: None, settlements: list[Settlement], **options: Any) -> list[Settled]:
        if settlements[0].bulk:
            taken.set()
            held.wait(10)
        return store.settle(conn, settlements, **options)

    monkeypatch.setattr(ledger_module, "settle", slowly)
    async with ledger_of(store) as ledger:
        bulk = asyncio.create_task(ledger.settle(replace(a_verdict(), bulk=True)))
        await asyncio.to_thread(taken.wait, 10)
        settled = await asyncio.wait_for(ledger.settle(a_verdict()), timeout=5)
        assert isinstance(settled, Settled)
        assert not bulk.done()
        held.set()
        assert isinstance(await bulk, Settled)


async def test_a_reply_is_kept_for_so_long_and_then_the_reason_is_raised(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "KEEP", timedelta(0))
    store.refusals = [StoreFull()]
    async with ledger_of(store) as ledger:
        with pytest.raises(StoreFull):
            await ledger.settle(a_verdict())


async def test_what_even_a_failure_cannot_be_stored_for_is_not_tried_for_ever(
    store: Store,
) -> None:
    store.refusals = [Unstorable(), Unstorable()]
    async with ledger_of(store) as ledger:
        with pytest.raises(Unstorable):
            await ledger.settle(a_verdict())
    assert store.refusals == []


@pytest.mark.parametrize("error", [Unstorable(), TypeError(), ValueError(), RecursionError()])
def test_a_group_that_is_refused_for_one_is_written_one_by_one(
    store: Store, error: Exception
) -> None:
    store.refusals = [error, error]  # the group, and the first of it alone
    group = [a_verdict() for _ in range(4)]
    ledger = GroupedLedger(cast(Database, store), owner="one", lease=timedelta(seconds=30))
    written = ledger._settle_group(group)
    assert [one.state for one in written if isinstance(one, Settled)] == [
        TurnState.FAILED,
        *[TurnState.SUCCEEDED] * 3,
    ]


def test_an_error_that_nobody_knows_fails_no_turn_for_good(store: Store) -> None:
    store.refusals = [MemoryError(), MemoryError()]
    ledger = GroupedLedger(cast(Database, store), owner="one", lease=timedelta(seconds=30))
    first, second = ledger._settle_group([a_verdict(), a_verdict()])
    assert isinstance(first, StoreError)
    assert isinstance(second, Settled)


def test_a_store_that_goes_away_between_two_of_a_group_is_asked_no_more(store: Store) -> None:
    store.refusals = [Unstorable(), StoreUnavailable()]
    ledger = GroupedLedger(cast(Database, store), owner="one", lease=timedelta(seconds=30))
    written = ledger._settle_group([a_verdict() for _ in range(100)])
    assert [type(one) for one in written] == [StoreUnavailable] * 100
    assert store.groups == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda ledger: ledger.claim_due(Lane.BULK, limit=1),
        lambda ledger: ledger.claim_suspects(lost=1, limit=1),
        lambda ledger: ledger.history(a_claim().session_id),
        lambda ledger: ledger.mark_sent(a_claim()),
    ],
    ids=["claim", "claim of suspects", "history", "note of a send"],
)
async def test_who_was_in_the_way_of_another_transaction_asks_again(
    store: Store, ask: Callable[[GroupedLedger], Any]
) -> None:
    store.refusals = [SessionBusy(), SessionBusy()]
    async with ledger_of(store) as ledger:
        assert not await ask(ledger)
    store.refusals = [SessionBusy() for _ in range(3)]
    async with ledger_of(store) as ledger:
        with pytest.raises(SessionBusy):
            await ask(ledger)


@pytest.mark.parametrize(
    "heavy",
    [
        {"replies": [Message.of("assistant", "x" * 4_000_000)]},
        # four bytes each
        {"replies": [Message.of("assistant", "\N{GRINNING FACE}" * 1_000_000)]},
        {"replies": [Message("tool", [ToolOutput(call_id="1", output="x" * 4_000_000)])]},
        {"replies": (), "error_detail": "x" * 4_000_000},
    ],
)
def test_what_is_heavy_in_bytes_ends_its_group(heavy: dict[str, Any]) -> None:
    light = ledger_module._weight_of(a_verdict())
    weight = ledger_module._weight_of(replace(a_verdict(), **heavy))
    assert light < 100
    assert weight >= ledger_module._HEAVIEST

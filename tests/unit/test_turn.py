"""Running a turn: what is not begun any more, and what a provider cannot do to its neighbours."""

import asyncio
from dataclasses import asdict
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.ledgers import SAID, FakeLedger, deps_of
from turnmill.domain.errors import ThreadLost, Unreachable
from turnmill.domain.ids import TurnId
from turnmill.domain.states import OnAmbiguous, TurnState
from turnmill.store.records import Claim
from turnmill_worker.providers.port import Done, Request
from turnmill_worker.turn.run import Ended, NotOurs, Outrun, run_turn

pytestmark = pytest.mark.anyio


async def test_a_turn_that_waited_for_a_slot_until_the_worker_drains_is_left_to_others() -> None:
    ledger = FakeLedger()
    begun, draining, ending = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def send(request: Request) -> Done:
        begun.set()
        await ending.wait()
        return Done(text="hello")

    deps = deps_of(ledger, send, accepting=lambda: not draining.is_set())
    first, second = TurnId(uuid4()), TurnId(uuid4())
    running = [asyncio.create_task(run_turn(one, deps)) for one in (first, second)]
    await begun.wait()
    draining.set()
    ending.set()
    outcomes = await asyncio.gather(*running)
    assert isinstance(outcomes[0], Ended)
    assert outcomes[1] == NotOurs()
    assert ledger.claimed == [first]


class CrowdedLedger(FakeLedger):
    """Has another user's turn that is to go first."""

    others: list[TurnId]

    async def claim(self, turn_id: TurnId, *, crowded: bool = False) -> Claim | None:
        assert crowded, "it has the last slot"
        return await super().claim(self.others.pop() if self.others else turn_id)


async def test_a_turn_that_lets_another_one_go_first_has_the_next_slot() -> None:
    other, turn, behind = (TurnId(uuid4()) for _ in range(3))
    ledger, begun, ending = CrowdedLedger(), asyncio.Event(), asyncio.Event()
    ledger.others = [other]

    async def send(request: Request) -> Done:
        begun.set()
        await ending.wait()
        return Done(text="hello")

    deps = deps_of(ledger, send)
    running = [asyncio.create_task(run_turn(one, deps)) for one in (turn, behind)]
    await begun.wait()
    ending.set()
    outcomes = await asyncio.gather(*running)
    assert ledger.claimed == [other, turn, behind]
    assert [one.turn_id for one in ledger.settled] == [other, turn, behind]
    assert [one.turn_id for one in outcomes if isinstance(one, Ended)] == [turn, behind]
    assert deps.slots.in_use == 0


async def test_a_turn_lets_so_many_go_first_and_is_then_left_to_another_hint() -> None:
    async def send(request: Request) -> Done:
        return Done(text="hello")

    ledger = CrowdedLedger()
    ledger.others = [TurnId(uuid4()) for _ in range(50)]
    deps = deps_of(ledger, send)
    assert await run_turn(TurnId(uuid4()), deps) == NotOurs()
    await deps.slots.take_one()  # when the last of them has given it back
    assert len(ledger.settled) == 10


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), RuntimeError("secret")])
async def test_whatever_a_provider_raises_ends_its_own_turn_and_not_the_loop(
    error: BaseException,
) -> None:
    async def send(request: Request) -> Done:
        raise error

    ledger = FakeLedger()
    outcome = await run_turn(TurnId(uuid4()), deps_of(ledger, send))
    assert isinstance(outcome, Ended)
    (settlement,) = ledger.settled
    assert settlement.state is TurnState.RETRYING
    assert settlement.error_code == f"bug:{type(error).__name__}"
    assert "secret" not in repr(asdict(settlement))


async def test_a_long_history_is_read_apart_from_the_claim_and_before_the_call() -> None:
    asked: list[Request] = []

    async def send(request: Request) -> Done:
        asked.append(request)
        return Done(text="Hello.")

    ledger = FakeLedger(brought=None)
    await run_turn(TurnId(uuid4()), deps_of(ledger, send))
    assert [request.history for request in asked] == [SAID]
    assert ledger.settled[0].state is TurnState.SUCCEEDED


@pytest.mark.parametrize("kind", ["send", "check", "resume"])
async def test_without_its_history_a_turn_is_given_back_with_its_last_attempt(kind: str) -> None:
    async def send(request: Request) -> Done:
        raise AssertionError("sent without a history")

    last = {"kind": kind, "attempt": 1, "max_attempts": 1}
    ledger = FakeLedger(brought=None, away=True, options=last)
    await run_turn(TurnId(uuid4()), deps_of(ledger, send, check=send))
    (settlement,) = ledger.settled
    assert settlement.state is TurnState.QUEUED
    assert settlement.gives_attempt_back


@pytest.mark.parametrize("kept", [("resp_1",), ()])
async def test_only_what_a_vendor_keeps_is_written_down_by_a_worker_that_lost_its_turn(
    kept: tuple[str, ...],
) -> None:
    async def send(request: Request) -> Done:
        return Done(text="Hello.", kept=kept)

    ledger = FakeLedger(fenced=True)
    assert await run_turn(TurnId(uuid4()), deps_of(ledger, send)) == Outrun()
    assert [[one.ref for one in late.kept] for late in ledger.kept_late] == [[*kept]] * len(kept)


async def test_a_chain_that_is_gone_and_cannot_be_rebuilt_now_owes_nothing() -> None:
    async def send(request: Request) -> Done:
        raise ThreadLost("previous_response_not_found")

    ledger = FakeLedger(away=True)
    await run_turn(TurnId(uuid4()), deps_of(ledger, send))
    (settlement,) = ledger.settled
    assert settlement.state is TurnState.QUEUED
    assert settlement.gives_attempt_back


async def test_a_question_is_asked_again_after_a_pause_also_when_no_attempt_is_left() -> None:
    async def check(request: Request) -> Done:
        raise Unreachable("connect_timeout")

    last = {"kind": "check", "attempt": 3, "max_attempts": 3}
    ledger = FakeLedger(options=last)
    await run_turn(TurnId(uuid4()), deps_of(ledger, check, check=check, jitter=lambda: 0.5))
    (settlement,) = ledger.settled
    assert settlement.state is TurnState.UNKNOWN
    assert settlement.delay > timedelta(0)


async def test_a_send_that_cannot_be_noted_first_does_not_leave__the_turn_is_given_back() -> None:
    ledger = FakeLedger(away=True, options={"on_ambiguous": OnAmbiguous.HOLD})

    async def send(request: Request) -> Done:
        raise AssertionError("it left without its note")

    await run_turn(TurnId(uuid4()), deps_of(ledger, send))
    (settlement,) = ledger.settled
    assert (settlement.state, settlement.gives_attempt_back) == (TurnState.QUEUED, True)

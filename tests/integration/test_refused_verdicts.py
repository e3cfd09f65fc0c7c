"""Verdicts that the store does not take as they are."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests import rows, steps
from tests.hostile import SECRET
from turnmill.domain.content import Message, ToolCall
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.records import Fenced, Settled, Settlement
from turnmill_worker.turn.ledger import GroupedLedger

SAID = Message.of("assistant", f"{SECRET}\0")
CALL = Message("assistant", (ToolCall(id="1", name="now", arguments=f"{SECRET}\0"),))

#: What makes the store, or whoever writes to it, refuse a verdict; and what it comes to.
REFUSED: dict[str, tuple[TurnState, dict[str, Any], TurnState]] = {
    "NUL in the reply": (TurnState.SUCCEEDED, {"replies": [SAID]}, TurnState.FAILED),
    "NUL in a tool call": (TurnState.SUCCEEDED, {"replies": [CALL]}, TurnState.FAILED),
    "no JSON": (TurnState.SUCCEEDED, {"finish_reason": object()}, TurnState.FAILED),
    "too many tokens": (TurnState.SUCCEEDED, {"input_tokens": 10**30}, TurnState.FAILED),
    "surrogate in a name": (TurnState.WAITING, {"native_ref": "\ud83d"}, TurnState.FAILED),
    "NUL in a detail": (TurnState.RETRYING, {"error_detail": f"{SECRET}\0"}, TurnState.RETRYING),
    "detail that is no text": (TurnState.DEAD, {"error_detail": SECRET.encode()}, TurnState.DEAD),
}


@pytest.fixture(params=["postgres", "memory"])
def store(request: pytest.FixtureRequest) -> Any:
    from turnmill.store.schema.revision import create_all

    postgres = request.param == "postgres"
    store = Database(request.getfixturevalue("database_url") if postgres else "sqlite://")
    if not postgres:
        with store.begin() as conn:
            create_all(conn)
    yield store
    store.close()


def settle(store: Database, verdicts: Sequence[Settlement]) -> list[Settled | Fenced]:
    async def main() -> list[Settled | Fenced]:
        ledger = GroupedLedger(store, owner="tests", lease=steps.LEASE)
        try:
            return await asyncio.gather(*(ledger.settle(one) for one in verdicts))
        finally:
            ledger.stop()

    return asyncio.run(main())


def test_a_verdict_that_is_refused_ends_without_a_word_of_anybody_and_fails_no_neighbour(
    store: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="turnmill")
    sent = [rows.send(store, rows.start(store)) for _ in range(len(REFUSED) + 2)]
    claims = [steps.take_one(store, one) for one in sent]
    odd = [
        replace(steps.verdict(claim, state), error_code="http_500", **columns)
        for claim, (state, columns, _) in zip(claims[1:], REFUSED.values(), strict=False)
    ]
    good = [steps.verdict(claim, TurnState.SUCCEEDED) for claim in (claims[0], claims[-1])]
    settle(store, [good[0], *odd, good[1]])
    assert [steps.state(store, one) for one in (sent[0], sent[-1])] == [TurnState.SUCCEEDED] * 2
    for turn, (state, _, becomes) in zip(sent[1:], REFUSED.values(), strict=False):
        found = steps.turn(store, turn)
        if store.is_postgres or found.state is not TurnState.SUCCEEDED:
            lost = state is not becomes
            assert found.state is becomes
            assert found.error_code == ("reply_unstorable" if lost else "http_500")
    assert SECRET not in caplog.text
    steps.assert_sound(store)


def test_a_turn_whose_verdict_lost_its_words_can_be_claimed_and_answered(store: Database) -> None:
    turn: TurnId = rows.send(store, rows.start(store))
    claim = steps.take_one(store, turn)
    odd = steps.verdict(claim, TurnState.RETRYING, error_detail=object())
    (settled,) = settle(store, [odd])
    assert isinstance(settled, Settled) and settled.due_at is not None
    steps.due_now(store, turn)
    steps.answer(store, turn)
    assert steps.state(store, turn) is TurnState.SUCCEEDED

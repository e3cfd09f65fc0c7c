"""Who waits for whom: providers side by side, sessions long and short, and what was paused."""

import pytest

from tests import rows, steps
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.store.database import Database
from turnmill.store.line import claim as claims
from turnmill.store.line import pauses
from turnmill.store.line.history import succeeded_history


def test_a_provider_with_much_to_do_does_not_keep_another_ones_turns_waiting(
    store: Database,
) -> None:
    for _ in range(40):
        steps.send(store, rows.start(store, provider="anthropic"), lane="bulk")
    other = steps.send(store, rows.start(store, provider="openai"), lane="bulk").turn_id
    found: list[TurnId] = []
    while other not in found and len(found) < 40:
        found += [claim.turn_id for claim in steps.take_due(store, Lane.BULK, limit=1)]
    assert other in found  # by chance it comes last once in 10^12 times


@pytest.mark.parametrize(("kind", "name"), [("provider", "mock"), ("lane", "quarantine")])
def test_suspects_wait_while_they_are_paused(kind: str, name: str, store: Database) -> None:
    sent = steps.send(store, rows.start(store)).turn_id
    steps.take_one(store, sent)
    steps.lose(store, sent)
    with store.begin() as conn:
        pauses.pause(conn, kind=kind, name=name)
        assert claims.due_suspicions(conn) == set()
        found = claims.claim_suspects(conn, lost=1, limit=9, owner="one", lease=steps.LEASE)
        assert found == []
        pauses.resume(conn, kind=kind, name=name)
        assert len(claims.claim_suspects(conn, lost=1, limit=9, owner="one", lease=steps.LEASE))


def test_a_claim_brings_a_short_history_along_and_leaves_a_long_one_to_be_read_apart(
    store: Database,
) -> None:
    session = rows.start(store)
    for _ in range(100):
        steps.answer(store, steps.send(store, session).turn_id)
    with_history = steps.take_one(store, steps.send(store, session).turn_id)
    assert with_history.history is not None
    assert len(with_history.history) == 200
    steps.end(store, with_history, TurnState.SUCCEEDED, reply="yes")
    without = steps.take_one(store, steps.send(store, session).turn_id)
    assert without.history is None
    with store.single() as conn:
        assert len(succeeded_history(conn, session)) == 202
    steps.end(store, without, TurnState.SUCCEEDED, reply="yes")

"""What encryption costs a turn: CPU of client and worker, in pairs with and without, in one run."""

import statistics
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests import rows, steps
from tests.conftest import fresh_database
from tests.keyed import at_hand
from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.nouns import outcome
from turnmill.verbs.sessions import begin_with
from turnmill_worker.stack.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Sessions of 20 messages, of which each is asked once; so many in a row with, and then without.
SESSIONS, IN_A_ROW = 1_000, 25
SAID = "What the weather will be like in the mountains, and what to wear. " * 4  #: 264 letters


def had(store: Database) -> list[SessionId]:
    """Return sessions that have a history of twenty messages."""
    found = []
    for _ in range(SESSIONS):
        found.append(rows.start(store, system_prompt="Be brief and kind."))
        one = (Message.of("user", SAID), Message.of("assistant", SAID))
        with store.begin() as conn:
            begin_with(conn, found[-1], [one] * 10)
    return found


def cpu_of_a_turn(store: Database, session: SessionId) -> float:
    """Return the CPU milliseconds in which it is sent, claimed, settled and its reply read."""
    began = time.process_time()
    turn = rows.send(store, session, SAID)
    claim = steps.take_one(store, turn)
    assert claim.history is not None
    said = claim.history.words()  # type: ignore[attr-defined]
    steps.end(store, claim, TurnState.SUCCEEDED, reply=SAID)
    with store.begin() as conn:
        assert outcome.outcome_of(conn, turn)
    took = (time.process_time() - began) * 1e3
    assert len(said) == 20
    return took


@pytest.fixture
def stores(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[list[Database]]:
    with (
        fresh_database(postgres_server, migrated_template) as one,
        fresh_database(postgres_server, migrated_template) as other,
    ):
        found = [Database(one), Database(other, keys=at_hand())]
        yield found
        for store in found:
            store.close()


def test_encryption_costs_a_turn_of_twenty_messages_a_tenth_of_a_millisecond(
    stores: list[Database],
) -> None:
    plain, sealed = stores
    theirs = {store: iter(had(store)) for store in stores}
    differences, whole = [], []
    for n in range(SESSIONS // IN_A_ROW):
        of = {}
        for store in (plain, sealed) if n % 2 else (sealed, plain):
            some = islice(theirs[store], IN_A_ROW)
            of[store] = statistics.median(cpu_of_a_turn(store, one) for one in some)
        differences.append(of[sealed] - of[plain])
        whole.append(of[plain])
    found, turn = statistics.median(differences), statistics.median(whole)
    load = Path("/proc/loadavg").read_text().strip()
    sys.stdout.write(f"{found:.3f} ms of CPU more than {turn:.3f} a turn, load {load}\n")
    assert found <= 0.1

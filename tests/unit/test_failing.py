"""What a worker's log and Celery's tools are told of turns that fail: a line, a state, a code."""

import asyncio
import itertools
import logging
import pickle
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery.events.state import State
from celery.utils.saferepr import saferepr

from tests.claims import a_claim
from tests.ledgers import FakeLedger, deps_of
from turnmill.domain.content import Message
from turnmill.domain.errors import Overloaded, Rejected, TurnDead, TurnFailed
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.store.records import Claim
from turnmill_worker.celery.outcomes import TurnRequest
from turnmill_worker.celery.tasks.turns import shown, summary
from turnmill_worker.providers.port import Done, Request
from turnmill_worker.turn.bulk import Ran, run_bulk
from turnmill_worker.turn.failing import warn_of_failure
from turnmill_worker.turn.run import Ended, NotOurs, Outrun, run_turn

CANARY = "canary-51d0"
TURN = TurnId(uuid4())


def ended(state: TurnState, *, code: str | None = None, due_at: datetime | None = None) -> Ended:
    return Ended(turn_id=TURN, state=state, due_at=due_at, error_code=code)


async def refuse(request: Request) -> Done:
    raise Rejected("content_filter", detail=f"you said {CANARY}")


async def overloaded(request: Request) -> Done:
    raise Overloaded(detail=CANARY)


class DueLedger(FakeLedger):
    """Has so many turns of the bulk lane due."""

    due = 3

    async def claim_due(self, lane: Lane, *, limit: int) -> list[Claim]:
        count, self.due = self.due, 0
        return [a_claim(messages=[Message.of("user", CANARY)]) for _ in range(count)]


@pytest.mark.parametrize(
    ("send", "options", "said"),
    [
        (refuse, {}, "failed: content_filter"),
        (overloaded, {"attempt": 5}, "is dead: overloaded"),
    ],
)
def test_a_turn_that_fails_for_good_has_one_line_in_the_log_with_ids_and_no_content(
    send: Any, options: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = FakeLedger(options=options | {"messages": [Message.of("user", CANARY)]})
    asyncio.run(run_turn(TURN, deps_of(ledger, send)))
    (line,) = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert line.levelno == logging.WARNING
    assert line.getMessage().startswith(f"turn {TURN} {said} (session ")
    assert "attempt " in line.getMessage()
    assert "provider theirs, model large" in line.getMessage()
    assert CANARY not in caplog.text


def test_an_attempt_after_which_a_turn_comes_again_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asyncio.run(run_turn(TURN, deps_of(FakeLedger(), overloaded)))
    assert "is dead" not in caplog.text
    assert "failed" not in caplog.text


def test_turns_of_the_bulk_lane_have_their_lines_too_and_their_task_names_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran = asyncio.run(run_bulk(deps_of(DueLedger(), refuse)))
    assert len(ran.turns) == 3
    assert {one.turn_id for one in ran.failed} == set(ran.turns)
    assert caplog.text.count("failed: content_filter") == 3
    shown = summary(ran) or ""
    assert shown.startswith("3 turns; 3 failed: ")
    assert all(f"{turn_id} content_filter" in shown for turn_id in ran.turns)
    assert CANARY not in shown + caplog.text


def test_what_a_bulk_task_says_of_failures_is_bounded_and_says_so() -> None:
    turns = [TurnId(uuid4()) for _ in range(1000)]
    failed = [
        Ended(turn_id=one, state=TurnState.FAILED, due_at=None, error_code="c" * 64)
        for one in turns
    ]
    shown = summary(Ran(turns=turns, failed=failed)) or ""
    assert "1000 failed: " in shown
    assert "900 more; ran: " in shown
    assert len(shown) < 65_536
    assert summary(Ran()) is None


def test_no_name_of_an_application_looks_like_another_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    forged = "m\n[2026-01-01 00:00:00 CRITICAL turnmill.app] all is lost\x1b[31m"
    warn_of_failure(a_claim(model=forged, provider=forged), TurnState.FAILED, "code")
    (line,) = caplog.records
    assert line.getMessage().isprintable()


@pytest.mark.parametrize(
    ("state", "kind"), [(TurnState.FAILED, TurnFailed), (TurnState.DEAD, TurnDead)]
)
def test_a_failed_turn_fails_its_task_with_its_code_and_its_id_alone(
    state: TurnState, kind: type[TurnFailed]
) -> None:
    with pytest.raises(TurnFailed) as caught:
        shown(ended(state, code="content_filter"))
    assert type(caught.value) is kind
    assert repr(caught.value) == f"{kind.__name__}('content_filter: turn {TURN}')"
    # A child of the prefork pool sends it to its parent.
    assert repr(pickle.loads(pickle.dumps(caught.value))) == repr(caught.value)


def sent_for(returned: object) -> tuple[str, dict[str, Any]]:
    """Return the event that goes out for a task that has returned this."""
    sent: list[tuple[str, dict[str, Any]]] = []
    request = TurnRequest.__new__(TurnRequest)
    request.id = str(TURN)
    request._task = SimpleNamespace(send_events=True)
    request._eventer = SimpleNamespace(
        enabled=True, send=lambda kind, uuid, **fields: sent.append((kind, fields))
    )
    request.send_event("task-succeeded", result=saferepr(returned), runtime=0.1)
    (one,) = sent
    return one


def test_a_turn_that_comes_again_is_a_retry_with_the_code_of_its_error() -> None:
    due_at = datetime(2026, 1, 1, tzinfo=UTC)
    returned = shown(ended(TurnState.RETRYING, code="overloaded", due_at=due_at))
    fields = {"exception": "Again('overloaded')", "traceback": ""}
    assert sent_for(returned) == ("task-retried", fields)


@pytest.mark.parametrize(
    "outcome", [ended(TurnState.CANCELLED), ended(TurnState.EXPIRED), NotOurs(), Outrun()]
)
def test_a_task_without_a_verdict_is_no_success(outcome: Any) -> None:
    returned = shown(outcome)
    assert sent_for(returned)[0] == "task-revoked"
    # A child of the prefork pool sends it to its parent.
    assert repr(pickle.loads(pickle.dumps(returned))) == repr(returned)


def test_a_turn_with_a_reply_is_a_success() -> None:
    returned = shown(ended(TurnState.SUCCEEDED))
    assert sent_for(returned) == ("task-succeeded", {"result": "None", "runtime": 0.1})


@pytest.mark.parametrize("last", ["task-failed", "task-succeeded"])
def test_a_doubled_hint_hides_no_verdict_in_whatever_order_events_come(last: str) -> None:
    verdict = {"task-failed": "FAILURE", "task-succeeded": "SUCCESS"}[last]
    one, other = ("task-received", "task-started", last), ("task-received", "task-revoked")
    for order in set(itertools.permutations([0, 0, 0, 1, 1])):
        state, runs = State(), [iter(one), iter(other)]
        for clock, run in enumerate(order):
            state.event(
                {"type": next(runs[run]), "uuid": str(TURN), "name": "turnmill.run_turn"}
                | {"hostname": f"w{run}", "timestamp": clock, "local_received": clock}
                | {"clock": clock, "pid": 1}
            )
        assert state.tasks[str(TURN)].state == verdict

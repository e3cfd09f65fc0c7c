"""What a model is no longer shown stands beside what was said, and goes with it."""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select

from tests import rows, steps
from turnmill.domain.ids import SessionId
from turnmill.domain.states import CompactionKind, TurnState
from turnmill.store.compaction_records import NewCompaction, Spoken
from turnmill.store.database import Database
from turnmill.store.line.compactions import (
    compactions_of,
    history_after,
    keep_compaction,
    spoken,
)
from turnmill.store.nouns import sessions, turns
from turnmill.store.records import Claim
from turnmill.store.schema.compaction_tables import compactions

pytestmark = pytest.mark.usefixtures("sound")


def talked(store: Database, *texts: str) -> SessionId:
    session = rows.start(store)
    for text in texts:
        steps.answer(store, steps.send(store, session, text).turn_id)
    return session


def claimed(store: Database, session: SessionId, text: str = "And now?") -> Claim:
    return steps.take_one(store, steps.send(store, session, text).turn_id)


def keep(store: Database, claim: Claim, up_to: int, summary: str | None, **more: Any) -> bool:
    kind = CompactionKind.TRUNCATE if summary is None else CompactionKind.SUMMARISE
    values: dict[str, Any] = {"kind": kind, "up_to_seq": up_to, "turns": up_to, "summary": summary}
    with store.begin() as conn:
        return keep_compaction(conn, claim, NewCompaction(**values | more))


def shown(store: Database, session: SessionId) -> list[str]:
    with store.begin() as conn:
        return [one.text for one in history_after(conn, session)]


def now(store: Database, session: SessionId) -> Spoken:
    with store.begin() as conn:
        return spoken(conn, session)


def seqs(found: Spoken) -> Sequence[int]:
    return [one.seq for one in found.turns]


def test_turns_that_are_left_out_are_not_shown_to_a_model_and_stay_in_the_history(
    store: Database,
) -> None:
    session = talked(store, "one", "two", "three")
    claim = claimed(store, session)
    assert seqs(now(store, session)) == [1, 2, 3]
    assert keep(store, claim, 2, None)
    steps.end(store, claim, reply="Now.")
    assert shown(store, session) == ["three", "answer to three", "And now?", "Now."]
    assert seqs(now(store, session)) == [3, 4]
    with store.begin() as conn:
        assert len(sessions.history(conn, session)) == 8


def test_a_summary_stands_first_and_the_last_one_counts(store: Database) -> None:
    session = talked(store, "one", "two", "three")
    claim = claimed(store, session)
    keep(store, claim, 1, "They said one.")
    keep(store, claim, 2, "They said one and two.")
    steps.end(store, claim, reply="Now.")
    first, *rest = shown(store, session)
    assert first.endswith("\n\nThey said one and two.")
    assert rest == ["three", "answer to three", "And now?", "Now."]
    found = now(store, session)
    assert (found.summary, found.left_out) == ("They said one and two.", 2)
    with store.begin() as conn:
        kept = compactions_of(conn, session)
    assert [(one.n, one.up_to_seq, one.turn_id) for one in kept] == [
        (1, 1, claim.turn_id),
        (2, 2, claim.turn_id),
    ]


def test_what_a_summary_took_is_booked_with_its_attempt_though_the_attempt_fails(
    store: Database,
) -> None:
    session = talked(store, "one")
    claim = claimed(store, session)
    used = {"input_tokens": 100, "output_tokens": 10, "cost_usd": Decimal("0.25")}
    assert keep(store, claim, 1, "One.", **used)
    steps.end(store, claim, TurnState.FAILED, input_tokens=0, output_tokens=0)
    turn = steps.turn(store, claim.turn_id)
    assert (turn.input_tokens, turn.output_tokens, turn.cost_usd) == (100, 10, Decimal("0.25"))
    with store.begin() as conn:
        (attempt,) = turns.attempts_of(conn, claim.turn_id)
    assert (attempt.input_tokens, attempt.cost_usd) == (100, Decimal("0.25"))
    of_session = steps.session(store, session)
    assert (of_session.input_tokens, of_session.cost_usd) == (103, Decimal("0.25"))
    steps.answer(store, steps.send(store, session, "on").turn_id)
    assert shown(store, session)[0].endswith("One.")


def test_a_worker_that_lost_its_turn_leaves_nothing_out_and_a_later_one_finds_what_was_kept(
    store: Database,
) -> None:
    session = talked(store, "one", "two")
    lost = claimed(store, session)
    assert keep(store, lost, 1, "One.", input_tokens=7)
    steps.lose(store, lost.turn_id)
    assert not keep(store, lost, 2, "Too late.", input_tokens=1_000)
    again = steps.take_one(store, lost.turn_id)
    assert shown(store, session)[0].endswith("One.")
    assert not keep(store, lost, 2, "Too late.", input_tokens=1_000)
    steps.end(store, again)
    assert shown(store, session)[0].endswith("One.")
    assert steps.turn(store, lost.turn_id).input_tokens == 7 + 3


def test_a_turn_that_failed_and_ran_again_later_is_not_left_out_with_its_neighbours(
    store: Database,
) -> None:
    session = talked(store, "one")
    failed = claimed(store, session, "two")
    steps.end(store, failed, TurnState.FAILED)
    steps.answer(store, steps.send(store, session, "three").turn_id)
    claim = claimed(store, session, "four")
    keep(store, claim, 3, None)
    steps.end(store, claim)
    again = steps.retry(store, failed.turn_id).turn_id
    steps.answer(store, again)
    assert "two" in shown(store, session)
    assert "one" not in shown(store, session) and "three" not in shown(store, session)


def test_what_is_left_out_goes_with_its_session(store: Database) -> None:
    session = talked(store, "one")
    claim = claimed(store, session)
    keep(store, claim, 1, "One.")
    steps.end(store, claim)
    with store.begin() as conn:
        sessions.remove(conn, session)
        assert conn.scalar(select(func.count()).select_from(compactions)) == 0


def test_what_was_said_of_the_usage_of_each_call_of_an_attempt_is_one_list(store: Database) -> None:
    claim = claimed(store, talked(store, "one"))
    said = [{"usage": {"input_tokens": number}} for number in (1, 2, 3)]
    of_summary = {"usage": json.dumps(said[:2]), "priced_by": "a list", "service_tier": "flex"}
    assert keep(store, claim, 1, "They met.", **of_summary)
    assert keep(store, claim, 1, None)  # that took no call
    steps.end(store, claim, usage=json.dumps(said[2:]), cache_write_1h_tokens=7)
    with store.begin() as conn:
        (attempt,) = turns.attempts_of(conn, claim.turn_id)
    assert attempt.usage == said
    assert (attempt.priced_by, attempt.service_tier) == ("a list", "flex")
    assert attempt.cache_write_1h_tokens == 7

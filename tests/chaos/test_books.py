"""The auditor is audited: each kind of broken promise is seen, and a clean record is left alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from tests.chaos.books import AttemptLine, Books, Standstill, TurnLine
from turnmill.domain.ids import SessionId, TurnId
from turnmill_worker.providers.mock.executions import Call

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
SESSION = SessionId(uuid4())


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def turn(seq: int, *, seen: int, ends: float) -> TurnLine:
    reply = f"Noted. You said: x [{seen} before]"
    return TurnLine(uuid4(), SESSION, seq, "succeeded", 0, at(ends), [reply])


def attempt(of: UUID, fence: int, *, begins: float, ends: float) -> AttemptLine:
    return AttemptLine(of, fence, "send", "host:1", at(begins), at(ends), "succeeded")


def call(of: UUID, fence: int, *, begins: float, ends: float | None) -> Call:
    return Call(
        turn_id=TurnId(of),
        session_id=SESSION,
        attempt=1,
        fence=fence,
        started_at=at(begins).timestamp(),
        ended_at=None if ends is None else at(ends).timestamp(),
    )


def frozen(begins: float, ends: float, pid: int = 1) -> Standstill:
    return Standstill(pid, at(begins).timestamp(), at(ends).timestamp())


FIRST, SECOND = turn(1, seen=0, ends=2), turn(2, seen=2, ends=5)
CLEAN = Books(
    turns=[FIRST, SECOND],
    attempts=[
        attempt(FIRST.id, 1, begins=0, ends=2),
        attempt(SECOND.id, 2, begins=3, ends=5),
    ],
    calls=[call(FIRST.id, 1, begins=0.5, ends=1.5), call(SECOND.id, 2, begins=3.5, ends=4.5)],
    violations=[],
)


def kinds(books: Books) -> set[str]:
    return {complaint.partition(":")[0] for complaint in books.complaints()}


def test_a_clean_record_gives_no_cause_for_complaint() -> None:
    assert CLEAN.complaints() == []
    assert CLEAN.refused_zombies() == 0


def test_two_replies_to_a_turn_are_seen() -> None:
    assert FIRST.replies is not None
    twice = replace(FIRST, replies=FIRST.replies * 2)
    assert kinds(replace(CLEAN, turns=[twice, SECOND])) == {"doubled"}


def test_two_calls_under_one_claim_are_seen() -> None:
    again = call(SECOND.id, 2, begins=4.6, ends=4.7)
    assert kinds(replace(CLEAN, calls=[*CLEAN.calls, again])) == {"doubled"}


def test_a_call_that_nobody_has_claimed_is_seen() -> None:
    assert "doubled" in kinds(replace(CLEAN, attempts=CLEAN.attempts[:1]))


def test_a_reply_without_its_history_is_seen() -> None:
    ahead = replace(SECOND, replies=["Noted. You said: x [0 before]"])
    assert kinds(replace(CLEAN, turns=[FIRST, ahead])) == {"out of order"}


def test_replies_that_cross_are_seen() -> None:
    late = replace(FIRST, finished_at=at(9))
    assert kinds(replace(CLEAN, turns=[late, SECOND])) == {"out of order"}


def test_a_call_that_begins_during_the_one_before_is_seen() -> None:
    long = call(FIRST.id, 1, begins=0.5, ends=None)
    attempts = [attempt(FIRST.id, 1, begins=0, ends=4), CLEAN.attempts[1]]
    assert kinds(replace(CLEAN, calls=[long, CLEAN.calls[1]], attempts=attempts)) == {"overlap"}


def test_a_call_after_the_end_of_its_turn_is_seen() -> None:
    late = [*CLEAN.calls, call(SECOND.id, 3, begins=6, ends=7)]
    attempts = [*CLEAN.attempts, attempt(SECOND.id, 3, begins=6, ends=7)]
    found = kinds(replace(CLEAN, calls=late, attempts=attempts))
    assert found == {"called after it was final"}


def test_a_worker_that_was_frozen_in_its_call_makes_that_one_call_when_it_wakes() -> None:
    late = [*CLEAN.calls, call(SECOND.id, 3, begins=6, ends=7)]
    attempts = [*CLEAN.attempts, attempt(SECOND.id, 3, begins=3, ends=4)]
    woken = replace(CLEAN, calls=late, attempts=attempts, standstills=[frozen(3.5, 6)])
    assert woken.complaints() == []


@pytest.mark.parametrize(
    "standstills",
    [
        pytest.param([(3.5, 4.9, 1)], id="it woke long before"),
        pytest.param([(5.5, 6, 1)], id="it was frozen after the end only"),
        pytest.param([(3.5, 6, 2)], id="it was another worker"),
    ],
)
def test_a_call_after_the_end_is_seen_beside_a_standstill(
    standstills: list[tuple[float, float, int]],
) -> None:
    late = [*CLEAN.calls, call(SECOND.id, 3, begins=6, ends=7)]
    attempts = [*CLEAN.attempts, attempt(SECOND.id, 3, begins=3, ends=4)]
    other = replace(CLEAN, calls=late, attempts=attempts)
    found = kinds(replace(other, standstills=[frozen(*one) for one in standstills]))
    assert found == {"called after it was final"}


def test_a_second_call_of_a_worker_that_woke_is_seen() -> None:
    late = [
        call(one.id, 3 + number, begins=6, ends=7) for number, one in enumerate((FIRST, SECOND))
    ]
    attempts = [attempt(one.turn_id, one.fence, begins=1, ends=1.5) for one in late]
    woken = replace(
        CLEAN,
        calls=[*CLEAN.calls, *late],
        attempts=[*CLEAN.attempts, *attempts],
        standstills=[frozen(1.5, 6)],
    )
    assert len(list(woken.called_after_final())) == 1


def test_an_answer_that_came_after_its_worker_was_given_up_counts_as_a_zombie() -> None:
    lost = replace(CLEAN.attempts[0], outcome="lost", ended_at=at(1))
    assert replace(CLEAN, attempts=[lost, CLEAN.attempts[1]]).refused_zombies() == 1

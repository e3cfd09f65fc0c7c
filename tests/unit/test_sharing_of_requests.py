"""How many requests go to which webhook at once: those that hang have half of the places."""

from datetime import timedelta
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from turnmill.store.hook_records import Sent
from turnmill_worker.webhooks.sharing import AT_ONCE, Sharing

GOOD, BAD = Sent(ok=True, status=204, took_ms=5), Sent(ok=False, error_code="timeout")
SLOW = Sent(ok=True, status=204, took_ms=5_000)


BUSY = Sent(ok=False, status=429, error_code="http_429", wait=timedelta(seconds=30))
CLOSED = Sent(ok=False, status=503, error_code="http_503", wait=timedelta(hours=9))


def taken(sharing: Sharing, hook: UUID, sent: Sent | None) -> None:
    sharing.begun(hook)
    sharing.ended(hook, sent)


def test_one_that_answers_is_sent_more_at_once_up_to_eight_and_one_that_fails_one() -> None:
    sharing, hook = Sharing(), uuid4()
    seen = []
    for sent in (None, GOOD, GOOD, GOOD, GOOD, BAD, GOOD):
        taken(sharing, hook, sent)
        seen.append(sharing.room(AT_ONCE).to(hook))
    assert seen == [1, 2, 4, 8, 8, 1, 2]


def test_what_is_under_way_counts() -> None:
    sharing, hook = Sharing(), uuid4()
    for _ in range(3):
        taken(sharing, hook, GOOD)
    for left in range(8, 0, -1):
        assert sharing.room(AT_ONCE).quick == {hook: left}
        sharing.begun(hook)
    assert sharing.room(AT_ONCE).to(hook) == 0


def test_those_that_are_slow_or_unheard_of_share_half_of_the_places() -> None:
    sharing, slow = Sharing(), uuid4()
    for _ in range(4):
        taken(sharing, slow, SLOW)
    room = sharing.room(AT_ONCE)
    assert (room.quick, room.to(slow), room.most_of_others) == ({}, 8, AT_ONCE // 2)
    for _ in range(8):
        sharing.begun(slow)
    strangers = [uuid4() for _ in range(8)]
    for one in strangers:
        sharing.begun(one)
    assert sharing.room(AT_ONCE - 16).most_of_others == 0
    taken(sharing, slow, GOOD)  # it has become quick: its places are not the others' any more
    assert sharing.room(AT_ONCE - 16).most_of_others == 8


def test_one_that_asks_for_a_pause_is_asked_again_when_it_is_over_or_after_a_minute() -> None:
    passed = [0.0]
    sharing = Sharing(lambda: passed[-1])
    busy, closed, other = uuid4(), uuid4(), uuid4()
    taken(sharing, busy, BUSY)
    taken(sharing, closed, CLOSED)
    seen = []
    for moment in (1.0, 29.0, 31.0, 59.0, 61.0):
        passed.append(moment)
        room = sharing.room(AT_ONCE)
        seen.append((room.to(busy), room.to(closed), room.to(other)))
    assert seen == [(0, 0, 1), (0, 0, 1), (1, 0, 1), (1, 0, 1), (1, 1, 1)]


def test_one_that_asked_for_a_pause_and_takes_something_is_sent_more() -> None:
    sharing, hook = Sharing(lambda: 0.0), uuid4()
    for sent in (BUSY, GOOD):
        taken(sharing, hook, sent)
    assert sharing.room(AT_ONCE).to(hook) == 2


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([GOOD, BAD, SLOW, None]))))
def test_whatever_they_answer_nobody_is_forgotten_and_no_bound_is_passed(
    course: list[tuple[int, Sent | None]],
) -> None:
    sharing = Sharing()
    hooks = [UUID(int=n) for n in range(10)]
    for n, sent in course:
        taken(sharing, hooks[n], sent)
        room = sharing.room(AT_ONCE)
        assert room.most_of_others == AT_ONCE // 2
        assert all(1 <= room.to(one) <= 8 for one in hooks)

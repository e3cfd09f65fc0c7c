"""The rota: the next slot goes to the user who had the fewest, and round among equals."""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from turnmill.domain.ids import TurnId
from turnmill.store.line.sharing import Due
from turnmill_worker.turn.rota import Rota

NOTHING: Mapping[str, int] = MappingProxyType({})


def due(user: str, *numbers: int) -> list[Due]:
    return [Due(user, TurnId(UUID(int=number))) for number in numbers]


def chosen(
    rota: Rota, waiting: list[Due], most: int, had: Mapping[str, int] = NOTHING
) -> list[int]:
    of = {one.turn_id: one.user_id for one in waiting}
    found = rota.order(waiting, had=had)[:most]
    for one in found:
        rota.serve(of[one])
    return [one.int for one in found]


def test_equals_are_served_by_turns_and_each_of_his_own_in_the_order_given() -> None:
    waiting = [*due("ada", 1, 2, 3), *due("bob", 11, 12)]
    assert chosen(Rota(), waiting, 5) == [1, 11, 2, 12, 3]


def test_who_had_fewer_slots_gets_the_next_ones_until_both_had_as_many() -> None:
    waiting = [*due("ada", 1, 2, 3), *due("bob", 11, 12, 13, 14)]
    assert chosen(Rota(), waiting, 6, {"ada": 3}) == [11, 12, 13, 1, 14, 2]


def test_of_equals_who_was_served_longest_ago_is_next() -> None:
    rota = Rota()
    assert chosen(rota, due("ada", 1, 2), 1) == [1]
    assert chosen(rota, [*due("ada", 2), *due("bob", 11)], 1) == [11]
    assert chosen(rota, [*due("ada", 2), *due("bob", 12)], 1) == [2]
    assert rota.after == "ada"


def test_what_is_given_twice_is_chosen_once() -> None:
    assert chosen(Rota(), due("ada", 1, 1, 2), 5) == [1, 2]


def test_of_many_users_the_last_ones_are_remembered_and_no_more() -> None:
    rota = Rota()
    for number in range(1200):
        chosen(rota, due(f"user {number}", number), 1)
    assert len(rota._served) == 1000
    assert chosen(rota, [*due("user 1199", 1), *due("user 0", 2)], 1) == [2]


@given(
    waiting=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 9), min_size=1),
    held=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 9)),
    most=st.integers(1, 40),
)
def test_nobody_is_served_who_had_more_than_somebody_who_still_waits(
    waiting: dict[str, int], held: dict[str, int], most: int
) -> None:
    numbers = {user: range(n * 100, n * 100 + waiting[user]) for n, user in enumerate(waiting)}
    of = {number: user for user, all_of in numbers.items() for number in all_of}
    left, holds = Counter(waiting), Counter(held)
    found = chosen(
        Rota(), [one for user in waiting for one in due(user, *numbers[user])], most, held
    )
    for number in found:
        user = of[number]
        assert holds[user] == min(holds[one] for one in +left)
        holds[user] += 1
        left[user] -= 1
    assert len(found) == min(most, sum(waiting.values()))

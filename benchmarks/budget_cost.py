"""What a budget of each user costs a turn: python -m benchmarks.budget_cost [--rounds 5].

One version, two sides in turns, in one run: sessions of users that no budget bounds, and of users
who each have one. Servers of its own; CPU of worker, Postgres and Redis together. `--users 2000`
gives each session a user of its own; as they are, 20 conversations of one user go on at a time.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import timedelta
from statistics import median

from benchmarks.__main__ import conditions, tell
from benchmarks.ground import USERS, Ground, ground, quiet_client
from benchmarks.systems import SYSTEMS, Point
from benchmarks.throughput import Windows, measure

_SESSIONS = 2000
_WINDOWS = Windows(count=2, seconds=2.0, settling=1.5)
_LOAD = Point(in_flight=800, latency=timedelta(milliseconds=200))
_LIMIT_USD = 1_000_000
#: CPU milliseconds a turn that a user's budget may cost.
MOST = 0.15
_SIDES = ("without", "with")

Round = dict[str, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, default=USERS)
    given = parser.parse_args()
    rounds: list[Round] = []
    with ground() as here:
        templates = {side: here.template(sessions=_SESSIONS, users=given.users) for side in _SIDES}
        give_budgets(here, templates["with"], users=given.users)
        for number in range(given.rounds):
            order = _SIDES if number % 2 else _SIDES[::-1]
            rounds.append({side: cost(here, templates[side]) for side in order})
            tell(f"round {number + 1} of {given.rounds}: {rounds[-1]}")
    found = compared(rounds) | {"users": given.users}
    print(json.dumps(found | {"conditions": conditions(), "rounds": rounds}))


def give_budgets(here: Ground, template: str, *, users: int = USERS) -> None:
    """Let every user have a budget that is never used up."""
    with quiet_client(here.postgres.url_of(template)) as client:
        for number in range(users):
            client.budgets.set(user_id=f"user-{number}", limit_usd=_LIMIT_USD, period="month")


def cost(here: Ground, template: str) -> dict[str, float]:
    """Return the CPU milliseconds of a turn, by part, and of all."""
    system = SYSTEMS["interactive"]
    found = measure(system, _LOAD, ground=here, template=template, windows=_WINDOWS)
    return {part: one.median for part, one in found.cpu_ms.items()}


def compared(rounds: Sequence[Round]) -> dict[str, object]:
    """Return what both sides cost, and by how much one is more: round by round, as they drift."""
    parts = rounds[0]["with"]
    more = {
        part: round(median(one["with"][part] - one["without"][part] for one in rounds), 3)
        for part in parts
    }
    sides = {side: round(median(one[side]["all"] for one in rounds), 3) for side in _SIDES}
    return {**sides, "more": more, "most": MOST, "met": more["all"] <= MOST}


if __name__ == "__main__":
    main()

"""What a claim pays for reading its session's row, and what a cache in Redis would pay instead.

python -m benchmarks.session_cache [--claims 300] [--rounds 7]

Servers of its own on this machine; all kinds are measured in each round, in turn. A claim locks and
writes the session's row in any case: a cache can only spare it the prompt and the settings.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

import redis
from sqlalchemy import Connection, create_engine

from benchmarks.ground import ground, queue_turns
from turnmill.connections.postgres import read
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane
from turnmill.store.database import Database
from turnmill.store.dialing import connect_args
from turnmill.store.postgres import claiming
from turnmill.store.schema_name import execute

LEASE = timedelta(seconds=15)
EXPIRES_SECONDS = 300
PROMPTS = (200, 8000)  #: characters
SETTINGS = {"temperature": 0.2, "max_output_tokens": 800, "timeout": 60}
#: The statement of a claim that finds prompt and settings elsewhere.
WITHOUT = claiming._CLAIM_BY_IDS[False].replace(
    "session.system_prompt, session.settings", "NULL::text, '{}'::json"
)

Work = Callable[[Sequence[tuple[TurnId, SessionId]]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Both servers, and what is kept in the cache."""

    conn: Connection
    cache: redis.Redis
    row: str  #: of a session, as the cache has it

    def claim(self, statement: str, turns: Sequence[tuple[TurnId, SessionId]]) -> None:
        """Claim and roll back: the time of the statement, without the disk's."""
        given = {"lanes": ["bulk"], "owner": "bench", "lease": LEASE}
        execute(self.conn, "BEGIN")
        found = execute(self.conn, statement, {**given, "ids": [one for one, _ in turns]}).all()
        execute(self.conn, "ROLLBACK")
        assert len(found) == len(turns), f"{len(found)} of {len(turns)} claimed"

    def now(self, turns: Sequence[tuple[TurnId, SessionId]]) -> None:
        self.claim(claiming._CLAIM_BY_IDS[False], turns)

    def without(self, turns: Sequence[tuple[TurnId, SessionId]]) -> None:
        self.claim(WITHOUT, turns)

    def hit(self, turns: Sequence[tuple[TurnId, SessionId]]) -> None:
        for found in self.cache.mget([f"session:{one}" for _, one in turns]):
            assert found is not None
            json.loads(found)

    def fill(self, turns: Sequence[tuple[TurnId, SessionId]]) -> None:
        with self.cache.pipeline(transaction=False) as pipe:
            for _, one in turns:
                pipe.set(f"session:{one}", self.row, ex=EXPIRES_SECONDS)
            pipe.execute()

    def invalidate(self, turns: Sequence[tuple[TurnId, SessionId]]) -> None:
        self.cache.delete(*(f"session:{one}" for _, one in turns))

    def kinds(self) -> Mapping[str, Work]:
        """Return what is measured, in an order in which each finds what it needs."""
        return MappingProxyType(
            {
                "claim, as it is": self.now,
                "claim without prompt and settings": self.without,
                "cache: fill": self.fill,
                "cache: read, all hits": self.hit,
                "cache: invalidate": self.invalidate,
            }
        )


def measured(side: Side, turns: Sequence[tuple[TurnId, SessionId]], *, group: int) -> list[float]:
    """Return microseconds a turn of each kind, in one round; kinds take turns at every group."""
    kinds = list(side.kinds().values())
    spent = [0.0] * len(kinds)
    execute(side.conn, "VACUUM turnmill.sessions, turnmill.turns")  # what was rolled back
    for number, start in enumerate(range(0, len(turns), group)):
        claims_first = [0, 1] if number % 2 else [1, 0]
        for at in (*claims_first, *range(2, len(kinds))):
            began = time.perf_counter()
            kinds[at](turns[start : start + group])
            spent[at] += time.perf_counter() - began
    return [seconds / len(turns) * 1e6 for seconds in spent]


def report(rounds: Sequence[Sequence[float]], names: Sequence[str]) -> None:
    """Print each kind as a part of the claim as it is: median, least and most of all rounds."""
    for at, name in enumerate(names):
        ratios = [one[at] / one[0] for one in rounds]
        micro = statistics.median(one[at] for one in rounds)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"  {name:36} {micro:8.0f} µs   {statistics.median(ratios):5.2f}   ({spread})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--claims", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with ground() as both:
        for prompt in PROMPTS:
            template = both.template(sessions=given.claims, turns=10)
            with both.database(template) as url:
                turns = queue_turns(url, turns=given.claims, lane=Lane.BULK)
                _compare(url, both.valkey.url, turns, prompt=prompt, rounds=given.rounds)


def _compare(
    url: str,
    cache_url: str,
    turns: Sequence[tuple[TurnId, SessionId]],
    *,
    prompt: int,
    rounds: int,
) -> None:
    words = {"system_prompt": "x" * prompt, "settings": SETTINGS}
    database = Database(url)
    engine = create_engine(database.url, connect_args=connect_args(read(url), generic_plans=True))
    with database.begin() as conn:
        change = "UPDATE turnmill.sessions SET system_prompt = %(one)s, settings = %(two)s"
        two = json.dumps(SETTINGS)
        execute(conn, change, {"one": words["system_prompt"], "two": two})
    with (
        redis.Redis.from_url(cache_url) as cache,
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn,
    ):
        side = Side(conn=conn, cache=cache, row=json.dumps(words))
        for group in (1, 50):
            measured(side, turns, group=group)  # plans and caches are warm from here on
            found = [measured(side, turns, group=group) for _ in range(rounds)]
            print(f"prompt of {prompt} characters, {group} at a time, a turn:")
            report(found, list(side.kinds()))
    engine.dispose()
    database.close()


if __name__ == "__main__":
    main()

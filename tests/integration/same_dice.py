"""Verbs whose arguments are drawn once and then given to each store."""

import inspect
import random
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tests import steps
from tests.integration.same_meaning import World
from turnmill import AsyncClient
from turnmill.domain.states import Lane, TurnState

FAR = datetime(2040, 3, 31, 1, 30, tzinfo=UTC)


class Dice:
    """Draws verbs with their arguments."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)

    def one(self, *values: Any) -> Any:
        return self.r.choice(values)

    def some(self, share: float = 0.3, **options: list[Any]) -> dict[str, Any]:
        return {k: self.r.choice(v) for k, v in options.items() if self.r.random() < share}

    def draw(self, verbs: dict[str, Any]) -> tuple[str, Callable[[World], Any]]:
        name = self.r.choice(sorted(verbs))
        return name, verbs[name](self)


USERS = ["ada", "bob", "Zoë", "e\u0301ve", "مستخدم", "😀"]
TIMES: list[Any] = [
    FAR,
    FAR.astimezone(None),
    datetime(2040, 3, 25, 2, 30, tzinfo=UTC),
    datetime(2020, 1, 1, tzinfo=UTC),
]
LIMITS = [1, 2, 3, 100]
TEXT = ["hello", "e\u0301", "\u202eabc", "😀😀", "x" * 300, "a\tb\nc", "null", "{}"]


def session(d: "Dice") -> Callable[[World], Any]:
    n = d.r.randrange(50)
    return lambda w: w.of("session", n)


def turn(d: "Dice") -> Callable[[World], Any]:
    n = d.r.randrange(50)
    return lambda w: w.of("turn", n)


def of_turn(verb: str, must: Any = None, **choices: list[Any]) -> Any:
    def make(d: Dice) -> Callable[[World], Any]:
        which, given = turn(d), (must or {}) | d.some(0.5, **choices)

        def call(w: World) -> Any:
            got: Any = w.client.turns.get(which(w))
            if inspect.isawaitable(got):
                return _at(got, verb, given)
            return getattr(got, verb)(**given)

        return call

    return make


def plain_verb(
    path: str, *refs: Any, share: float = 0.3, must: Any = None, **choices: list[Any]
) -> Any:
    def make(d: Dice) -> Callable[[World], Any]:
        got = [ref(d) for ref in refs]
        given = {k: d.r.choice(v) for k, v in (must or {}).items()} | d.some(share, **choices)

        def call(w: World) -> Any:
            given_here = {k: v(w) if callable(v) else v for k, v in given.items()}
            return _verb(w, path)(*(ref(w) if callable(ref) else ref for ref in got), **given_here)

        return call

    return make


def word(*values: Any) -> Any:
    return lambda d: d.r.choice(values)


def nth(kind: str) -> Any:
    def make(d: Dice) -> Any:
        n = d.r.randrange(20)
        return lambda w: w.of(kind, n)

    return make


def send_many(d: Dice) -> Callable[[World], Any]:
    n = d.r.randrange(0, 5)
    them = [(session(d), d.one(*TEXT)) for _ in range(n)]
    given = d.some(
        0.2,
        lane=["bulk", "interactive"],
        idempotency_key=["k1", "k2"],
        deliver_at=TIMES,
        expires=TIMES,
    )
    return lambda w: w.client.send_many([(s(w), t) for s, t in them], **given)


def work(d: Dice) -> Callable[[World], Any]:
    lane = d.one(Lane.BULK, Lane.INTERACTIVE)
    states = [
        d.one(
            TurnState.SUCCEEDED,
            TurnState.SUCCEEDED,
            TurnState.SUCCEEDED,
            TurnState.FAILED,
            TurnState.DEAD,
            TurnState.UNKNOWN,
            TurnState.QUEUED,
        )
        for _ in range(10)
    ]

    def call(w: World) -> Any:
        claims = steps.take_due(w.store, lane, limit=4)
        by_id = sorted(claims, key=lambda c: c.turn_id)
        out = []
        for claim, state in zip(by_id, states, strict=False):
            extra = {"error_code": "refused"} if state in {TurnState.FAILED, TurnState.DEAD} else {}
            found = steps.end(
                w.store, claim, state, cost_usd=Decimal("0.0125"), priced=True, **extra
            )
            out.append(
                [claim.turn_id, claim.text, claim.attempt, claim.kind, state, type(found).__name__]
            )
        return out

    return call


async def _at(got: Any, verb: str, given: dict[str, Any]) -> Any:
    found = getattr(await got, verb)(**given)
    return await found if inspect.isawaitable(found) else [one async for one in found]


def walk(path: str, **choices: list[Any]) -> Any:
    """Make of a listing the walk through its pages, each after the last of the one before."""

    def make(d: Dice) -> Callable[[World], Any]:
        given, limit = d.some(0.3, **choices), d.one(1, 2, 3)

        def call(w: World) -> Any:
            here = {k: v(w) if callable(v) else v for k, v in given.items()} | {"limit": limit}
            listing = _verb(w, path)
            if isinstance(w.client, AsyncClient):
                return _async_pages(listing, here)
            return _pages(listing, here)

        return call

    return make


def _pages(listing: Any, given: dict[str, Any]) -> list[Any]:
    pages, after = [], None
    while page := listing(after=after, **given):
        pages.append(list(page))
        after = page[-1].id
    return pages


async def _async_pages(listing: Any, given: dict[str, Any]) -> list[Any]:
    pages, after = [], None
    while page := await listing(after=after, **given):
        pages.append(list(page))
        after = page[-1].id
    return pages


def _verb(w: World, path: str) -> Any:
    found: Any = w.client
    for name in path.split("."):
        found = getattr(found, name)
    return found

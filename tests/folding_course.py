"""What may happen to figures, drawn by dice, and a ledger that knows what they have to come to.

The ledger is kept by what was done, never by a look at the store.
"""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from tests import rows
from turnmill.domain.analytics.windows import SLOT
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.analytics.folding import fold
from turnmill.store.analytics.usage import roll_up
from turnmill.store.database import Database
from turnmill.store.line.removing import remove_sessions
from turnmill.store.nouns import repricing, turns
from turnmill.store.nouns.event_log import give_places, prune
from turnmill.verbs.users.erasing import Erasing

_PRICE = Decimal("0.25")
_ENDS = (TurnState.SUCCEEDED, TurnState.SUCCEEDED, TurnState.FAILED, TurnState.DEAD)


class Killed(Exception):
    """Whoever folded is gone, and what it has not committed."""


@dataclass(slots=True)
class Ended:
    """A turn that has ended, as the ledger has it."""

    session: SessionId
    user: str
    state: TurnState
    costs: list[Decimal]  #: of its attempts
    gone: bool = False


@dataclass
class Course:
    """A store, dice, and the ledger."""

    store: Database
    dice: random.Random
    folder: Path
    ledger: dict[TurnId, Ended] = field(default_factory=dict)
    _users: list[str] = field(default_factory=lambda: ["u0", "u1", "u2"])

    def step(self) -> None:
        """Let one thing happen."""
        moves: tuple[Callable[[], None], ...] = (
            *(self.end,) * 4,
            *(self.retry, self.remove, self.erase, self.reprice, self.move),
            *(self.fold_a_little,) * 2,
            *(self.fold_and_die, self.fold_twice_at_once, self.retag, self.prune, self.gap),
        )
        self.dice.choice(moves)()

    def sums(self) -> Counter[str]:
        """Return what all figures come to together."""
        found: Counter[str] = Counter()
        for one in self.ledger.values():
            found.update({"turns": 1, one.state.value: 1, "attempts": len(one.costs)})
        return found

    def cost(self) -> Decimal:
        costs = (cost for one in self.ledger.values() for cost in one.costs)
        return sum(costs, Decimal(0))

    def end(self) -> None:
        user = self.dice.choice(self._users)
        team = self.dice.choice(("search", "sales", ""))
        session = rows.start(
            self.store,
            user_id=user,
            model=self.dice.choice("ab"),
            metadata={"team": team, "place": self.dice.choice("xy")} if team else {},
        )
        turn = rows.send(self.store, session)
        state = self.dice.choice(_ENDS)
        rows.run(self.store, turn, state, cost=_PRICE)
        self.ledger[turn] = Ended(session, user, state, [_PRICE])
        if self.dice.random() < 0.4:  # late: it is not folded in yet
            rows.ended_at(self.store, turn, datetime.now(UTC) - self.dice.randrange(90) * SLOT)

    def retry(self) -> None:
        for turn in self._some(TurnState.FAILED, TurnState.DEAD):
            with self.store.begin() as conn:
                turns.retry(conn, turn, new_id=TurnId(new_id()))
            rows.run(self.store, turn, cost=_PRICE)
            one = self.ledger[turn]
            one.state = TurnState.SUCCEEDED
            one.costs.append(_PRICE)

    def remove(self) -> None:
        for turn in self._some():
            with self.store.begin() as conn:
                remove_sessions(conn, [self.ledger[turn].session])
            self.ledger[turn].gone = True

    def erase(self) -> None:
        """Erase a user; who comes after has another name."""
        place = self.dice.randrange(len(self._users))
        user = self._users[place]
        known = any(one.user == user and not one.gone for one in self.ledger.values())
        if self.dice.random() < 0.6 or not known:
            return
        erasing = Erasing(self.store, Settings(home=self.folder))
        report = erasing.erase(user, reason="asked", grace=timedelta(0))
        # His rows are gone; what tells of them goes when figures have read it.
        assert {one.what for one in report.pending} <= {"events"}
        self._users[place] = f"u{len(self.ledger)}-{place}"
        for one in self.ledger.values():
            one.gone = one.gone or one.user == user

    def reprice(self) -> None:
        today = datetime.now(UTC).date()
        days = {"first": today - timedelta(days=1), "last": today}
        calls = self.store.run(repricing.paid_calls, **days, provider=None, after=None, limit=1000)
        if not calls:
            return
        call, price = self.dice.choice(calls), Decimal(self.dice.randrange(1, 99)) / 100
        self.store.run(
            repricing.put_prices, [repricing.Priced(call=call, cost_usd=price, priced_by="anew")]
        )
        costs = self.ledger[call.turn_id].costs
        assert call.cost_usd is not None
        costs[costs.index(call.cost_usd)] = price

    def move(self) -> None:
        """Have a session ask another model from now on, or be of another team."""
        for turn in self._some():
            rows.update_session(
                self.store,
                self.ledger[turn].session,
                **self.dice.choice(({"model": "c"}, {"metadata": {"team": "moved"}})),
            )

    def fold_a_little(self) -> None:
        self.store.run(give_places, limit=self.dice.randrange(1, 9))
        self.store.run(fold, limit=self.dice.randrange(1, 9), slots=1)

    def fold_and_die(self) -> None:
        with suppress(Killed), self.store.begin() as conn:
            fold(conn, limit=3, slots=1)
            raise Killed

    def fold_twice_at_once(self) -> None:
        """Fold twice at once, and have a session go meanwhile, where the store lets them meet."""
        self.store.run(give_places)
        if not self.store.is_postgres:
            self.fold_a_little()
            return
        with ThreadPoolExecutor(3) as pool:
            folds = [pool.submit(self.store.run, fold, limit=4) for _ in range(2)]
            pool.submit(self.remove).result(timeout=30)
            for one in folds:
                one.result(timeout=30)

    def retag(self) -> None:
        if self.dice.random() < 0.3:
            self.store.run(fold, tag=self.dice.choice(("team", "place", "")))

    def prune(self) -> None:
        self.store.run(prune, limit=self.dice.randrange(1, 20))

    def gap(self) -> None:
        """Lose events that nobody has folded in."""
        self.store.run(prune, limit=self.dice.randrange(1, 20), most_kept=0)

    def drain(self) -> None:
        """Bring figures along with everything."""
        with self.store.begin() as conn:
            roll_up(conn)

    def _some(self, *states: TurnState) -> list[TurnId]:
        """Return a turn whose rows stand; none where none does."""
        there = [
            turn
            for turn, one in self.ledger.items()
            if not one.gone and (not states or one.state in states)
        ]
        return [self.dice.choice(there)] if there else []

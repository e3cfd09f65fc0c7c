"""A month of turns, made from a seed: one in which nothing is amiss, and what can be put into it.

Each plant is one thing that somebody should be told of, with models of its own, so that what is
found can be told to be that. The rules' thresholds stood before any of these months was made.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert

from tests.planted_kind import Kind as Kind
from tests.planted_trials import trial
from turnmill.domain.analytics.suggesting.findings import SuggestionRule
from turnmill.domain.analytics.windows import Window
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.schema.trial_tables import trials

BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
DAYS = 31
WINDOW = Window(BEGIN, BEGIN + timedelta(days=DAYS))
_WRITTEN_AT_ONCE = 1000
_DAY = timedelta(days=1)


class Month:
    """Rows of a month, kept until they are written."""

    def __init__(self, seed: int = 1) -> None:
        self.dice = random.Random(seed)
        self._sessions: list[dict[str, Any]] = []
        self._turns: list[dict[str, Any]] = []
        self._attempts: list[dict[str, Any]] = []
        self._tool_calls: list[dict[str, Any]] = []
        self.trials: list[dict[str, Any]] = []
        self._fences = 0

    def add(self, kind: Kind, *, sessions: int, at: Callable[[], datetime] | None = None) -> None:
        """Add so many sessions of the kind, at these moments or as people come."""
        for _ in range(sessions):
            self._session(kind, at() if at is not None else self.some_moment())

    def some_moment(self) -> datetime:
        """Return when somebody comes: by day rather than by night, on workdays rather than not."""
        while True:
            found = BEGIN + timedelta(seconds=self.dice.random() * (DAYS * 86_400 - 20_000))
            busy = 0.2 + 0.8 * (8 <= found.hour < 19)
            if self.dice.random() < busy * (0.4 if found.weekday() > 4 else 1.0):
                return found

    def write(self, conn: Connection) -> None:
        """Write all rows; nothing that a queue does is done for them."""
        tables = (
            (sessions, self._sessions),
            (turns, self._turns),
            (attempts, self._attempts),
            (tool_calls, self._tool_calls),
            (trials, self.trials),
        )
        for table, rows in tables:
            for at in range(0, len(rows), _WRITTEN_AT_ONCE):
                conn.execute(insert(table), rows[at : at + _WRITTEN_AT_ONCE])

    def join(self, other: "Month") -> None:
        """Take over the rows of another one."""
        for attempt in other._attempts:
            attempt["fence"] += self._fences
        self._fences += other._fences
        self._sessions += other._sessions
        self._turns += other._turns
        self._attempts += other._attempts
        self._tool_calls += other._tool_calls
        self.trials += other.trials

    @property
    def turns(self) -> int:
        """Return how many turns there are."""
        return len(self._turns)

    def _id(self) -> UUID:
        return UUID(int=self.dice.getrandbits(128), version=4)

    def _between(self, bounds: tuple[float, float]) -> float:
        return self.dice.uniform(*bounds)

    def _session(self, kind: Kind, at: datetime) -> None:
        session, count = self._id(), self.dice.randint(*kind.turns)
        self._sessions.append(
            {
                "id": session,
                "user_id": f"user-{self.dice.randrange(400)}",
                "provider": kind.provider,
                "model": kind.model,
                "template": kind.template,
                "template_version": 1 if kind.template else None,
                "settings": dict(kind.settings),
                "next_seq": count + 1,
                "created_at": at,
                "last_active_at": at,
            }
        )
        said, free = 0, at
        for seq in range(1, count + 1):
            created = free + timedelta(seconds=self._between(kind.pause) if seq > 1 else 0)
            if seq > 1 and self.dice.random() < kind.again:
                created = free - timedelta(seconds=min(2.0, kind.works[0] / 2))
            ready = max(created, free)
            free, said = self._turn(kind, session, seq, created, ready, said)

    def _turn(
        self,
        kind: Kind,
        session: UUID,
        seq: int,
        created: datetime,
        ready: datetime,
        said: int,
    ) -> tuple[datetime, int]:
        turn = self._id()
        started = ready + timedelta(seconds=self._between(kind.wait))
        fails = self.dice.random() < kind.bad
        tries = 2 if self.dice.random() < kind.retried else 1
        ended = started
        told = 0 if fails else self.dice.randint(*kind.output)
        is_cut = not fails and self.dice.random() < kind.cut
        if is_cut:
            told = int(kind.settings["max_output_tokens"])
        asked = kind.first_input + said
        cached = int(kind.cached * said) if said else 0
        price = kind.prices
        cost = (asked - 0.9 * cached) * price[0] + told * price[1]
        for n in range(1, tries + 1):
            begun, ended = ended, ended + timedelta(seconds=self._between(kind.works))
            is_last = n == tries
            outcome = ("failed" if fails else "succeeded") if is_last else "retrying"
            self._fences += 1
            self._attempts.append(
                {
                    "turn_id": turn,
                    "fence": self._fences,
                    "n": n,
                    "kind": "send",
                    "worker": "w",
                    "started_at": begun,
                    "ended_at": ended,
                    "outcome": outcome,
                    "error_code": None if outcome == "succeeded" else "server_error",
                    "provider": kind.provider,
                    "asked_model": kind.model,
                    "model": kind.model,
                    "input_tokens": asked if outcome == "succeeded" else 0,
                    "output_tokens": told,
                    "cached_tokens": cached if outcome == "succeeded" else 0,
                    "cost_usd": Decimal(str(round(cost, 10))) if outcome == "succeeded" else 0,
                    "service_tier": kind.tier,
                    "provider_ms": int((ended - begun).total_seconds() * 1000),
                }
            )
        self._turns.append(
            {
                "id": turn,
                "session_id": session,
                "seq": seq,
                "state": "failed" if fails else "succeeded",
                "lane": kind.lane,
                "attempt": tries,
                "step": 1,
                "max_attempts": 5,
                "claims": tries,
                "created_at": created,
                "available_at": created,
                "started_at": started,
                "finished_at": ended,
                "finish_reason": None if fails else "length" if is_cut else "stop",
                "error_code": "server_error" if fails else None,
                "input_tokens": 0 if fails else asked,
                "output_tokens": told,
                "cached_tokens": 0 if fails else cached,
                "cost_usd": Decimal(0) if fails else Decimal(str(round(cost, 10))),
            }
        )
        return ended, said + kind.history

    def fail_some(self, share: float, *, since: datetime, until: datetime, code: str) -> None:
        """Let so many turns of these hours have been refused twice before they were answered."""
        for turn in self._turns:
            if since <= turn["created_at"] < until and self.dice.random() < share:
                for _ in range(2):
                    self._fences += 1
                    self._attempts.append(
                        self._failed_call(turn, code, at=turn["started_at"], n=turn["attempt"])
                    )
                turn["attempt"] = min(turn["attempt"] + 2, 5)

    def _failed_call(
        self, turn: Mapping[str, Any], code: str, *, at: datetime, n: int
    ) -> dict[str, Any]:
        last = next(one for one in reversed(self._attempts) if one["turn_id"] == turn["id"])
        return {
            **last,
            "fence": self._fences,
            "n": n,
            "started_at": at,
            "ended_at": at + timedelta(seconds=0.2),
            "outcome": "retrying",
            "error_code": code,
            **dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens", "cost_usd"), 0),
        }

    def call_tools(self, *, model: str, tool: str, calls: Callable[[], int]) -> None:
        """Let turns of a model have called a tool so often, each call at the cost of a step."""
        of_model = {one["id"] for one in self._sessions if one["model"] == model}
        for turn in self._turns:
            if turn["session_id"] not in of_model or turn["state"] != "succeeded":
                continue
            count = calls()
            turn["step"] = count + 1
            turn["cost_usd"] = turn["cost_usd"] * (count + 1)
            self._tool_calls += [
                {
                    "turn_id": turn["id"],
                    "session_id": turn["session_id"],
                    "position": n,
                    "step": n,
                    "call_id": f"call_{n}",
                    "tool": tool,
                    "effects": "none",
                    "state": "done",
                }
                for n in range(1, count + 1)
            ]


def healthy(month: Month) -> None:
    """Add what is as it should be: some kinds of work, two vendors, a batch at night."""
    month.add(Kind(), sessions=500)
    month.add(
        Kind(
            provider="anthropic",
            model="claude-steady",
            template="helpdesk",
            settings={"max_output_tokens": 1000},
            prices=(3e-6, 15e-6),
        ),
        sessions=300,
    )
    month.add(
        Kind(
            model="gpt-nightly",
            lane="bulk",
            tier="flex",
            turns=(1, 1),
            wait=(1.0, 900.0),
            prices=(1e-6, 4e-6),
        ),
        sessions=500,
    )
    month.add(Kind(model="gpt-tools", turns=(2, 5)), sessions=100)
    month.call_tools(model="gpt-tools", tool="search", calls=lambda: month.dice.randint(1, 4))
    # Somebody has tried another model, whose replies say something else.
    month.trials.append(
        trial(1, before="gpt-steady", after="gpt-other", same=0.8, ended=BEGIN + 20 * _DAY)
    )


def twice_as_dear(month: Month) -> None:
    """Half of a template's sessions ask a model that costs three times as much for the same."""
    month.add(Kind(model="gpt-dear", template="summaries", prices=(6e-6, 24e-6)), sessions=200)
    month.add(Kind(model="gpt-cheap", template="summaries"), sessions=200)


def answers_cut(month: Month) -> None:
    """A fifth of the answers ends at 300 tokens."""
    kind = Kind(model="gpt-cut", settings={"max_output_tokens": 300}, output=(80, 290), cut=0.2)
    month.add(kind, sessions=120)


def limit_too_high(month: Month) -> None:
    """Up to 32,000 tokens are reserved for answers of a hundred."""
    kind = Kind(model="gpt-roomy", settings={"max_output_tokens": 32_000}, output=(20, 100))
    month.add(kind, sessions=150)


def retry_storm(month: Month) -> None:
    """For three hours of one day two calls of three are refused."""
    storm = BEGIN + timedelta(days=12, hours=10)
    kind = Kind(provider="anthropic", model="claude-stormy")
    month.add(kind, sessions=100)
    mine = Month(month.dice.randrange(2**32))
    mine.add(
        kind, sessions=90, at=lambda: storm + timedelta(seconds=mine.dice.random() * 3 * 3600 - 900)
    )
    mine.fail_some(0.9, since=storm, until=storm + timedelta(hours=3), code="rate_limited")
    month.join(mine)


def dead_target(month: Month) -> None:
    """A region answers nobody for a day."""
    dead = BEGIN + timedelta(days=20)
    kind = Kind(provider="elsewhere", model="gpt-gone", bad=1.0, turns=(1, 2), retried=0.0)
    month.add(kind, sessions=120, at=lambda: dead + timedelta(seconds=month.dice.random() * 86_400))


def cache_unused(month: Month) -> None:
    """Instructions of 3,000 tokens change with every message, so that nothing is read again."""
    month.add(Kind(model="gpt-uncached", first_input=3000, cached=0.0), sessions=120)


def history_grows(month: Month) -> None:
    """Conversations of sixty messages are sent whole."""
    kind = Kind(model="gpt-long", turns=(50, 60), history=400, cached=0.9)
    month.add(kind, sessions=25)


def could_wait(month: Month) -> None:
    """A nightly job is asked one by one, at the usual price."""
    kind = Kind(model="gpt-hasty", lane="bulk", turns=(1, 1), first_input=8000, wait=(1.0, 900.0))
    month.add(kind, sessions=700)


def few_workers(month: Month) -> None:
    """On four mornings nobody is free at nine."""

    def at_nine() -> datetime:
        day = month.dice.choice((5, 6, 7, 8))
        return BEGIN + timedelta(days=day, hours=9, seconds=month.dice.random() * 3000)

    month.add(Kind(model="gpt-queued", turns=(1, 1), wait=(5.0, 40.0)), sessions=200, at=at_nine)


def tool_loops(month: Month) -> None:
    """One turn in five calls the same tool a dozen times."""
    month.add(Kind(model="gpt-loops", turns=(2, 4)), sessions=80)
    month.call_tools(
        model="gpt-loops",
        tool="lookup",
        calls=lambda: 12 if month.dice.random() < 0.2 else month.dice.randint(1, 3),
    )


def sent_again(month: Month) -> None:
    """Answers take a minute, and every fifth user writes again before."""
    kind = Kind(model="gpt-slow", works=(20.0, 50.0), again=0.2, turns=(4, 8))
    month.add(kind, sessions=100)


def tried(month: Month) -> None:
    """A trial has shown that another model says the same for a third; its lines are gone."""
    month.add(Kind(model="gpt-tried"), sessions=60)
    month.trials.append(
        trial(2, before="gpt-tried", after="gpt-less", same=0.97, ended=BEGIN + 25 * _DAY)
    )


#: What is put into the month, by the rule that is to find it, and what it is to name.
PLANTS: Mapping[SuggestionRule, tuple[Callable[[Month], None], str]] = MappingProxyType(
    {
        SuggestionRule.CHEAPER_MODEL: (twice_as_dear, "summaries: openai/gpt-dear"),
        SuggestionRule.ANSWERS_CUT: (answers_cut, "openai/gpt-cut with max_output_tokens=300"),
        SuggestionRule.LIMIT_TOO_HIGH: (
            limit_too_high,
            "openai/gpt-roomy with max_output_tokens=32000",
        ),
        SuggestionRule.RETRY_STORM: (retry_storm, "anthropic/claude-stormy"),
        SuggestionRule.DEAD_TARGET: (dead_target, "elsewhere/gpt-gone"),
        SuggestionRule.CACHE_UNUSED: (cache_unused, "openai/gpt-uncached"),
        SuggestionRule.HISTORY_GROWS: (history_grows, "openai/gpt-long"),
        SuggestionRule.COULD_WAIT: (could_wait, "openai/gpt-hasty"),
        SuggestionRule.FEW_WORKERS: (few_workers, "interactive lane"),
        SuggestionRule.TOOL_LOOPS: (tool_loops, "openai/gpt-loops calling lookup"),
        SuggestionRule.SENT_AGAIN: (sent_again, "openai/gpt-slow"),
        SuggestionRule.TRIED: (tried, "trial-2: openai/gpt-tried"),
    }
)


def planted(rules: Sequence[SuggestionRule] = tuple(PLANTS), *, seed: int = 1) -> Month:
    """Return a healthy month with these plants in it."""
    month = Month(seed)
    healthy(month)
    for rule in rules:
        PLANTS[rule][0](month)
    return month

"""What stand-ins for vendors of batches share: batches that take their time, and have their fates.

A test says what becomes of the next ones: `desk.fates.append(Fate(ends="expired", …))`. What was
run, and is to be paid, is counted line by line.
"""

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: What may become of a line that is run: "" is an answer, the others cost nothing, but for what
#: has "failed" at OpenAI while it was made.
OUTCOMES = (
    *("", "bad_request", "server_error", "rate_limited", "expired", "canceled", "lost"),
    "failed",
)


@dataclass(slots=True, kw_only=True)
class Fate:
    """What becomes of a batch."""

    ends: str = "completed"
    #: codes and lines of what is wrong with the whole: it fails before anything is run
    errors: Sequence[tuple[str, int | None]] = ()
    #: what becomes of each line, by its number from 0: one of OUTCOMES
    of_line: Callable[[int], str] = lambda _: ""
    empty_names: bool = False  #: an absent file is told as "", as the vendor does now and then


@dataclass(slots=True, kw_only=True)
class DeskLine:
    """A line that came in."""

    custom_id: str
    url: str
    body: dict[str, Any] = field(repr=False)


@dataclass(slots=True, kw_only=True)
class DeskBatch:
    """A batch that came in."""

    id: str
    lines: Sequence[DeskLine] = field(repr=False)
    fate: Fate
    tokens: int
    begun: float
    metadata: dict[str, str] = field(default_factory=dict)
    stored: str = ""
    endpoint: str = ""
    models: frozenset[str] = frozenset()
    ended: str = ""  #: how, once it has
    cancelled: bool = False
    errors: Sequence[tuple[str, int | None]] = ()
    results: list[tuple[DeskLine, str]] = field(default_factory=list, repr=False)
    total: int = 0


class BatchDesk:
    """All batches of one account."""

    def __init__(self, *, takes: float = 0.0, window: int | None = None, seed: int = 0) -> None:
        """`takes` seconds until a batch has ended; `window` tokens may wait, of one model."""
        self.takes = takes
        self.window = window
        self.lists_after = 0.0  #: seconds until a batch is seen in a list
        self.lists_oldest_first = False
        self.fates: deque[Fate] = deque()
        self.batches: dict[str, DeskBatch] = {}
        self.paid: Counter[str] = Counter()  #: lines that were answered, by their custom ids
        self.refused_for_window = 0
        self.heard: list[set[int]] = []  #: how many messages lines have had, batch by batch
        self._dice = random.Random(seed)

    def take(self, batch: DeskBatch) -> None:
        """Let a batch begin; it fails where too much waits already."""
        batch.total = len(batch.lines)
        self.heard.append({_messages_in(line.body) for line in batch.lines})
        batch.errors = batch.fate.errors
        waiting = sum(
            one.tokens for one in self._open() if one.models & batch.models or not batch.models
        )
        if self.window is not None and waiting + batch.tokens > self.window:
            self.refused_for_window += 1
            batch.errors = [("token_limit_exceeded", None)]
        if batch.errors:
            batch.ended = "failed"
        self.batches[batch.id] = batch

    def find(self, ref: str) -> DeskBatch | None:
        """Return a batch as it stands by now."""
        batch = self.batches.get(ref)
        if batch is not None and not batch.ended and self._is_over(batch):
            self._end(batch)
        return batch

    def listed(self) -> list[DeskBatch]:
        """Return those that are seen in a list, in its order."""
        seen = time.monotonic() - self.lists_after
        found = [one for one in self.batches.values() if one.begun <= seen]
        for one in found:
            self.find(one.id)
        return found if self.lists_oldest_first else found[::-1]

    def cancel(self, batch: DeskBatch) -> None:
        """Let no further line be run: of an open batch one half had been."""
        if not batch.ended:
            batch.cancelled = True
            self._end(batch)

    def told(self) -> dict[str, int]:
        """Return what was run and refused, in numbers."""
        return {
            "batches": len(self.batches),
            "paid": sum(self.paid.values()),
            "lines": len(self.paid),
            "refused_for_window": self.refused_for_window,
        }

    def _open(self) -> list[DeskBatch]:
        return [one for one in self.batches.values() if not self.find(one.id).ended]  # type: ignore[union-attr]

    def _is_over(self, batch: DeskBatch) -> bool:
        return time.monotonic() - batch.begun >= self.takes

    def _end(self, batch: DeskBatch) -> None:
        batch.ended = "cancelled" if batch.cancelled else batch.fate.ends
        for number, line in enumerate(batch.lines):
            outcome = batch.fate.of_line(number)
            if batch.cancelled and number >= batch.total // 2:
                outcome = "canceled"
            if outcome in ("", "failed"):
                self.paid[line.custom_id] += 1
            if outcome != "lost":
                batch.results.append((line, outcome))
        self._dice.shuffle(batch.results)
        batch.lines = ()


def _messages_in(body: dict[str, Any]) -> int:
    given = body.get("input", body.get("messages"))
    return len(given) if isinstance(given, list) else 1


def answer_to(body: dict[str, Any]) -> str:
    """Return what a line is answered with: what it asks to be `answer: …`, or else an echo."""
    said = said_in(body)
    _, asked, wanted = said.partition("answer: ")
    return wanted if asked else f"echo: {said}"


def said_in(body: dict[str, Any]) -> str:
    """Return the last words that a call says, whichever API it is of."""
    given = body.get("input", body.get("messages"))
    if isinstance(given, str):
        return given
    last = given[-1]["content"] if isinstance(given, list) and given else ""
    if isinstance(last, str):
        return last
    return "".join(one.get("text", "") for one in last if isinstance(one, dict))


def tokens_of(line: bytes) -> int:
    """Return how many tokens a line counts: as English does."""
    return len(line) // 4

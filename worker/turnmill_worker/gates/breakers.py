"""Breakers: whether a model hangs, or has failed many times in a row, as this process sees it."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from turnmill.domain.ids import TurnId

HANGS = "hangs"
FAILS = "fails"

#: So many failures in a row, of so many turns, are no accident.
_IN_A_ROW = 10
_OF_TURNS = 3
#: So many calls in flight, each for so long and none of them answered, are no slow answers.
_HANGING = 5
_LONG = timedelta(seconds=30)
_TIMES_USUAL = 6
#: Models that are remembered; beyond it, the one that was asked the longest time ago is not.
_MOST_MODELS = 1_000


@dataclass(slots=True, eq=False)
class Model:
    """The calls of this process to one model."""

    in_flight: dict[int, float] = field(default_factory=dict, repr=False)  #: when each began
    failed: list[TurnId] = field(default_factory=list)  #: in a row, since the last success
    answered_at: float = 0.0
    usual: float = 0.0  #: seconds that an answer takes, on the average
    calls: int = 0
    answers: int = 0  #: since it was open to all

    @property
    def fails(self) -> bool:
        """Tell whether it has failed too often, and has not been answered since."""
        return len(self.failed) >= _IN_A_ROW and len(set(self.failed)) >= _OF_TURNS

    def hangs(self, now: float) -> bool:
        """Tell whether many calls have been in flight for long, and none was answered meanwhile.

        Those that began before the last answer tell nothing: something was heard since.
        """
        if len(self.in_flight) < _HANGING:
            return False
        long = max(_LONG.total_seconds(), _TIMES_USUAL * self.usual)
        late = [one for one in self.in_flight.values() if self.answered_at <= one < now - long]
        return len(late) >= _HANGING


class Breakers:
    """All models that this process calls. Used on one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._models: OrderedDict[tuple[str, str], Model] = OrderedDict()

    def begin(self, provider: str, model: str) -> "Flight":
        """Note that a call begins."""
        named = (provider, model)
        found = self._models.get(named)
        if found is None:
            found = self._models[named] = Model()
            if len(self._models) > _MOST_MODELS:
                self._models.popitem(last=False)
        found.calls += 1
        number = found.calls
        found.in_flight[number] = self._clock()
        return Flight(found, number, self._clock)

    def hanging(self) -> Iterator[tuple[str, str]]:
        """Yield the (provider, model) of those that hang now."""
        now = self._clock()
        for (provider, name), model in list(self._models.items()):
            if model.hangs(now):
                yield provider, name

    def forgive(self, provider: str, model: str) -> None:
        """Count from the beginning: it was closed for what was counted so far."""
        if (found := self._models.get((provider, model))) is not None:
            found.failed.clear()

    def opened(self, provider: str, model: str) -> None:
        """Count the answers from now on: all may call it again."""
        if (found := self._models.get((provider, model))) is not None:
            found.answers = 0

    def answers_of(self, provider: str, model: str) -> int:
        """Return how many calls were answered here since it was open to all."""
        found = self._models.get((provider, model))
        return 0 if found is None else found.answers

    def works(self, provider: str, model: str) -> None:
        """It has answered somebody else: what still hangs here tells no more than it did."""
        if (found := self._models.get((provider, model))) is not None:
            found.answered_at = self._clock()
            found.failed.clear()


@dataclass(slots=True, eq=False)  # one is made for each call: freezing it costs as much again
class Flight:
    """One call in flight."""

    model: Model
    number: int
    clock: Callable[[], float]

    def answered(self) -> None:
        """The vendor has said something: it works."""
        now, model = self.clock(), self.model
        took = now - model.in_flight.pop(self.number, now)
        model.usual += (took - model.usual) / 8
        model.answered_at = now
        model.answers += 1
        model.failed.clear()

    def failed(self, turn_id: TurnId) -> bool:
        """It did not answer; True where that was once too often."""
        self.over()
        if len(self.model.failed) < 10 * _IN_A_ROW:
            self.model.failed.append(turn_id)
        return self.model.fails

    def over(self) -> None:
        """It ended, and tells nothing."""
        self.model.in_flight.pop(self.number, None)

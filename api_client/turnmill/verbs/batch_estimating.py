"""Estimating: what a batch file may take and cost, before anything of it is submitted."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from importlib.metadata import entry_points
from typing import Any, NamedTuple, Protocol

from turnmill.domain.batch_estimates import (
    AskedLine,
    BatchEstimate,
    LineEstimate,
    ModeEstimate,
)
from turnmill.domain.batches import BatchMode
from turnmill.domain.content import Message, Text
from turnmill.domain.dollars import part_of
from turnmill.settings import Settings
from turnmill.store.codec import parts_from
from turnmill.store.nouns import batch_estimates, batch_reserving, price_lists
from turnmill.verbs.batch_files.lines import Draft
from turnmill.verbs.verb import Connection, Effect, Verb, single

#: The worker's half registers who estimates under it.
_ESTIMATORS = "turnmill.counters"
#: A vendor's own batch is promised within a day.
_NATIVE_TAKES = timedelta(hours=24)
#: Lines that are estimated one by one; those after them, by what these were.
_LOOKED_AT = 20_000

Limits = Mapping[tuple[str, str], tuple[int | None, int | None]]


class Estimator(Protocol):
    """Estimates lines."""

    def of(self, line: AskedLine) -> LineEstimate | None:
        """Return what the line may take; None where nobody can tell."""
        ...

    def priced(
        self, provider: str, model: str, *, input_tokens: int, output_tokens: int
    ) -> Mapping[BatchMode, Decimal | None]:
        """Return what so many tokens cost in each way of running; None where nobody knows."""
        ...


class Known(NamedTuple):
    """What the store knows of models."""

    typical: Mapping[tuple[str, str], int]  #: tokens of a reply
    limits: Limits
    #: names of models that workers have prices of: see `price_names`
    priced: frozenset[str] = frozenset()


def known() -> Verb[Known]:
    """Read what is known of models."""

    def on(conn: Connection) -> Effect[Known]:
        typical = batch_estimates.typical_replies(conn)
        rates, priced = batch_estimates.rates(conn), price_lists.noted(conn)
        return Effect(Known(typical, rates, priced))

    return single(on)


def any_budget_binds() -> Verb[bool]:
    """Tell whether there is a budget that lines could be beyond."""
    return single(lambda conn: Effect(batch_reserving.any_binds(conn)))


def estimator(settings: Settings, found: Known) -> Estimator | None:
    """Return who estimates; None where the worker's half is not installed."""
    for one in entry_points(group=_ESTIMATORS, name="batch"):
        try:
            made: Estimator = one.load()(settings, found.typical)
        except ImportError:
            return None
        return made
    return None


def asked_of(draft: Draft) -> AskedLine | None:
    """Return what a line has a model do.

    None of one whose session stands already, or that holds files: nobody has seen them yet.
    """
    if draft.terms is None or draft.files:
        return None
    content = draft.line.content
    return AskedLine(
        provider=draft.terms.provider,
        model=draft.terms.model,
        system_prompt=content.get("system_prompt"),
        settings=draft.terms.settings,
        before=[said for one in content.get("before", ()) for said in _messages(one)],
        turns=said_in(content),
    )


def said_in(content: Mapping[str, Any]) -> Sequence[Sequence[Message]]:
    """Return what a line says that is to be answered, turn by turn."""
    turns = [_messages(one) for one in content.get("said", ())]
    return turns or [(Message("user", (Text(content["text"]),)),)]


def _messages(said: Sequence[Any]) -> tuple[Message, ...]:
    return tuple(Message(role, parts_from(parts)) for role, parts in said)


@dataclass(slots=True)
class _Sum:
    """Of lines of one model."""

    turns: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Tally:
    """Adds lines up to an estimate of all."""

    estimator: Estimator | None
    lines: int = 0
    turns: int = 0
    unknown: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    _weight: int = 0  #: of lines that were looked at
    _all_weight: int = 0
    _looked_at: int = 0
    _costs: dict[BatchMode, Decimal | None] = field(default_factory=dict, repr=False)
    _bounds: dict[BatchMode, Decimal | None] = field(default_factory=dict, repr=False)
    _models: defaultdict[tuple[str, str], _Sum] = field(
        default_factory=lambda: defaultdict(_Sum), repr=False
    )

    def add(self, draft: Draft) -> None:
        """Take the next line in."""
        self.lines += 1
        turns = len(draft.line.content.get("said", ())) or 1
        self.turns += turns
        self._all_weight += draft.line.weight + 1
        if self._looked_at == _LOOKED_AT:
            return
        self._looked_at += 1
        self._weight += draft.line.weight + 1
        asked = asked_of(draft)
        found = None if asked is None or self.estimator is None else self.estimator.of(asked)
        if asked is None or found is None:
            found = LineEstimate(draft.line.weight, 0, {})
        if BatchMode.LIVE not in found.money or found.money[BatchMode.LIVE].cost_usd is None:
            self.unknown += 1
        self.input_tokens += found.input_tokens
        self.output_tokens += found.output_tokens
        for mode in BatchMode:
            money = found.money.get(mode)
            _add(self._costs, mode, None if money is None else money.cost_usd)
            _add(self._bounds, mode, None if money is None else money.bound_usd)
        if asked is not None:
            of_model = self._models[asked.provider, asked.model]
            of_model.turns += turns
            of_model.tokens += found.input_tokens + found.output_tokens

    def estimate(self, limits: Limits) -> BatchEstimate:
        """Return the estimate of all lines that were taken in."""
        share = Decimal(self._all_weight) / Decimal(self._weight or 1)
        takes = self._takes(limits, float(share))
        modes = {}
        for mode in BatchMode:
            modes[mode] = ModeEstimate(
                mode=mode,
                cost_usd=_times(self._costs.get(mode), share),
                bound_usd=_times(self._bounds.get(mode), share),
                takes=_NATIVE_TAKES if mode is BatchMode.NATIVE else takes,
            )
        return BatchEstimate(
            lines=self.lines,
            turns=self.turns,
            input_tokens=round(self.input_tokens * share),
            output_tokens=round(self.output_tokens * share),
            unknown=round(self.unknown * share),
            modes=modes,
        )

    def _takes(self, limits: Limits, share: float) -> timedelta | None:
        """Return how long the limits let it take; models of one limit are asked one by one."""
        minutes: list[float] = []
        for key in [*self._models, *((provider, "") for provider, _ in self._models)]:
            requests, tokens = limits.get(key, (None, None))
            mine = [one for name, one in self._models.items() if key in (name, (name[0], ""))]
            if requests:
                minutes.append(sum(one.turns for one in mine) * share / requests)
            if tokens:
                minutes.append(sum(one.tokens for one in mine) * share / tokens)
        return timedelta(minutes=max(minutes)) if minutes else None


def _add(sums: dict[BatchMode, Decimal | None], mode: BatchMode, amount: Decimal | None) -> None:
    before = sums.get(mode, Decimal(0))
    sums[mode] = None if amount is None or before is None else before + amount


def _times(amount: Decimal | None, share: Decimal) -> Decimal | None:
    return None if amount is None else part_of(amount, share)


def bounded(drafts: Sequence[Draft], estimator: Estimator) -> Iterator[Draft]:
    """Yield the lines with what each may cost at the most, one by one; see `batch_bounding`."""
    for draft in drafts:
        asked = asked_of(draft)
        found = None if asked is None else estimator.of(asked)
        money = None if found is None else found.money[BatchMode.LIVE]
        if money is None or money.bound_usd is None:
            yield draft
        else:
            yield draft._replace(line=draft.line._replace(bound_usd=money.bound_usd))

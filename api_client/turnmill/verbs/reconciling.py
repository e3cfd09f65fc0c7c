"""Reconciling: a vendor's bill beside what was written down here, by day, model and tier."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from turnmill.domain.dollars import less
from turnmill.store.nouns.spending import Spent
from turnmill.verbs.bills import Bill, BillLine

_SNAPSHOT = re.compile(r"-(latest|20\d{6}|20\d{2}-\d{2}-\d{2})$")
_STANDARD = frozenset({"", "default", "standard"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What the calls came to; None is what a bill does not say."""

    calls: int | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One day, model and tier, here and on the bill."""

    day: date
    model: str | None  #: None: the bill does not tell models from one another
    tier: str | None  #: `standard`, `flex`, …; None: the bill does not tell
    here: Sums | None  #: None: nothing was written down
    bill: Sums | None  #: None: nothing is on the bill
    unpriced: int = 0  #: calls here without a known price
    estimated: int = 0  #: calls here that were cut, and are an estimate
    tolerance_usd: Decimal = Decimal(0)  #: so much of a difference is none

    @property
    def difference_usd(self) -> Decimal | None:
        """Return how much more the bill says; None where it says no cost."""
        if self.bill is not None and self.bill.cost_usd is None:
            return None
        billed = Decimal(0) if self.bill is None else self.bill.cost_usd or Decimal(0)
        here = Decimal(0) if self.here is None else self.here.cost_usd or Decimal(0)
        return less(billed, here)

    @property
    def agrees(self) -> bool:
        """Tell whether all that the bill says is what was written down."""
        if self.here is None or self.bill is None:
            return False
        told = [
            (getattr(self.bill, name), getattr(self.here, name))
            for name in ("calls", "input_tokens", "cached_tokens", "output_tokens")
        ]
        difference = self.difference_usd
        costs_agree = difference is None or abs(difference) <= self.tolerance_usd
        return costs_agree and all(billed in (None, here) for billed, here in told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """A bill, and what it was compared with."""

    provider: str
    first: date  #: of the bill, in UTC
    last: date
    lines: Sequence[Compared] = field(repr=False)  #: by day, model and tier

    @property
    def agrees(self) -> bool:
        """Tell whether all lines do."""
        return all(one.agrees for one in self.lines)

    @property
    def here_usd(self) -> Decimal:
        """Return what was written down, as far as prices are known."""
        return sum((one.here.cost_usd or Decimal(0) for one in self.lines if one.here), Decimal(0))

    @property
    def bill_usd(self) -> Decimal | None:
        """Return what the bill comes to; None where it says no costs."""
        costs = [one.bill.cost_usd for one in self.lines if one.bill]
        known = [one for one in costs if one is not None]
        return sum(known, Decimal(0)) if known else None


class _Key(NamedTuple):
    day: date
    model: str | None
    tier: str | None


def compared(bill: Bill, spent: Sequence[Spent], *, tolerance: Decimal) -> Reconciliation:
    """Compare them, on what the bill tells apart; `tolerance` is a share of a line's cost."""
    names = _matched(bill, spent)
    billed: defaultdict[_Key, list[BillLine]] = defaultdict(list)
    for line in bill.lines:
        tier = _named(line.tier) if bill.by_tier else None
        model = names[line.model or ""] if bill.by_model else None
        billed[_Key(line.day, model, tier)].append(line)
    here: defaultdict[_Key, list[Spent]] = defaultdict(list)
    for one in spent:
        tier = _named(one.tier) if bill.by_tier else None
        here[_Key(one.day, one.model if bill.by_model else None, tier)].append(one)
    keys = sorted({*billed, *here}, key=lambda key: (key.day, key.model or "", key.tier or ""))
    days = [line.day for line in bill.lines]
    return Reconciliation(
        provider=bill.provider,
        first=min(days),
        last=max(days),
        lines=[_line(key, here.get(key, ()), billed.get(key, ()), tolerance) for key in keys],
    )


def _line(
    key: _Key, here: Sequence[Spent], billed: Sequence[BillLine], tolerance: Decimal
) -> Compared:
    bill = _billed(billed) if billed else None
    cost = bill.cost_usd if bill and bill.cost_usd is not None else Decimal(0)
    rounded = sum((one.rounding for one in billed), Decimal(0))
    return Compared(
        day=key.day,
        model=key.model,
        tier=key.tier,
        here=_written(here) if here else None,
        bill=bill,
        unpriced=sum(one.unpriced for one in here),
        estimated=sum(one.estimated for one in here),
        tolerance_usd=max(abs(cost) * tolerance, rounded),
    )


def _written(here: Sequence[Spent]) -> Sums:
    return Sums(
        calls=sum(one.calls for one in here),
        input_tokens=sum(one.input_tokens for one in here),
        cached_tokens=sum(one.cached_tokens for one in here),
        output_tokens=sum(one.output_tokens for one in here),
        cost_usd=sum((one.cost_usd for one in here), Decimal(0)),
    )


def _billed(lines: Sequence[BillLine]) -> Sums:
    costs = [one.cost_usd for one in lines if one.cost_usd is not None]
    return Sums(
        calls=_sum([one.calls for one in lines]),
        input_tokens=_sum([one.input_tokens for one in lines]),
        cached_tokens=_sum([one.cached_tokens for one in lines]),
        output_tokens=_sum([one.output_tokens for one in lines]),
        cost_usd=sum(costs, Decimal(0)) if costs else None,
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [one for one in counts if one is not None]
    return sum(known) if known else None


def _named(tier: str | None) -> str:
    return "standard" if (tier or "") in _STANDARD else str(tier)


def _matched(bill: Bill, spent: Sequence[Spent]) -> Mapping[str, str]:
    """Return the name here of each model on the bill, which may be shown as `Claude Sonnet 4.5`.

    One that names no snapshot is the only one that is here and not on the bill by its own name.
    """
    ours = {_plain(one.model): one.model for one in spent}
    named = {one.model or "" for one in bill.lines}
    free = [name for name in ours if name not in {_plain(one) for one in named}]
    found: dict[str, str] = {}
    for name in named:
        plain = _plain(name)
        alike = [one for one in free if _SNAPSHOT.sub("", one) == _SNAPSHOT.sub("", plain)]
        key = plain if plain in ours else alike[0] if len(alike) == 1 else ""
        found[name] = ours.get(key, name)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\s._]+", "-", name.strip().lower())

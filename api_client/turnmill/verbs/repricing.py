"""Pricing anew: calls that were counted get the price that is known of them by now."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from turnmill.domain.arguments import yes_or_no
from turnmill.domain.dollars import kept
from turnmill.domain.errors import InvalidInput
from turnmill.domain.plain import day_of
from turnmill.store.analytics import usage
from turnmill.store.nouns import repricing
from turnmill.store.nouns.repricing import CallPlace, PaidCall, Priced, Repriced
from turnmill.verbs.intake import name_or_none
from turnmill.verbs.verb import Connection, Deed, Effect, Verb, single, transaction

#: Calls that are priced and written together.
CHUNK = 500


class NewPrice(NamedTuple):
    """What a call costs by now."""

    cost_usd: Decimal | None  #: None: nobody knows
    priced_by: str = ""
    counted: bool = True  #: False: since its tokens are not known, or not all of them


#: Says what a call costs by now.
PriceAgain = Callable[[PaidCall], NewPrice]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repricing:
    """What came of pricing calls anew."""

    first: date
    last: date
    seen: int = 0  #: calls that have used something
    changed: int = 0  #: those whose price is another one, or is known now
    unknown: int = 0  #: those that have no price by now: what they had stays
    uncounted: int = 0  #: those whose tokens are not known: neither is what they cost
    busy: int = 0  #: those that somebody else has changed meanwhile: run it again
    unadjusted: int = 0  #: of the changed: their day has one sum alone, which is not made anew
    unreached: Sequence[date] = ()  #: UTC days with figures of calls that are gone: these stay
    before_usd: Decimal = Decimal(0)  #: of the changed
    after_usd: Decimal = Decimal(0)
    written: bool = True  #: False: it was only tried


class Job:
    """Pricing the calls of some days anew, chunk by chunk."""

    def __init__(
        self,
        price: PriceAgain,
        *,
        first: date,
        last: date | None,
        provider: str | None,
        dry_run: object,
    ) -> None:
        """Raise InvalidInput."""
        self._price = price
        self._first = _day(first, name="first")
        self._last = datetime.now(UTC).date() if last is None else _day(last, name="last")
        if self._last < self._first:
            raise InvalidInput("last is before first", hint="both are days, in UTC")
        self._provider = name_or_none(provider, name="provider")
        self._dry_run = yes_or_no(dry_run, name="dry_run")
        self._after: CallPlace | None = None
        self._counts = dict.fromkeys(("seen", "changed", "unknown", "uncounted", "busy"), 0)
        self._unadjusted = 0
        self._before = self._growth = Decimal(0)

    def next(self) -> Verb[Sequence[PaidCall]]:
        """Read the next calls; none are left where there are none."""

        def on(conn: Connection) -> Effect[Sequence[PaidCall]]:
            found = repricing.paid_calls(
                conn,
                first=self._first,
                last=self._last,
                provider=self._provider,
                after=self._after,
                limit=CHUNK,
            )
            return Effect(found)

        return single(on)

    def priced(self, calls: Sequence[PaidCall]) -> Sequence[Priced]:
        """Return those of the calls whose price is another one now."""
        self._after = calls[-1].place
        return [one for call in calls if (one := self._priced(call)) is not None]

    def put(self, priced: Sequence[Priced]) -> Verb[Repriced]:
        """Write the prices down, unless it is only tried."""
        if self._dry_run:
            return single(lambda _: Effect(Repriced(priced, 0)))
        return transaction(lambda conn: Effect(repricing.put_prices(conn, priced)))

    def add(self, priced: Sequence[Priced], written: Repriced) -> None:
        """Count what was written."""
        self._counts["changed"] += len(written.changed)
        self._counts["busy"] += len(priced) - len(written.changed)
        self._unadjusted += written.unadjusted
        before = [one.call.cost_usd or Decimal(0) for one in written.changed]
        after = [one.cost_usd for one in written.changed]
        self._before += sum(before, Decimal(0))
        self._growth += sum(after, Decimal(0)) - sum(before, Decimal(0))

    def close(self) -> Verb[Repricing]:
        """Bring the figures along, as beat does, and say what came of it."""
        counts: Mapping[str, Any] = self._counts
        done = Repricing(
            first=self._first,
            last=self._last,
            **counts,
            unadjusted=self._unadjusted,
            before_usd=self._before,
            after_usd=self._before + self._growth,
            written=not self._dry_run,
        )

        def on(conn: Connection) -> Effect[Repricing]:
            if done.written and done.changed:
                usage.roll_up(conn)
            gone = repricing.days_unreached(conn, first=self._first, last=self._last)
            return Effect(replace(done, unreached=tuple(gone)))

        deed = Deed("calls.repriced", figures={"calls": done.changed})
        return transaction(on, does=deed if done.written and done.changed else None)

    def _priced(self, call: PaidCall) -> Priced | None:
        found = self._price(call)
        self._counts["seen"] += 1
        if found.cost_usd is None:
            self._counts["unknown" if found.counted else "uncounted"] += 1
            return None
        cost = kept(found.cost_usd)
        by = found.priced_by or None
        if call.cost_usd is not None and cost == call.cost_usd and by == call.priced_by:
            return None
        return Priced(call=call, cost_usd=cost, priced_by=by)


def _day(value: object, *, name: str) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return day_of(value)
    raise InvalidInput(f"{name} must be a date", hint="datetime.date(2026, 11, 1), in UTC")

"""What all the turns of some days came to, and how that compares with a bill."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation

from turnmill.domain.arguments import plain_number, whole, yes_or_no
from turnmill.domain.bounds import MOST_DAYS
from turnmill.domain.errors import InvalidInput
from turnmill.store.analytics import usage
from turnmill.store.analytics.usage import UsageRow
from turnmill.store.nouns import spending
from turnmill.verbs.bills import Bill
from turnmill.verbs.reconciling import Reconciliation, compared
from turnmill.verbs.verb import Connection, Effect, Verb, single, transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Usage of some days, both ends included, newest first and dearest first."""

    first: date
    last: date
    lines: Sequence[UsageRow]
    rolled_up_at: datetime | None  #: how fresh the lines are; None: nothing was added up yet


def report(*, days: int, by_day: bool, refresh: bool) -> Verb[Report]:
    """Read what the turns of the last days came to, brought up to date before."""
    is_by_day = yes_or_no(by_day, name="by_day")
    is_fresh = yes_or_no(refresh, name="refresh")
    back = whole(days, name="days", most=MOST_DAYS) - 1
    last = datetime.now(UTC).date()
    first = last - timedelta(days=back)

    def on(conn: Connection) -> Effect[Report]:
        if is_fresh:
            usage.roll_up(conn)
        found = Report(
            first=first,
            last=last,
            lines=usage.report(conn, first=first, last=last, by_day=is_by_day),
            rolled_up_at=usage.rolled_up_at(conn),
        )
        return Effect(found)

    return transaction(on)


def reconcile(bill: Bill, *, tolerance: Decimal) -> Verb[Reconciliation]:
    """Compare a bill with what was written down on its days."""
    days = [line.day for line in bill.lines]
    if max(days) - min(days) >= timedelta(days=MOST_DAYS):
        raise InvalidInput(f"the bill is of more than {MOST_DAYS} days", hint="export fewer days")

    def on(conn: Connection) -> Effect[Reconciliation]:
        spent = spending.spent(conn, provider=bill.provider, first=min(days), last=max(days))
        return Effect(compared(bill, spent, tolerance=tolerance))

    return single(on)


def share_of(value: object) -> Decimal:
    """Return a share from 0 to 1, given as a number; raises InvalidInput."""
    found = Decimal(value) if isinstance(value, Decimal) else plain_number(value)
    if found is not None:
        with suppress(InvalidOperation):  # no number at all
            if 0 <= found <= 1:
                return Decimal(str(found))
    raise InvalidInput("tolerance must be from 0 to 1", hint="0.01: a hundredth of a line's cost")

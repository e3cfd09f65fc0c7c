"""Analytics: `client.analytics`, what all the turns came to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from turnmill.domain.arguments import whole
from turnmill.domain.bounds import MOST_DAYS
from turnmill.store.nouns import usage
from turnmill.store.nouns.usage import UsageRow
from turnmill.verbs.verb import Connection, Effect, Verb, transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Usage of some days, both ends included, newest first and dearest first."""

    first: date
    last: date
    lines: Sequence[UsageRow]
    rolled_up_at: datetime | None  #: how fresh the lines are; None: there are none


def report(*, days: int, by_day: bool, refresh: bool) -> Verb[Report]:
    """Read what the turns of the last days came to, those of today written anew before."""
    back = whole(days, name="days", most=MOST_DAYS) - 1
    last = datetime.now(UTC).date()
    first = last - timedelta(days=back)

    def on(conn: Connection) -> Effect[Report]:
        if refresh:
            usage.roll_up(conn, last)
        found = Report(
            first=first,
            last=last,
            lines=usage.report(conn, first=first, last=last, by_day=by_day),
            rolled_up_at=usage.rolled_up_at(conn, first=first, last=last),
        )
        return Effect(found)

    return transaction(on)

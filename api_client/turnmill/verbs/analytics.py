"""Analytics: `client.analytics`, what all the turns came to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from turnmill.domain.arguments import whole
from turnmill.domain.bounds import MOST_DAYS
from turnmill.store.database import Database
from turnmill.store.nouns import usage
from turnmill.store.nouns.usage import UsageRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Usage of some days, both ends included, newest first and dearest first."""

    first: date
    last: date
    lines: Sequence[UsageRow]
    rolled_up_at: datetime | None  #: how fresh the lines are; None: there are none


class Analytics:
    """`client.analytics`: reports."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def report(self, *, days: int = 7, by_day: bool = True, refresh: bool = True) -> Report:
        """Return what the turns that ended in the last `days` UTC days came to.

        Beat writes the figures every ten minutes. With `refresh`, those of today are written anew
        before they are read; that takes as long as it takes to read the turns of a day.
        """
        back = whole(days, name="days", most=MOST_DAYS) - 1
        last = datetime.now(UTC).date()
        first = last - timedelta(days=back)
        with self._database.begin() as conn:
            if refresh:
                usage.roll_up(conn, last)
            return Report(
                first=first,
                last=last,
                lines=usage.report(conn, first=first, last=last, by_day=by_day),
                rolled_up_at=usage.rolled_up_at(conn, first=first, last=last),
            )

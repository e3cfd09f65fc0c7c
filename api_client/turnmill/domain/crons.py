"""Crons: when something is due by the clocks of a place, also where these are changed.

cronsim says which times fit, on clocks that are never changed. When these are, is said here:

- A cron whose minute and hour both name times, such as `30 2 * * *`, is due once for each. A time
  that the clocks skip is due in the first moment after the gap; of one that they show twice it is
  the first. Several that come to the same moment are due once.
- One whose minute or hour begins with a star, such as `*/15 * * * *` or `0 * * * *`, is due when
  the clocks show such a time: twice where they show it twice, and never where they skip it.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain, islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

from turnmill.domain.bounds import LATEST
from turnmill.domain.errors import InvalidInput
from turnmill.domain.plain import text_of

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

#: Whoever looks so late at what is due has missed it.
LATE = timedelta(minutes=1)
#: Of runs that were missed, so many of the last ones are caught up with, and so many in one look.
MOST_CAUGHT_UP = 1000
AT_ONCE = 100
#: Of what is due, as many are counted in one look.
_MOST_LOOKED_AT = 10_000
_LONGEST = 200
_SHORT: dict[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_HINT = 'cron="30 9 * * mon-fri": minute, hour, day of the month, month, day of the week'
_DAY, _MINUTE, _SECOND = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)


class Missed(StrEnum):
    """What becomes of runs whose time went by while nobody looked."""

    SKIP = "skip"  #: they are left out
    ONCE = "once"  #: one stands for all of them, the last
    ALL = "all"  #: each is made up for, oldest first


class Round(NamedTuple):
    """What is to be done about all that is due."""

    run: Sequence[datetime]  #: the moments for which a run is made, in order
    skipped: int  #: moments for which none is
    next_at: datetime | None  #: when to look again; None: never, it is over


def cron_given(value: object) -> str:
    """Return a cron in five fields; raises InvalidInput."""
    from cronsim import CronSim, CronSimError  # noqa: PLC0415  few have schedules

    text = text_of(value)
    if text is None or len(text) > _LONGEST or not text.isascii():
        raise InvalidInput("cron must be a text of five fields", hint=_HINT)
    cron = " ".join(text.split())
    cron = _SHORT.get(cron.lower(), cron)
    if cron.count(" ") != 4:  # cronsim reads a sixth one as seconds
        raise InvalidInput("cron must have five fields", hint=_HINT)
    try:
        found = next(CronSim(cron, datetime(2024, 1, 1)), None)  # noqa: DTZ001  on no clocks
    except (CronSimError, AssertionError, ValueError) as error:
        said = str(error) if isinstance(error, CronSimError) else "no cron"
        raise InvalidInput(f"cron cannot be read: {said}", hint=_HINT) from None
    if found is None:
        raise InvalidInput("cron names no day that ever comes", hint=_HINT)
    return cron


def due_after(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """Yield the moments at which it is due after this one, in UTC, for as long as there are any."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    zone = ZoneInfo(timezone)
    minute, hour, *_ = cron.split()
    at_times = not (minute.startswith("*") or hour.startswith("*"))
    moments = _at_times if at_times else _while_shown
    begin = after.astimezone(UTC).replace(microsecond=0)
    return takewhile(lambda moment: moment < LATEST, moments(cron, zone, begin))


def round_of(
    moments: Iterator[datetime], *, now: datetime, until: datetime | None, missed: Missed
) -> Round:
    """Return what is to be done now; `moments` are those that were not looked at yet, in order."""
    wanted = moments if until is None else takewhile(lambda one: one <= until, moments)
    due: list[datetime] = []
    for moment in wanted:
        if moment > now:
            return _judged(due, moment, now=now, missed=missed)
        if len(due) == _MOST_LOOKED_AT:  # all are too old, or one behind them stands for them
            return Round((), len(due), moment)
        due.append(moment)
    return _judged(due, None, now=now, missed=missed)


def _judged(
    due: Sequence[datetime], then: datetime | None, *, now: datetime, missed: Missed
) -> Round:
    match missed:
        case Missed.SKIP:
            run = [one for one in due if now - one <= LATE]
        case Missed.ONCE:
            run = list(due[-1:])
        case Missed.ALL:
            run = list(due[-MOST_CAUGHT_UP:])
    now_on = run[:AT_ONCE]
    return Round(now_on, len(due) - len(run), next(iter(run[AT_ONCE:]), then))


def upcoming(
    cron: str, timezone: str, *, first: datetime, until: datetime | None, count: int
) -> list[datetime]:
    """Return up to `count` moments from one that is due on."""
    moments = chain([first], due_after(cron, timezone, first))
    return [one for one in islice(moments, count) if until is None or one <= until]


def _at_times(cron: str, zone: "ZoneInfo", after: datetime) -> Iterator[datetime]:
    """Yield the moment of each time on the wall; these never go back when the times do not."""
    from cronsim import CronSim  # noqa: PLC0415

    last = after
    for shown in CronSim(cron, after.astimezone(zone).replace(tzinfo=None)):
        moment = _moment(shown, zone)
        if moment > last:
            yield moment
            last = moment


def _moment(shown: datetime, zone: "ZoneInfo") -> datetime:
    """Return when the clocks show this time first, or would have if they had not skipped it."""
    first, second = (shown.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    # By the clocks as they were before, a time that is skipped lies behind the gap; by those of
    # afterwards, before it.
    return first if first <= second else _first_change(zone, second, first)


def _while_shown(cron: str, zone: "ZoneInfo", after: datetime) -> Iterator[datetime]:
    """Yield each moment at which the clocks show such a time."""
    from cronsim import CronSim  # noqa: PLC0415

    seen, offset = after, _offset(zone, after)
    local = _local(after, offset)
    while (shown := next(CronSim(cron, local), None)) is not None:
        moment = (shown - offset).replace(tzinfo=UTC)
        changed = _change_between(zone, seen, moment)
        if changed is None:
            yield moment
            seen, local = moment, shown
        else:  # they are changed before that: go on by what they show from then on
            offset = _offset(zone, changed)
            seen, local = changed, _local(changed, offset) - _MINUTE


def _change_between(zone: "ZoneInfo", start: datetime, end: datetime) -> datetime | None:
    """Return the first moment after `start`, up to `end`, at which the clocks are changed."""
    offset = _offset(zone, start)
    while start < end:
        step = min(start + _DAY, end)
        if _offset(zone, step) != offset:
            return _first_change(zone, start, step)
        start = step
    return None


def _first_change(zone: "ZoneInfo", start: datetime, end: datetime) -> datetime:
    """Return the moment between these two from which on the clocks are as they are at `end`."""
    before = _offset(zone, start)
    while end - start > _SECOND:
        middle = (start + (end - start) / 2).replace(microsecond=0)
        if _offset(zone, middle) == before:
            start = middle
        else:
            end = middle
    return end


def _offset(zone: "ZoneInfo", moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _local(moment: datetime, offset: timedelta) -> datetime:
    return (moment + offset).replace(tzinfo=None)

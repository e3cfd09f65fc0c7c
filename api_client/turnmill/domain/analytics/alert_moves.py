"""When an alert opens and closes: once each, however its figure goes up and down in between."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from turnmill.domain.analytics.alert_bounds import Rule
from turnmill.domain.analytics.alerting import Judged, RuleVerdict

#: An alert closes when its figure has been calm for so long, without a look that says otherwise.
CALM_FOR = timedelta(minutes=30)
#: One that has just closed does not open again sooner: it would be the same one.
REST = timedelta(minutes=30)
#: Alerts of a rule that may be open at once: who has more is not helped by the next one. Of each
#: rule by itself, so that budgets of many users hide no queue.
MOST_OPEN = 100

Key: TypeAlias = tuple[Rule, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlert:
    """An alert that is open, as the next look finds it."""

    id: UUID
    rule: Rule
    subject: str
    value: float
    worst: float
    calm_since: datetime | None  #: None: it was not calm at the last look


@dataclass(frozen=True, slots=True)
class Opens:
    """An alert that is to be opened."""

    judged: Judged


@dataclass(frozen=True, slots=True)
class Stays:
    """An alert that is open, and goes on to be."""

    id: UUID
    value: float
    worst: float
    calm_since: datetime | None


@dataclass(frozen=True, slots=True)
class Closes:
    """An alert that is over."""

    id: UUID
    value: float


Move: TypeAlias = Opens | Stays | Closes


def moves(
    judged: Iterable[Judged],
    alerts: Iterable[OpenAlert],
    *,
    closed: Mapping[Key, datetime],
    at: datetime,
    blind: Collection[Rule] = (),
) -> list[Move]:
    """Return what is to be done. `closed` is when those were closed that are not open, lately.

    What is open and was not judged is calm: there is nothing left of which it could be said. Of the
    rules in `blind` nothing could be judged: what is open by them stays, and is not calm.
    """
    said = {(one.rule, one.subject): one for one in judged}
    open_now = {(one.rule, one.subject): one for one in alerts}
    found: list[Move] = [
        _unseen(one) if one.rule in blind else _next(one, said.get(key), at)
        for key, one in open_now.items()
    ]
    room = dict.fromkeys(Rule, MOST_OPEN)
    for rule, _ in open_now:
        room[rule] -= 1
    for key, one in said.items():
        # Of one that has closed in time to come, a clock was set back: for how long, who knows.
        rests = key in closed and timedelta(0) <= at - closed[key] < REST
        if (
            one.verdict is RuleVerdict.BAD
            and key not in open_now
            and not rests
            and room[one.rule] > 0
        ):
            found.append(Opens(one))
            room[one.rule] -= 1
    return found


def _unseen(alert: OpenAlert) -> Move:
    return Stays(alert.id, alert.value, alert.worst, None)


def _next(alert: OpenAlert, judged: Judged | None, at: datetime) -> Move:
    if judged is not None and judged.verdict is not RuleVerdict.CALM:
        return Stays(alert.id, judged.value, _worse(alert, judged), None)
    value = alert.value if judged is None else judged.value
    calm_since = min(alert.calm_since or at, at)  # a clock may have been set back
    if at - calm_since >= CALM_FOR:
        return Closes(alert.id, value)
    return Stays(alert.id, value, alert.worst, calm_since)


def _worse(alert: OpenAlert, judged: Judged) -> float:
    """Return the worse figure: of caches the smaller one, of all else the larger."""
    worse = min if alert.rule is Rule.CACHE else max
    return worse(alert.worst, judged.value)

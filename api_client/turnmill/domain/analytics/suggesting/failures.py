"""Whether calls are made that come to nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from turnmill.domain.analytics.intervals import Interval, share
from turnmill.domain.analytics.suggesting.findings import Finding, Improvement, SuggestionRule

#: An hour is one of a storm when so many calls of it failed, at the lower end of the interval.
STORM_SHARE = 0.25
LEAST_CALLS = 50
#: And a storm is worth a word from so many failed calls on.
LEAST_FAILED = 100
#: A target is dead when so many of its calls fail, at the lower end, in so many hours and more.
DEAD_SHARE = 0.9
LEAST_HOURS = 6
_STORM = (
    "failed calls / calls of an hour with 50 or more: 0.25 or more at the lower end (Wilson, 95 %),"
    " 100 or more failed calls in such hours"
)
_DEAD = (
    "failed calls / calls of a target: 0.9 or more at the lower end (Wilson, 95 %), 50 or more"
    " calls, in 6 hours or more"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallHour:
    """What calls to one target came to in one hour."""

    provider: str
    model: str
    hour: datetime
    calls: int
    failed: int
    wasted_usd: float  #: that failed calls have cost, as far as it is known
    codes: Mapping[str, int] = field(default_factory=dict)  #: why, and how often

    @property
    def target(self) -> str:
        """Return who was called."""
        return f"{self.provider}/{self.model}"


def retry_storms(hours: Sequence[CallHour]) -> Iterator[Finding]:
    """Yield targets with hours in which a quarter of all calls failed."""
    for target, mine in _by_target(hours).items():
        if _is_dead(mine) is not None:
            continue
        stormy = [
            one
            for one in mine
            if one.calls >= LEAST_CALLS and share(one.failed, one.calls).low >= STORM_SHARE
        ]
        failed, calls = sum(one.failed for one in stormy), sum(one.calls for one in stormy)
        if failed < LEAST_FAILED:
            continue
        found = share(failed, calls)
        usual = _usual(mine, stormy)
        code = _most_frequent(stormy)
        yield Finding(
            rule=SuggestionRule.RETRY_STORM,
            subject=target,
            target=target,
            says=(
                f"In {len(stormy)} hours {failed} of {calls} calls failed, mostly with {code}."
                " A limit of calls at once, or of calls a minute, keeps them from failing."
            ),
            formula=_STORM,
            confidence=found,
            threshold=STORM_SHARE,
            evidence=_hours_of(stormy),
            improvement=Improvement.of(
                "attempts",
                failed - usual * calls,
                Interval((found.low - usual) * calls, (found.high - usual) * calls),
            ),
        )


def _hours_of(stormy: Sequence[CallHour]) -> list[dict[str, object]]:
    """Return the worst hours, as evidence."""
    return [
        {
            "hour": one.hour.isoformat(),
            "calls": one.calls,
            "failed": one.failed,
            "codes": dict(one.codes),
            "wasted_usd": round(one.wasted_usd, 6),
        }
        for one in sorted(stormy, key=lambda one: -one.failed)[:24]
    ]


def dead_targets(hours: Sequence[CallHour]) -> Iterator[Finding]:
    """Yield targets that have been asked for hours and hardly ever answer."""
    for target, mine in _by_target(hours).items():
        found = _is_dead(mine)
        if found is None:
            continue
        calls, failed = sum(one.calls for one in mine), sum(one.failed for one in mine)
        yield Finding(
            rule=SuggestionRule.DEAD_TARGET,
            subject=target,
            target=target,
            says=(
                f"{failed} of {calls} calls failed, in {len(mine)} hours, mostly with"
                f" {_most_frequent(mine)}. Take it out of the sessions' targets, or put another"
                " one before it."
            ),
            formula=_DEAD,
            confidence=found,
            threshold=DEAD_SHARE,
            evidence=[
                {
                    "first": min(one.hour for one in mine).isoformat(),
                    "last": max(one.hour for one in mine).isoformat(),
                    "hours": len(mine),
                    "calls": calls,
                    "failed": failed,
                    "wasted_usd": round(sum(one.wasted_usd for one in mine), 6),
                }
            ],
            improvement=Improvement.of("attempts", float(failed)),
        )


def _by_target(hours: Sequence[CallHour]) -> dict[str, list[CallHour]]:
    found: dict[str, list[CallHour]] = {}
    for one in hours:
        found.setdefault(one.target, []).append(one)
    return found


def _is_dead(hours: Sequence[CallHour]) -> Interval | None:
    """Return how many of its calls fail, where that is nearly all of them for hours."""
    calls, failed = sum(one.calls for one in hours), sum(one.failed for one in hours)
    found = share(failed, calls)
    is_dead = calls >= LEAST_CALLS and len(hours) >= LEAST_HOURS and found.low >= DEAD_SHARE
    return found if is_dead else None


def _usual(hours: Sequence[CallHour], stormy: Sequence[CallHour]) -> float:
    """Return which share of calls fails in the other hours."""
    quiet = [one for one in hours if one not in stormy]
    calls = sum(one.calls for one in quiet)
    return sum(one.failed for one in quiet) / calls if calls else 0.0


def _most_frequent(hours: Sequence[CallHour]) -> str:
    counts: dict[str, int] = {}
    for one in hours:
        for code, count in one.codes.items():
            counts[code] = counts.get(code, 0) + count
    return max(counts, key=lambda code: (counts[code], code), default="an unknown error")

"""Whether the right turns wait: those for which nobody does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from turnmill.domain.analytics.intervals import Interval, share
from turnmill.domain.analytics.suggesting.findings import Finding, Improvement, Rule

#: What could wait is worth a word when it is so much of all cost, with so many turns and more.
WORTH_SHARE = 0.1
LEAST_TURNS = 100
#: What batches and flexible tiers cost of the usual price, and who has them.
DISCOUNT = 0.5
_CHEAPER: Mapping[str, str] = MappingProxyType(
    {"openai": "batches with mode=native or mode=flex", "anthropic": "batches with mode=native"}
)
#: Tiers that are cheap already.
CHEAP_TIERS = frozenset({"flex", "batch"})
#: A turn is late that has waited so long for a free slot; an hour is when so many have, at the
#: lower end of the interval.
LATE_SECONDS = 10
LATE_SHARE = 0.05
LEAST_IN_HOUR = 20
#: So many late hours and more, on so many days, are no accident.
LEAST_HOURS = 3
LEAST_DAYS = 2
_WAIT = (
    "cost of turns of the bulk lane, asked one by one at the usual price / cost of all turns: 0.1"
    " or more, and 100 or more turns; batches and flexible tiers cost half"
)
_WORKERS = (
    "turns of the interactive lane that waited 10 s or more for a slot, once their session and"
    " their time were ready / turns, by hour: 0.05 or more at the lower end (Wilson, 95 %) in 3 or"
    " more hours of 20 or more turns, on 2 or more days"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HastyWork:
    """What turns that nobody waits for have cost at the price of haste."""

    provider: str
    model: str
    turns: int
    cost_usd: float
    all_usd: float  #: of every turn of the span


def could_wait(works: Sequence[HastyWork]) -> Iterator[Finding]:
    """Yield models whose turns of the bulk lane could be asked at half the price."""
    for one in works:
        part = one.cost_usd / one.all_usd if one.all_usd > 0 else 0.0
        if one.provider not in _CHEAPER or one.turns < LEAST_TURNS or part < WORTH_SHARE:
            continue
        usd = one.cost_usd * DISCOUNT
        yield Finding(
            rule=Rule.COULD_WAIT,
            subject=f"{one.provider}/{one.model}",
            target=f"{one.provider}/{one.model}",
            says=(
                f"{one.turns} turns went through the bulk lane, where nobody waits, at the usual"
                f" price: {part:.0%} of all cost. {_CHEAPER[one.provider]} cost half."
            ),
            formula=_WAIT,
            confidence=Interval(part, part),
            threshold=WORTH_SHARE,
            evidence=[
                {
                    "turns": one.turns,
                    "usd": round(one.cost_usd, 6),
                    "all_usd": round(one.all_usd, 6),
                }
            ],
            improvement=Improvement.of("usd", usd),
            settings={"service_tier": "flex"} if one.provider == "openai" else {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueHour:
    """How long turns of the interactive lane have waited for a slot in one hour."""

    hour: datetime
    turns: int
    late: int  #: that waited ten seconds or more
    waited: float  #: seconds, all together
    worked: float  #: seconds from start to end, all together


def few_workers(hours: Sequence[QueueHour]) -> Iterator[Finding]:
    """Yield the hours in which turns waited for a slot, if they come back."""
    late = [
        one
        for one in hours
        if one.turns >= LEAST_IN_HOUR and share(one.late, one.turns).low >= LATE_SHARE
    ]
    if len(late) < LEAST_HOURS or len({one.hour.date() for one in late}) < LEAST_DAYS:
        return
    turns, waiting = sum(one.turns for one in late), sum(one.late for one in late)
    clock = sorted({one.hour.hour for one in late})
    # Little's law: so many turns were at work, and so many more wanted to be.
    at_work = max(one.worked / 3600 for one in late)
    wanted = max((one.worked + one.waited) / 3600 for one in late)
    yield Finding(
        rule=Rule.FEW_WORKERS,
        subject="interactive lane",
        target="",
        says=(
            f"{waiting} of {turns} turns waited {LATE_SECONDS} s or more for a free slot, at"
            f" {_named(clock)} UTC. {at_work:.1f} turns were at work at once there, and"
            f" {wanted:.1f} wanted to be: add slots or workers for these hours."
        ),
        formula=_WORKERS,
        confidence=share(waiting, turns),
        threshold=LATE_SHARE,
        evidence=[
            {
                "hour": one.hour.isoformat(),
                "turns": one.turns,
                "late": one.late,
                "waited_seconds": round(one.waited, 1),
            }
            for one in sorted(late, key=lambda one: -one.waited)[:24]
        ],
        improvement=Improvement.of("seconds", sum(one.waited for one in late)),
    )


def _named(hours: Sequence[int]) -> str:
    return ", ".join(f"{hour:02}:00" for hour in hours)

"""Pacing: how calls are spread over time, so that no more of them begin than a limit allows.

Every limit has a moment up to which it is given away (a generic cell rate). A call moves that on by
its share of a minute; it may begin a little before, where nobody has called for a while. All times
here are seconds on one clock.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

#: So much of an allowance is left alone: a vendor's minutes are not ours, and calls arrive late.
MARGIN = 0.02
#: What a lull leaves over is made up for, up to a part of what the margin of a minute has room for.
BURST = 0.4 * 60.0 * MARGIN
#: Permits are given for a call that is to begin within this.
AHEAD = 3.0
#: Whoever waits comes back so long before his place, to be there when it comes.
EARLY = 2.0

_INTERACTIVE = "i"
_LINES = 16  #: of the users of a lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What is allowed; None: as much as there is."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def is_above(self, others: "Rates") -> bool:
        """Tell whether more calls, or more tokens, are allowed than by others."""
        return any(
            after is None or after > before
            for before, after in (
                (others.requests_per_minute, self.requests_per_minute),
                (others.tokens_per_minute, self.tokens_per_minute),
            )
            if before is not None
        )

    def seconds_of(self, tokens: float) -> float:
        """Return how much time one call of so many tokens takes up."""
        return max(_share(1.0, self.requests_per_minute), _share(tokens, self.tokens_per_minute))


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Up to when a limit is given away."""

    requests_until: float = 0.0
    tokens_until: float = 0.0
    places: Mapping[str, float] = field(default_factory=dict)  #: of each line of those who wait


def give(
    given: Given, rates: Rates, calls: Sequence[int], *, now: float
) -> tuple[list[float], Given]:
    """Return when calls of so many tokens each may begin, in seconds from now, and what is given.

    Fewer than were asked for where the others would begin too late: they are to wait elsewhere.
    """
    begins: list[float] = []
    requests, tokens = (max(one, now - BURST) for one in (given.requests_until, given.tokens_until))
    for wanted in calls:
        at = max(now, requests, tokens)
        if at > now + AHEAD:
            break
        begins.append(at - now)
        requests += _share(1.0, rates.requests_per_minute)
        tokens += _share(wanted, rates.tokens_per_minute)
    return begins, replace(given, requests_until=requests, tokens_until=tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call that would begin."""

    tokens: int = 0
    line: str | None = None  #: where it waits if it cannot begin soon; None: it has waited there


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """When calls may begin, in seconds from now, and where the others wait."""

    begins: Sequence[float]  #: of the first ones, in their order
    places: Mapping[str, Sequence[float]]  #: in each line, in their order, and `more` after them


def answer(
    given: Given, rates: Rates, asks: Sequence[Ask], *, more: Mapping[str, int], now: float
) -> tuple[Answer, Given]:
    """Let calls begin, and give those that cannot a place; `more` places in lines that are full."""
    begins, given = give(given, rates, [one.tokens for one in asks], now=now)
    left = [one for one in asks[len(begins) :] if one.line is not None]
    each = rates.seconds_of(sum(one.tokens for one in asks) / max(1, len(asks)))
    places: dict[str, Sequence[float]] = {}
    counts = Counter(one.line for one in left if one.line is not None)
    for line, count in counts.items():
        wanted = count + more.get(line, 0)
        places[line], given = place(
            given, line, count=wanted, each=each, now=now, beside=counts.keys()
        )
    return Answer(begins=begins, places=places), given


def take_back(given: Given, rates: Rates, *, calls: int, tokens: int) -> Given:
    """Return what is given without so many calls that were not made, and tokens not used.

    More tokens than were asked for are less than none.
    """
    return replace(
        given,
        requests_until=given.requests_until - _share(calls, rates.requests_per_minute),
        tokens_until=given.tokens_until - _share(tokens, rates.tokens_per_minute),
    )


def changed(given: Given, before: Rates, after: Rates, *, now: float) -> Given:
    """Return what is given under rates that were changed: as many calls as before, or as long.

    Who waits for a place has it under the old ones: places are given anew.
    """
    return Given(
        requests_until=_sooner(
            given.requests_until, before.requests_per_minute, after.requests_per_minute, now=now
        ),
        tokens_until=_sooner(
            given.tokens_until, before.tokens_per_minute, after.tokens_per_minute, now=now
        ),
    )


def _sooner(until: float, before: int | None, after: int | None, *, now: float) -> float:
    """Return up to when as much is given away; never later than before."""
    if until <= now or before is None:
        return min(until, now)
    return until if after is None else now + (until - now) * min(1.0, before / after)


def hold_until(given: Given, until: float) -> Given:
    """Return what is given, and nothing of it before then: the vendor says that none is left."""
    return replace(
        given,
        requests_until=max(given.requests_until, until),
        tokens_until=max(given.tokens_until, until),
    )


def place(
    given: Given,
    line: str,
    *,
    count: int,
    each: float,
    now: float,
    beside: Collection[str] = (),
) -> tuple[list[float], Given]:
    """Return `count` places in a line, in seconds from now, each that of a call taking `each`.

    Lines share what there is, those `beside` it too, and a new one begins at its head; those of the
    interactive lane go first. So whoever sends much does not stand before whoever sends little.
    """
    stand = {one: end for one, end in given.places.items() if end > now}
    rivals = {*stand, *beside} - {line}
    step = each * (1 + sum(not _yields(one, to=line) for one in rivals))
    first = max(stand.get(line, 0.0), now + EARLY)
    places = [first + step * n - now for n in range(count)]
    stand[line] = first + step * count
    return places, replace(given, places=stand)


def line_of(user_id: str, *, interactive: bool) -> str:
    """Return the line of a user: one of a few, so that a limit's row stays small."""
    bucket = sum(user_id.encode()) % _LINES
    return f"{_INTERACTIVE if interactive else 'b'}{bucket}"


def goes_first(line: str) -> bool:
    """Tell whether somebody waits for what stands in the line."""
    return line.startswith(_INTERACTIVE)


def _yields(one: str, *, to: str) -> bool:
    return goes_first(to) and not goes_first(one)


def _share(units: float, per_minute: int | None) -> float:
    return 0.0 if per_minute is None else units * 60.0 / (per_minute * (1.0 - MARGIN))

"""How moments, durations, costs and states read in a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from math import floor
from types import MappingProxyType

from rich.text import Text

from turnmill.domain import content
from turnmill.domain.content import Part
from turnmill.domain.dollars import rounded
from turnmill.domain.replying import Citation, citations_in, refusal_in
from turnmill.domain.states import SessionStatus, ToolCallState, TurnState

_STYLES: Mapping[str, str] = MappingProxyType(
    {
        TurnState.SUCCEEDED: "green",
        TurnState.FAILED: "red",
        TurnState.DEAD: "bold red",
        TurnState.RUNNING: "cyan",
        TurnState.RETRYING: "yellow",
        TurnState.WAITING: "yellow",
        TurnState.UNKNOWN: "yellow",
        TurnState.CANCELLED: "dim",
        TurnState.EXPIRED: "dim",
        ToolCallState.APPROVAL: "yellow",
        ToolCallState.CALLER: "yellow",
        ToolCallState.DONE: "green",
        ToolCallState.REJECTED: "red",
        SessionStatus.PAUSED: "yellow",
        SessionStatus.ARCHIVED: "dim",
        "lost": "red",
        "maybe_sent": "yellow",
        "abandoned": "yellow",
    }
)

#: (seconds in it, its name, and that of the smaller unit beside it), the largest first.
_UNITS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))


def said(parts: Sequence[Part]) -> str:
    """Return the text of a message; what else it holds stands in brackets on lines of its own.

    What it cites has numbers where it does, and its sources stand at the end.
    """
    if len(parts) == 1 and isinstance(only := parts[0], content.Text):
        return only.text
    sources: list[str] = []
    words = "".join([_shown(one, sources) for one in parts]).strip("\n")
    return "\n".join([words, *_numbered(sources)])


def sources_of(parts: Sequence[Part]) -> str:
    """Return a line for each source that is cited, with the number that it has in `said`."""
    sources: list[str] = []
    for one in parts:
        _shown(one, sources)
    return "\n".join(_numbered(sources))


def _shown(part: Part, sources: list[str]) -> str:
    """Return how a part is shown; sources that it is the first to cite are added to the others."""
    if isinstance(part, content.Text):
        return part.text
    cited = [_named(one) for one in citations_in([part])]
    if not cited:
        refused = refusal_in([part])
        why = " ".join((refused.explanation or refused.category).split())
        return f"\n[refused: {why}]\n" if why else f"\n[{part.kind}]\n"
    sources += [one for one in dict.fromkeys(cited) if one not in sources]
    return "".join(f" [{sources.index(one) + 1}]" for one in dict.fromkeys(cited))


def _named(source: Citation) -> str:
    """Return what a source is called, on one line."""
    where = source.url or source.file_id
    return ": ".join(filter(None, (source.title, where))) or source.quote or "unnamed"


def _numbered(sources: Sequence[str]) -> list[str]:
    lines = [f"[{n}] {' '.join(one.split())}" for n, one in enumerate(sources, 1)]
    return ["", *lines] if lines else []


def json_text(value: object) -> str:
    """Return a value as JSON on one line; a text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def duration(span: timedelta) -> str:
    """Return `12 ms`, `4.2 s`, `3 min 5 s`, `2 h 5 min` or `5 d 3 h`."""
    seconds = max(0.0, span.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = int(seconds)
    size, name, small, small_name = next(unit for unit in _UNITS if whole >= unit[0])
    rest = whole % size // small
    return f"{whole // size} {name}" + (f" {rest} {small_name}" if rest else "")


def relative(moment: datetime, *, now: datetime) -> str:
    """Return `3.1 s ago`, `2 min ago` or `in 3.1 s`: the largest unit says enough."""
    span = duration(abs(now - moment))
    rough = " ".join(span.split()[:2])
    return f"in {rough}" if moment > now else f"{rough} ago"


def tokens(number: int | None) -> str:
    """Return `1,551`, or `unknown` for what a provider did not say."""
    return "unknown" if number is None else f"{number:,}"


def cached_share(cached: int | None, told: int | None) -> float | None:
    """Return how much of the input was read from a cache; None where nobody knows."""
    return None if cached is None or not told else cached / told


def percent(share: float | None) -> str:
    """Return `92 %`; "" for a share that is not known. Never 100 % of what is less."""
    if share is None:
        return ""
    whole = floor(round(share * 100, 9))  # a hundred times 0.29 is a little less than 29
    return f"{min(whole, 99) if share < 1 else whole} %"


def total_tokens(told: int | None, said: int | None) -> int | None:
    """Return the sum; None where a part of it is unknown."""
    return None if told is None or said is None else told + said


def moment_text(moment: datetime) -> str:
    """Return date and time to the millisecond, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC"


def clock_text(moment: datetime) -> str:
    """Return the time of day to the millisecond."""
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


def dollars(cost: Decimal | None) -> str:
    """Return the cost, or `n/a` where no price is known; never 0 for an unknown one."""
    if cost is None:
        return "n/a"
    return f"${rounded(cost, digits=6):f}".rstrip("0").rstrip(".") if cost else "$0"


def known_usd(cost: Decimal, *, unpriced: int) -> str:
    """Return a cost for a table, with a `+` where calls have no known price; of none `n/a`."""
    if unpriced and not cost:
        return "n/a"
    return f"{rounded(cost, digits=4):f}{'+' if unpriced else ''}"


def styled(word: str) -> Text:
    """Return a state or outcome in its colour."""
    return Text(word, style=_STYLES.get(word, ""))


def count(number: int, what: str) -> str:
    """Return `1 turn`, or `2 turns`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def times(number: int) -> str:
    """Return `once`, or `2 times`."""
    return "once" if number == 1 else f"{number:,} times"

"""A line of figures: what turns of one slot, provider, model, tier, lane and tag came to."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from turnmill.domain.analytics.sketches import Sketch, merged, packed, sketch_of, unpacked
from turnmill.store.rules.buckets import read_list
from turnmill.store.schema.rollup_tables import COUNTS, DOLLARS, LATENCIES, buckets_of

#: So many values of the tag are told apart in a slot; those beyond are one.
MOST_TAGS = 200
OTHER = "other"
#: What columns of figures hold.
MOST_COUNTED = 2**63 - 1
MOST_DOLLARS = Decimal(10) ** 10 - 1


class Key(NamedTuple):
    """What a line is of."""

    slot: datetime
    provider: str
    model: str
    tier: str
    lane: str
    tag: str


@dataclass(frozen=True, slots=True)
class Line:
    """Figures, and sketches of times."""

    key: Key
    counts: tuple[int, ...]
    dollars: tuple[Decimal, ...]
    sketches: tuple[Sketch, ...]


def counted(row: Any) -> Line:
    """Return the line of a row that was added up just now: of each time, the buckets it fell in.

    Beside them may be, as in a row that is kept, how many are in each.
    """
    sketches = []
    for latency in LATENCIES:
        buckets, counts = (row.get(name) for name in buckets_of(latency))
        found = read_list(buckets)
        sketches.append(sketch_of(found) if counts is None else unpacked(found, read_list(counts)))
    return Line(
        Key(*(row[name] for name in Key._fields)),
        tuple(int(row[name]) for name in COUNTS),
        tuple(Decimal(row[name]) for name in DOLLARS),
        tuple(sketches),
    )


def line_of(key: Key, said: Mapping[str, Any]) -> Line:
    """Return a line of what is said of it; the rest is nothing, and no time is known."""
    return Line(
        key,
        tuple(min(int(said.get(name, 0)), MOST_COUNTED) for name in COUNTS),
        tuple(min(Decimal(said.get(name, 0)), MOST_DOLLARS) for name in DOLLARS),
        tuple(sketch_of([]) for _ in LATENCIES),
    )


def row_of(line: Line) -> dict[str, Any]:
    """Return the line as it is kept."""
    row: dict[str, Any] = line.key._asdict()
    row |= zip(COUNTS, line.counts, strict=True)
    row |= zip(DOLLARS, line.dollars, strict=True)
    for latency, sketch in zip(LATENCIES, line.sketches, strict=True):
        row |= zip(buckets_of(latency), packed(sketch), strict=True)
    return row


def joined(lines: Iterable[Line]) -> list[Line]:
    """Return one line for each key, in the order of the keys."""
    of_key: defaultdict[Key, list[Line]] = defaultdict(list)
    for line in lines:
        of_key[line.key].append(line)
    return [_sum(of_key[key]) for key in sorted(of_key)]


def capped(lines: Sequence[Line], known: Mapping[datetime, Collection[str]]) -> list[Line]:
    """Return the lines with no more values of the tag, in a slot, than are told apart.

    Values that are known in the slot keep their names, then come others in the order of words.
    """
    tags: defaultdict[datetime, set[str]] = defaultdict(set)
    for line in lines:
        tags[line.key.slot].add(line.key.tag)
    named = {slot: _named(found, known.get(slot, ())) for slot, found in tags.items()}
    if all(tags[slot] <= kept for slot, kept in named.items()):
        return list(lines)
    return joined(
        line if line.key.tag in named[line.key.slot] else _with_tag(line, OTHER) for line in lines
    )


def _named(found: Collection[str], known: Collection[str]) -> set[str]:
    kept = {*known, "", OTHER}
    for tag in sorted(set(found) - kept):
        if len(kept) >= MOST_TAGS + 2:
            break
        kept.add(tag)
    return kept


def _with_tag(line: Line, tag: str) -> Line:
    return Line(line.key._replace(tag=tag), line.counts, line.dollars, line.sketches)


def _sum(lines: Sequence[Line]) -> Line:
    if len(lines) == 1:
        return lines[0]
    counts = (
        min(sum(each), MOST_COUNTED) for each in zip(*(one.counts for one in lines), strict=True)
    )
    dollars = (
        min(sum(each), MOST_DOLLARS) for each in zip(*(one.dollars for one in lines), strict=True)
    )
    sketches = (merged(each) for each in zip(*(one.sketches for one in lines), strict=True))
    return Line(lines[0].key, tuple(counts), tuple(map(Decimal, dollars)), tuple(sketches))

"""Lines are added up within the server, and to what stands: none of them comes to this process.

It is what `joined` and `capped` do of lines that are here, where a store cannot do that.
"""

from typing import Any

from sqlalchemy import (
    Numeric,
    Select,
    Table,
    bindparam,
    case,
    cast,
    column,
    except_,
    func,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy import true as always
from sqlalchemy.dialects.postgresql import insert

from turnmill.store.rules.buckets import tallied
from turnmill.store.rules.figure_lines import MOST_TAGS, OTHER, Key
from turnmill.store.rules.figures import added_up, most_of
from turnmill.store.schema.rollup_tables import (
    FIGURES,
    LATENCIES,
    SAID,
    buckets_of,
    rollup_days,
    rollups,
)
from turnmill.store.types import Timestamp

#: What a statement that adds is given, when days may change: days before it are over.
UNTIL = "days_until"


def adding(lines: Select[Any], *, to_days: bool, tagged: bool) -> Any:
    """Return what adds to slots what lines select and, `to_days`, to days that are over.

    One statement, for what lines select may have changed by the next one. Who runs it holds the row
    without which nobody writes figures. Where figures are not `tagged`, no tags are capped.
    """
    every = lines.cte("every_line")
    # Read twice, it would be written down a second time, which costs more than to read it.
    capped = _capped(every).cte("capped").prefix_with("NOT MATERIALIZED") if tagged else every
    of_slots = added_up(select(capped)).cte("of_slots")
    into_slots = _into(rollups, of_slots)
    if not to_days:
        return into_slots
    until = bindparam(UNTIL, type_=Timestamp)
    first = select(func.min(of_slots.c.slot)).scalar_subquery()  # most often, it is later: no look
    late = select(
        _day(capped.c.slot).label("slot"), *(one for one in capped.c if one.name != "slot")
    ).where(first < until, capped.c.slot < until)
    written = into_slots.returning(rollups.c.slot).cte("written")
    return _into(rollup_days, added_up(late).cte("of_days")).add_cte(written)


def _into(table: Table, lines: Any) -> Any:
    """Return what writes lines as rows of a table, each with what stood there of its key."""
    same = (table.c[name] == lines.c[name] for name in Key._fields)
    # With a limit it is looked up line by line: else, of many lines, all the table might be read.
    there = select(table).where(*same).limit(1).lateral("there")
    sketches = [
        tallied(lines.c[buckets], there.c[buckets], there.c[counts])
        .table_valued(column("buckets"), column("counts"))
        .lateral(f"of_{buckets}")
        for buckets, counts in map(buckets_of, LATENCIES)
    ]
    found: Any = lines.outerjoin(there, always())
    for sketch in sketches:
        found = found.join(sketch, always())
    whole = select(
        *(lines.c[name] for name in Key._fields),
        *(_bounded(there.c[name], lines.c[name]) for name in FIGURES),
        *(part for sketch in sketches for part in (sketch.c.buckets, sketch.c.counts)),
    ).select_from(found)
    statement = insert(table).from_select([*Key._fields, *FIGURES, *_SKETCHED], whole)
    values = {name: statement.excluded[name] for name in SAID}
    return statement.on_conflict_do_update(index_elements=list(Key._fields), set_=values)


_SKETCHED = tuple(name for latency in LATENCIES for name in buckets_of(latency))


def _bounded(stands: Any, more: Any) -> Any:
    """Return the sum as far as the column can hold it; what stands may be NULL."""
    total = func.coalesce(cast(stands, Numeric), 0) + more
    return func.least(total, most_of(more.name))


def _capped(lines: Any) -> Select[Any]:
    """Select the lines with no more values of the tag, in a slot, than are told apart.

    Values that are known in the slot keep their names, then come others in the order of words.
    """
    beyond = _beyond(lines)
    tag = case((tuple_(lines.c.slot, lines.c.tag).in_(beyond), OTHER), else_=lines.c.tag)
    return select(tag.label("tag"), *(one for one in lines.c if one.name != "tag"))


def _beyond(lines: Any) -> Select[Any]:
    """Select slots and tags of lines that are not told apart in these slots any more."""
    found = select(lines.c.slot, lines.c.tag).where(_is_named(lines)).distinct().cte("tags")
    slots = select(found.c.slot).distinct().subquery("slots")
    named = select(rollups.c.tag).where(rollups.c.slot == slots.c.slot, _is_named(rollups))
    each = named.distinct().lateral("of_slot")
    known = select(slots.c.slot, each.c.tag).join_from(slots, each, always()).cte("known")
    new = except_(select(found), select(known)).subquery("new")
    kept = select(known.c.slot, func.count().label("many")).group_by(known.c.slot).subquery("kept")
    order = func.row_number().over(partition_by=new.c.slot, order_by=new.c.tag.collate("C"))
    place = (order + func.coalesce(kept.c.many, 0)).label("place")
    ranked = (
        select(new.c.slot, new.c.tag, place)
        .join_from(new, kept, kept.c.slot == new.c.slot, isouter=True)
        .subquery("ranked")
    )
    return select(ranked.c.slot, ranked.c.tag).where(ranked.c.place > MOST_TAGS)


def _is_named(of: Any) -> Any:
    return of.c.tag.not_in(("", OTHER))


def _day(slot: Any) -> Any:
    """Return when the UTC day began that a slot is in."""
    day: Any = literal_column("'1 day'")
    origin: Any = literal_column("TIMESTAMPTZ '2000-01-01 00:00Z'")
    return func.date_bin(day, slot, origin, type_=Timestamp)

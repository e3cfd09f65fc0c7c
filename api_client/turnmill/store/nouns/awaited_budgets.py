"""Which budget a turn waits for, and until when, as far as rows say it."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, and_, or_, select

from turnmill.domain.budgets import OnExceeded, Period, Scope, tag_said
from turnmill.store.schema.budget_tables import budgets
from turnmill.store.schema.tables import sessions, turns

#: Values of metadata of one turn by which budgets are looked for.
_MOST_VALUES = 100
_KINDS = (Scope.USER, Scope.SESSION, Scope.BATCH)


class Awaited(NamedTuple):
    """The budget with the least left in it: if any stands in a turn's way, it does."""

    name: str  #: whose, and its period: `user day`; never a user's or a tag's own name
    ends_at: datetime | None  #: None: it never begins anew, and waits for somebody

    @property
    def is_of_batch(self) -> bool:
        """Tell whether it is the one of a batch."""
        return self.name.startswith(f"{Scope.BATCH} ")


def awaited(conn: Connection, turn_ids: Collection[UUID]) -> dict[UUID, Awaited]:
    """Return the budgets for which these turns wait; of one that none lets wait, nothing."""
    rows = conn.execute(
        select(
            *(turns.c.id, turns.c.session_id, turns.c.batch_id, turns.c.metadata),
            *(sessions.c.user_id, sessions.c.metadata.label("of_session")),
        )
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(turns.c.id.in_(turn_ids))
    ).all()
    holders = {row.id: set(_holders(row)) for row in rows}
    found = _found(conn, {one for mine in holders.values() for one in mine})
    best = {turn: _tightest(found, mine) for turn, mine in holders.items()}
    return {turn: one for turn, one in best.items() if one is not None}


_Holder = tuple[str, str, str]


def _holders(row: Any) -> Iterator[_Holder]:
    yield Scope.ALL, "", ""
    for scope, name in zip(_KINDS, (row.user_id, row.session_id, row.batch_id), strict=True):
        if name is not None:
            yield scope, str(name), ""
    # What cannot be opened names none.
    said = [one if isinstance(one, dict) else {} for one in (row.metadata, row.of_session)]
    for key in islice(dict.fromkeys((*said[0], *said[1])), _MOST_VALUES):
        value = tag_said(key, of_turn=said[0], of_session=said[1])
        if value is not None:
            yield Scope.TAG, key, value


def _found(conn: Connection, holders: Iterable[_Holder]) -> dict[_Holder, list[Any]]:
    b = budgets.c
    names: dict[str, set[str]] = defaultdict(set)
    for scope, name, _ in holders:
        names[scope].add(name)
    whose = (and_(b.scope == scope, b.name.in_(of)) for scope, of in names.items())
    query = select(b.scope, b.name, b.value, b.period, b.ends_at, b.limit_usd, b.spent_usd)
    found: dict[_Holder, list[Any]] = defaultdict(list)
    for row in conn.execute(query.where(b.on_exceeded == OnExceeded.WAIT, or_(*whose))):
        found[row.scope, row.name, row.value].append(row)
    return found


def _tightest(found: dict[_Holder, list[Any]], mine: Iterable[_Holder]) -> Awaited | None:
    rows = [row for one in mine for row in found.get(one, ())]
    if not rows:
        return None
    least = min(rows, key=_left)
    return Awaited(f"{least.scope} {least.period}", least.ends_at)


def _left(row: Any) -> Decimal:
    spent = Decimal(0) if row.period == Period.TURN else row.spent_usd
    left: Decimal = row.limit_usd - spent
    return left

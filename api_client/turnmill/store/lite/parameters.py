"""What verdicts and steps say, as parameters of statements that are made once in a process.

Making a statement takes longer than all that SQLite does with it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select

from turnmill.store.records import Settlement
from turnmill.store.rules.riders import Rider, insert_of, sealed_rows
from turnmill.store.rules.sealing import Sealer
from turnmill.store.rules.settling import FIELDS, VerdictValues, row_of
from turnmill.store.schema.tables import turns

#: Before the name of what is said: columns have these names, too.
_SAID = "said_"

#: Riders, each with what inserts one row of it.
Riding = Sequence[tuple[Rider, Any]]


def verdict() -> VerdictValues:
    """Return what a settlement says, as parameters that an expression takes for columns."""
    return VerdictValues({one.name: bindparam(_SAID + one.name, type_=one.type) for one in FIELDS})


def given(settlement: Settlement, sealer: Sealer | None) -> dict[str, Any]:
    """Return the values of these parameters."""
    said = row_of(settlement, sealer)
    return {_SAID + field.name: said.get(field.name) for field in FIELDS}


def by(rules: Mapping[str, Callable[..., Any]], *of: Any) -> dict[str, Any]:
    """Return what columns become by their rules."""
    return {name: rule(*of) for name, rule in rules.items()}


def riding(riders: Sequence[Rider]) -> Riding:
    """Return them with the statement of each."""
    return [(rider, _inserting(rider)) for rider in riders]


def bring(
    conn: Connection, riders: Riding, said: Any, settlement: Settlement, sealer: Sealer | None
) -> None:
    """Write the rows that go with what is `said`: a Settlement, or a Step."""
    mine = {_SAID + "turn_id": settlement.turn_id}
    for rider, inserting in riders:
        rows = sealed_rows(rider, said, settlement, sealer)
        if rows:
            given = [mine | {_SAID + name: row[name] for name in rider.says} for row in rows]
            conn.execute(inserting, given)


def _inserting(rider: Rider) -> Any:
    turn_id = bindparam(_SAID + "turn_id", type_=turns.c.id.type).label("turn_id")
    says = (bindparam(_SAID + name, type_=kind).label(name) for name, kind in rider.says.items())
    brought = select(turn_id, *says).subquery("r")
    return insert_of(rider, brought=brought, turn=turns, dialect="sqlite")

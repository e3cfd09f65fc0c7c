"""What is declared once for both engines, in the words of a statement of Postgres."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import FromClause, Uuid, column, table
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from turnmill.store.rules.riders import Rider, insert_of

# Named parameters, so that no percent sign in a text of ours is doubled.
DIALECT = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]


def rendered(clause: Any) -> str:
    """Return an expression as SQL, its values written out."""
    return str(clause.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True}))


def typed(types: Mapping[str, TypeEngine[Any]]) -> str:
    """Return names and types, as a recordset declares them."""
    return ", ".join(f"{name} {kind.compile(dialect=DIALECT)}" for name, kind in types.items())


def sets(rules: Mapping[str, Callable[..., Any]], *of: Any) -> str:
    """Return what an UPDATE sets by these rules."""
    return ",\n        ".join(f"{name} = {rendered(rule(*of))}" for name, rule in rules.items())


def part(rider: Rider, *, turn: FromClause) -> str:
    """Return the parts of the statement that read what a rider brings, and write it.

    `turn` stands for the turns that the statement has moved.
    """
    types = {"turn_id": Uuid(), **rider.says}
    brought = table("r", *(column(name, kind) for name, kind in types.items()))
    insert = rendered(insert_of(rider, brought=brought, turn=turn, dialect="postgresql"))
    source = f"jsonb_to_recordset(%({rider.name})s::jsonb) AS r ({typed(types)})"
    return f"{rider.name} AS (\n{insert.replace('JOIN r ON', f'JOIN {source} ON')}\n), "

"""Whether a store keeps its promises: all are asked about at once, each where one is broken."""

from sqlalchemy import Connection, TextClause, text

from turnmill.store.database import Database
from turnmill.store.schema_name import SCHEMA, named
from turnmill.store.upkeep import invariants
from turnmill.store.upkeep.invariants import DRAINED, INVARIANTS, violations

#: The question, by how a store names its tables and by whether it is drained.
_ASKED: dict[tuple[str, bool], TextClause] = {}


def assert_sound(store: Database, *, drained: bool = False) -> None:
    """Hold the store to every invariant."""
    with store.begin() as conn:
        if is_any_broken(conn, drained=drained):
            found = violations(conn, drained=drained)
            assert not found, "; ".join(str(one) for one in found)


def is_any_broken(conn: Connection, *, drained: bool = False) -> bool:
    """Tell whether `violations` would find one. Thousands of tests ask, and hear that none is."""
    kind = (named(conn, f"{SCHEMA}."), drained)
    if kind not in _ASKED:
        wanted = (*INVARIANTS, DRAINED) if drained else INVARIANTS
        each = (invariants._worded(conn, one, windowed=False) for one in wanted)
        parts = (
            f"SELECT * FROM (SELECT 1 FROM ({one}) AS broken LIMIT 1) AS found" for one in each
        )
        _ASKED[kind] = text(" UNION ALL ".join(parts))
    return conn.execute(_ASKED[kind]).first() is not None

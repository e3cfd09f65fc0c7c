"""Accounts that are closed, and budgets: tables that a database has, or does not have yet."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from turnmill.store.board.looking import columns_there
from turnmill.store.schema.grants import VIEWED
from turnmill.store.schema_name import execute

#: Rows of each that are shown.
MOST = 100

_OF_AN_ACCOUNT = (
    *("provider", "model", "account", "kind", "code", "closed_at", "closed_until", "permanent"),
    "turn_id",
)

Row = dict[str, Any]


def closed_accounts(conn: Connection) -> list[Row] | None:
    """Return accounts and models that nobody calls for now; None: there is no such table."""
    there = columns_there(conn, "accounts")
    columns = [name for name in _OF_AN_ACCOUNT if name in there]
    if "closed_at" not in columns:
        return None
    return _rows(conn, "accounts", columns, "closed_at IS NOT NULL ORDER BY closed_at DESC")


def budgets(conn: Connection) -> list[Row] | None:
    """Return the budgets that are set, as far as a viewer may see them; None: there are none."""
    there = columns_there(conn, "budgets")
    columns = [name for name in VIEWED.get("budgets", ()) if name in there]
    return _rows(conn, "budgets", columns, f"true ORDER BY {columns[0]}") if columns else None


def _rows(conn: Connection, table: str, columns: Sequence[str], which: str) -> list[Row]:
    names = ", ".join(f'"{name}"' for name in columns)
    rows = execute(conn, f"SELECT {names} FROM turnmill.{table} WHERE {which} LIMIT {MOST}")
    return [dict(row) for row in rows.mappings()]

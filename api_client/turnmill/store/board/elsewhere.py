"""Accounts that are closed, and budgets: tables that a database has, or does not have yet."""

from typing import Any

from sqlalchemy import Connection

from turnmill.store.board.looking import columns_there
from turnmill.store.schema_name import execute

#: Rows of each that are shown.
MOST = 100

Row = dict[str, Any]


def closed_accounts(conn: Connection) -> list[Row] | None:
    """Return accounts of vendors that take no calls until a moment; None: there is no such table.

    Whatever columns this role may read are shown, by their names.
    """
    columns = columns_there(conn, "accounts")
    until = next((one for one in ("closed_until", "until") if one in columns), None)
    if until is None:
        return None
    return _rows(conn, "accounts", columns, f"{until} > statement_timestamp()", until)


def budgets(conn: Connection) -> list[Row] | None:
    """Return the budgets that are set; None: there is no such table, or it may not be read."""
    columns = columns_there(conn, "budgets")
    return _rows(conn, "budgets", columns, "true", min(columns)) if columns else None


def _rows(conn: Connection, table: str, columns: frozenset[str], where: str, by: str) -> list[Row]:
    names = ", ".join(f'"{name}"' for name in sorted(columns))
    found = execute(
        conn, f"SELECT {names} FROM turnmill.{table} WHERE {where} ORDER BY {by} LIMIT {MOST}"
    )
    return [dict(row) for row in found.mappings()]

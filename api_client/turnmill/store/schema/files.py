"""Which SQLite files are brought along, and which are refused before a row of them is read."""

from collections.abc import Collection

from sqlalchemy import Connection, inspect

from turnmill.domain.errors import SchemaOutOfDate
from turnmill.store.schema.alert_tables import metadata

_ANOTHER = "set TURNMILL_DATABASE_URL to a file that does not exist yet"


def refuse_file(conn: Connection, revision: str | None, *, known: Collection[str]) -> None:
    """Raise SchemaOutOfDate for a file of a later version, and for one of another program.

    Tables of other names stay, beside ours.
    """
    if revision is not None and revision not in known:
        raise SchemaOutOfDate(
            f"the file is at revision {revision}; this version knows up to {max(known)}",
            hint=f"install the version that wrote it, or {_ANOTHER}",
        )
    taken = set(inspect(conn).get_table_names()) & {table.name for table in metadata.sorted_tables}
    if revision is None and taken:
        raise SchemaOutOfDate(
            f"the file has tables of another program: {', '.join(sorted(taken))}", hint=_ANOTHER
        )


def refuse_incomplete_file(conn: Connection) -> None:
    """Raise SchemaOutOfDate where tables are not what the file's revision says."""
    found = inspect(conn)
    names = set(found.get_table_names())
    for table in metadata.sorted_tables:
        columns = (
            {one["name"] for one in found.get_columns(table.name)} if table.name in names else set()
        )
        missing = sorted(set(table.columns.keys()) - columns)
        if missing:
            raise SchemaOutOfDate(
                f"the file's table {table.name} lacks {', '.join(missing)}",
                hint=f"restore it from a backup, or {_ANOTHER}",
            )

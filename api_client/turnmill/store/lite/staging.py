"""Lines of batches in SQLite."""

from collections.abc import Sequence

from sqlalchemy import Connection, insert

from turnmill.domain.ids import BatchId
from turnmill.store.batch_records import StagedLine
from turnmill.store.schema.batch_tables import batch_lines


def stage_lines(conn: Connection, batch_id: BatchId, lines: Sequence[StagedLine]) -> None:
    """Write lines that do not stand yet."""
    rows = [one._asdict() | {"batch_id": batch_id} for one in lines]
    for row in rows:
        row["line"] = row.pop("number")
    conn.execute(insert(batch_lines), rows)

"""What lines of batches are found by, so that an equal one has their answer: until that is gone."""

from sqlalchemy import ColumnElement, Connection, update

from turnmill.store.schema.batch_tables import batch_lines


def forget_line_keys(conn: Connection, which: ColumnElement[bool]) -> None:
    """Take out what these lines of batches are found by: a hash of all that they have asked."""
    found = update(batch_lines).where(which, batch_lines.c.key.is_not(None))
    conn.execute(found.values(key=None))
